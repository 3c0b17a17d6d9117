"""The numerics of Madrone: arrays in, arrays out.

Nothing here knows of HTTP, MLflow or settings. Importing the package loads neither numba nor a GPU library; the
modules do:

- `plan`, `steps`, `program`: the feature plan, as data and packed for the kernels;
- `features`: the row-level functions, written once for both targets;
- `cpu`, `cuda`, `cuda_kernels`: the two targets behind `backend.Backend`;
- `forest`, `model_text`: a LightGBM model;
- `engine`, `cost`: plan + forest + backend, and what a batch costs.
"""
