"""Rows to train on, and the California Housing data: from a file, the shared copy, or scikit-learn."""

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
    """Raised if there is no usable data; the message says what was tried or what is wrong."""


class Dataset(msgspec.Struct, frozen=True):
    """Rows to train on.

    Attributes:
        names: Names of the F columns.
        features: float64[N, F]; NaN is a missing value.
        target_name: Name of the target.
        target: float64[N].
        source: Where the rows came from.
        sha256: Checksum of the rows' bytes (little-endian float64, features then target, row by row): the same for the
            same data in any file.
    """

    names: tuple[str, ...]
    features: NDArray[np.float64]
    target_name: str
    target: NDArray[np.float64]
    source: str
    sha256: str

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, target: str, source: str = "a data frame") -> "Dataset":
        """Make a data set of a frame's columns, which are numbers, one of them the target.

        Raises:
            DatasetError: The target or every row is missing, a column holds something else than numbers, a value is
                infinite, or a target is missing.
        """
        if target not in frame.columns:
            raise DatasetError(f"{source} has no column {target}.")
        if frame.empty:
            raise DatasetError(f"{source} has no rows.")
        names = tuple(str(name) for name in frame.columns if name != target)
        if len(set(names)) != len(names) or not names:
            raise DatasetError(f"{source} must have other columns than {target}, each with its own name.")
        for column in frame.columns:
            bad: Any = frame[column].notna() & pd.isna(pd.to_numeric(frame[column], errors="coerce"))
            if bad.any():
                row = int(bad.argmax())
                text = str(frame[column].iloc[row])[:40]
                raise DatasetError(f"{source} has {text!r} instead of a number in column {column}, data row {row + 1}.")
        values = np.ascontiguousarray(frame[[*names, target]].to_numpy(dtype="<f8"))
        bad_values = np.isinf(values)
        bad_values[:, -1] |= np.isnan(values[:, -1])
        if bad_values.any():
            row, column = np.argwhere(bad_values)[0]
            raise DatasetError(
                f"{source} has no finite number in column {[*names, target][column]}, data row {row + 1}."
            )
        return cls(
            names=names,
            features=values[:, :-1].copy(),
            target_name=target,
            target=values[:, -1].copy(),
            source=source,
            sha256=hashlib.sha256(values.tobytes()).hexdigest(),
        )


def load_dataset(path: Path | None = None) -> Dataset:
    """Load the California Housing data from `path`, else from the shared copy, else by scikit-learn (a download).

    Raises:
        DatasetError: No source has the data, or the file lacks a column or has a value that is not a finite number.
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
            f"There is no data: ../shared/data has no {SHARED_COPY.name}, and scikit-learn could not download it "
            f"({type(error).__name__}). Give a CSV file with --data."
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
        raise DatasetError(f"{source} has no column {', '.join(missing)}. It needs {', '.join(columns)}.")
    dataset = Dataset.from_frame(pd.DataFrame(frame[columns]), TARGET, source)
    if np.isnan(dataset.features).any():
        row, column = np.argwhere(np.isnan(dataset.features))[0]
        raise DatasetError(f"{source} has no finite number in column {FEATURES[column]}, data row {row + 1}.")
    return dataset
