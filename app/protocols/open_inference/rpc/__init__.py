"""The Open Inference Protocol, version 2, over gRPC. Nothing else imports grpcio, which is an extra."""

import os

# The library beneath grpcio writes lines of its own to standard error, and here all lines are JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
