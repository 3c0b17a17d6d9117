"""Leaves out pandas and scikit-learn, which LightGBM imports where they are installed, in two seconds.

For processes that need neither: to be imported before LightGBM, or given to pytest as a plugin.
"""

import sys

sys.modules.update(dict.fromkeys(("pandas", "sklearn")))  # type: ignore[arg-type]
