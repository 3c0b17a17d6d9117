"""KServe's data plane, version 1: `/v1/models` and `:predict`."""
