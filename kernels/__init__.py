"""The numerics of Madrone: arrays in, arrays out.

Nothing here knows of HTTP, MLflow or settings. Importing the package loads neither numba nor a GPU library; the
modules do:

- `plan`, `steps`, `references`, `program`: the feature plan, as data and packed for the kernels;
- `features`, `neighbours`, `expansion`: the row-level functions, written once for both targets;
- `cpu`, `cpu_kernels`, `cuda`, `cuda_kernels`: the two targets behind `backend.Backend`;
- `covariance`: what fitting a Gaussian process computes;
- `forest`, `model_text`: a LightGBM model;
- `engine`, `cost`: plan + forest + backend, and what a batch costs.
"""
