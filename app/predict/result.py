"""The result of a batch: predictions, and what stands beside them in the answer."""

from app.codecs.result import Result
from app.codecs.rules import FloatArray
from app.models.served import ServedModel
from app.predict.explain.explanation import explained_columns
from app.predict.query import Asked
from kernels.engine import Evaluation


def table_answer(served: ServedModel, evaluation: Evaluation, asked: Asked) -> Result:
    """The answer for a table: predictions, bounds if the model has intervals and a level is asked for, and the rest.

    Raw scores, contributions and leaves are there if they were computed.
    """
    return Result(
        evaluation.prediction,
        half_widths(served, evaluation, asked.level),
        served.identity.version,
        served.labels if "label" in asked.additions else None,
        "probabilities" in asked.additions,
        evaluation.raw_score,
        explained_columns(served, evaluation, asked),
    )


def half_widths(served: ServedModel, evaluation: Evaluation, level: float | None) -> FloatArray | None:
    """float64[B] in the unit of the target; None if the model has no intervals or no level is given."""
    intervals, difficulty = served.artifact.intervals, evaluation.difficulty
    if intervals is None or difficulty is None or level is None:
        return None
    return intervals.half_width(difficulty, level)
