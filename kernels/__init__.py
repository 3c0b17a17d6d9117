"""The numerics of Madrone: arrays in, arrays out.

Nothing here knows of HTTP, MLflow or settings. Importing the package loads neither numba nor a GPU library; the
modules do:

- `plan`, `steps`, `references`, `program`: the feature plan, as data and packed for the kernels;
- `features`, `haversine`, `neighbours`, `expansion`: the row-level functions, written once for both targets;
- `cpu`, `cpu_kernels`, `block`, `cuda`, `cuda_kernels`: the two targets behind `backend.Backend`;
- `covariance`: what fitting a Gaussian process computes;
- `forest`, `model_text`, `objective`: a LightGBM model; `booster_forest`: one of a kind that only LightGBM evaluates;
- `predicates`, `tree_shape`: what its nodes ask, and where they are; `quickscorer`, `traversal`, `descent`: its kernels
  for few rows; `sliced`, `bitset`: its kernel for many;
- `probe`, `extremes`: rows to try a forest with before it answers anybody;
- `engine`, `cost`: plan + forest + backend, and what a batch costs.
"""

import os

# Numba takes Intel's vector library where it finds one, and that has an `exp` of its own: the last bit of a prediction
# would depend on what else is installed. Read when numba is imported.
os.environ["NUMBA_DISABLE_INTEL_SVML"] = "1"
