"""Why a model cannot be converted."""


class ConversionRefused(Exception):
    """The model cannot be converted, or its conversion is not the same; the message says why."""
