"""Files in DATA_DIR: stored models, the pinned version, measured costs."""
