"""The California Housing data: from a file, from the shared copy beside the checkout, or from scikit-learn."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")
TARGET = "MedHouseVal"
SHARED_COPY = Path(__file__).parents[3] / "shared" / "data" / "california_housing.csv"


class DatasetError(Exception):
    """There is no usable data; the message says what was tried or what is wrong with it."""


class Dataset(msgspec.Struct, frozen=True):
    """Rows to train on.

    Attributes:
        features: float64[N, 8], columns as in `FEATURES`.
        target: float64[N], median house value in 100,000 USD.
        source: Where the rows came from.
        sha256: Over the rows' bytes (little-endian float64, features then target, row by row), so that the same data
            has the same checksum whatever file it came in.
    """

    features: NDArray[np.float64]
    target: NDArray[np.float64]
    source: str
    sha256: str


def load_dataset(path: Path | None = None) -> Dataset:
    """Load the data from `path`; without one from the shared copy, else through scikit-learn, which downloads it.

    Raises:
        DatasetError: No source has it, or the file has not the columns or holds what is no finite number.
    """
    if path is not None:
        return _from_csv(path, str(path.name))
    if SHARED_COPY.is_file():
        return _from_csv(SHARED_COPY, SHARED_COPY.name)
    from sklearn.datasets import fetch_california_housing

    try:
        bunch: Any = fetch_california_housing(as_frame=True)
    except OSError as error:
        raise DatasetError(
            f"There is no data: {SHARED_COPY.name} is not beside the checkout (../shared/data), and scikit-learn could "
            f"not download it ({type(error).__name__}). Give a CSV file with --data."
        ) from error
    return _dataset(bunch.frame, "scikit-learn fetch_california_housing")


def _from_csv(path: Path, source: str) -> Dataset:
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as CSV: {error}") from error
    return _dataset(frame, source)


def _dataset(frame: pd.DataFrame, source: str) -> Dataset:
    columns = [*FEATURES, TARGET]
    if missing := [column for column in columns if column not in frame.columns]:
        raise DatasetError(f"{source} has no column {', '.join(missing)}; needed are {', '.join(columns)}.")
    if frame.empty:
        raise DatasetError(f"{source} has no rows.")
    for column in columns:
        bad: Any = frame[column].notna() & pd.isna(pd.to_numeric(frame[column], errors="coerce"))
        if bad.any():
            row = int(bad.argmax())
            text = str(frame[column].iloc[row])[:40]
            raise DatasetError(f"{source} holds {text!r}, no number, in column {column}, data row {row + 1}.")
    values = np.ascontiguousarray(frame[columns].to_numpy(dtype="<f8"))
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DatasetError(f"{source} holds no finite number in column {columns[column]}, data row {row + 1}.")
    return Dataset(
        features=values[:, :-1].copy(),
        target=values[:, -1].copy(),
        source=source,
        sha256=hashlib.sha256(values.tobytes()).hexdigest(),
    )
