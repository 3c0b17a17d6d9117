"""Models stored as Python objects (pickle, joblib, skops), read as data: nothing that a file names is run."""
