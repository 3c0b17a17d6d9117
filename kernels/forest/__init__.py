"""LightGBM's trees: read from text, laid out for the kernels, and evaluated bit for bit as LightGBM does."""
