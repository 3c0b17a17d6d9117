"""Why a model is not calibrated."""


class CalibrationRefused(Exception):
    """The model or the rows are not fit for it; the message says why, in one sentence for people."""
