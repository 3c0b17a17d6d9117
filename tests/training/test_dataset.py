"""Data sets read from files, and errors of files that cannot be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.training.dataset import FEATURES, TARGET, DatasetError, load_dataset

COLUMNS = [*FEATURES, TARGET]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Five rows of distinct values."""
    return pd.DataFrame(np.arange(45.0).reshape(5, 9) / 8 + 1 / 3, columns=COLUMNS)


def written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def reason(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    return str(caught.value)


def test_a_file_is_read_into_features_and_target(frame: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load_dataset(written(frame, tmp_path / "houses.csv"))
    np.testing.assert_array_equal(dataset.features, frame[list(FEATURES)].to_numpy())
    np.testing.assert_array_equal(dataset.target, frame[TARGET].to_numpy())
    assert dataset.features.dtype == dataset.target.dtype == np.float64
    assert dataset.source == "houses.csv"
    assert len(dataset.sha256) == 64


def test_the_same_data_has_the_same_checksum_in_any_order_of_columns(frame: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load_dataset(written(frame, tmp_path / "houses.csv"))
    shuffled = frame[COLUMNS[::-1]].assign(extra="not needed")
    other = load_dataset(written(shuffled, tmp_path / "other.csv"))
    assert other.sha256 == dataset.sha256
    np.testing.assert_array_equal(other.features, dataset.features)


def test_other_data_has_another_checksum(frame: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load_dataset(written(frame, tmp_path / "houses.csv"))
    other = load_dataset(written(frame.iloc[::-1], tmp_path / "other.csv"))
    assert other.sha256 != dataset.sha256


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.csv") == f"There is no file {tmp_path / 'gone.csv'}."


def test_a_missing_column_is_told_with_its_name(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(frame.drop(columns=["AveOccup", TARGET]), tmp_path / "houses.csv")
    assert reason(path).startswith("houses.csv has no column AveOccup, MedHouseVal. It needs MedInc, ")


def test_a_text_value_is_told_with_its_column_and_row(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame = frame.astype({"Population": object})
    frame.loc[2, "Population"] = "many"
    told = reason(written(frame, tmp_path / "houses.csv"))
    assert "many" in told
    assert "column Population" in told
    assert "row 3" in told


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_told_with_its_column_and_row(
    value: float, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.loc[3, "Latitude"] = value
    told = reason(written(frame, tmp_path / "houses.csv"))
    assert told == "houses.csv has no finite number in column Latitude, data row 4."


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b'a,b\n"', b"a,b\n1,2,3\n1\n1,2,3,4,5\n"])
def test_a_file_that_is_no_csv_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_bytes(content)
    assert "houses.csv" in reason(tmp_path / "houses.csv")


def test_a_directory_is_no_csv(tmp_path: Path) -> None:
    assert reason(tmp_path).startswith(f"{tmp_path} cannot be read as CSV")


def test_a_file_without_rows_is_told(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert "row" in reason(written(frame.iloc[:0], tmp_path / "houses.csv"))
