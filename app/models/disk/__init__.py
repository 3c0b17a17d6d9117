"""What is kept in DATA_DIR: models, the pinned version, measured costs."""
