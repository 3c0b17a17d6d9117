"""What a pipeline's steps make of chosen values of its raw columns."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.models.convert.wrapped import Step


class StepsOutput:
    """Runs the fitted steps themselves, so that what they compute is what they round to.

    Args:
        steps: Steps whose outputs each depend on one raw column.
        sample: Rows that the pipeline takes, in the types that it is asked with; the first one fills the columns that
            are not given.
        as_array: Whether the pipeline is asked with an array and not with a frame.
    """

    def __init__(self, steps: tuple[Step, ...], sample: pd.DataFrame, as_array: bool = False) -> None:
        self._steps = steps
        self._base = sample.iloc[:1]
        self._as_array = as_array

    def compute(self, values: dict[int, Any], n: int, *, strict: bool = False) -> NDArray[np.float64]:
        """Outputs of n rows, float64[n, J], with these values in the columns of these indices.

        Args:
            values: New values of some columns.
            n: Number of rows.
            strict: Whether the steps check for infinities, which large values become, and for missing ones.

        Raises:
            Exception: A step refuses a value; the exception is its own.
        """
        import sklearn

        rows = self._base.iloc[np.zeros(n, np.intp)].reset_index(drop=True)
        columns = {index: rows.iloc[:, index] for index in range(rows.shape[1])} | values
        frame = pd.concat([pd.Series(columns[index]) for index in range(rows.shape[1])], axis=1)
        frame.columns = self._base.columns
        with (
            sklearn.config_context(assume_finite=not strict),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return run_steps(self._steps, frame.to_numpy() if self._as_array else frame)


def run_steps(steps: tuple[Step, ...], rows: Any) -> NDArray[np.float64]:
    """Outputs of the steps for rows, float64[B, J].

    Raises:
        Exception: A step refuses a row; the exception is its own.
    """
    for step in steps:
        rows = step.transformer.transform(rows)
    if hasattr(rows, "toarray"):
        rows = rows.toarray()
    return np.asarray(rows, dtype=np.float64)
