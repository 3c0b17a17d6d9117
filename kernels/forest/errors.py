"""Why a text is not a forest."""


class ForestError(ValueError):
    """The text is not a LightGBM model that can be used; the message says where it is wrong."""


class UnsupportedForestError(ForestError):
    """The text is a LightGBM model of a kind that the kernels do not evaluate; the message names it."""
