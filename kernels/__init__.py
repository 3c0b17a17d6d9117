"""The numerics of Madrone: arrays in, arrays out.

Nothing here knows of HTTP, MLflow or settings. Importing the package loads neither numba nor a GPU library; its modules
do. `README.md` beside this file has the map.
"""

import os

# Numba takes Intel's vector library where it finds one, and that has an `exp` of its own: the last bit of a prediction
# would depend on what else is installed. Read when numba is imported.
os.environ["NUMBA_DISABLE_INTEL_SVML"] = "1"
