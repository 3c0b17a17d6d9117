"""The feature plan: as data, packed for the kernels, and its row-level functions, written once for both targets."""
