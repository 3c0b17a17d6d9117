"""Conversion of a model that is a Python object into one that the service serves.

Only `madrone convert` runs this code, in its user's own environment: it loads the object, and so runs what is in it.
The service never imports this package.
"""
