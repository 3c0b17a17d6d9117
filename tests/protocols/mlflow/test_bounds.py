"""Memory and time of scoring requests whose bodies hold far less than they ask for."""

import json
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

from app.codecs.filled import FEW_VALUES
from app.errors import ServiceError, TooLarge
from app.feature import Feature
from app.models.signature import Layout
from app.protocols.mlflow.frames import frame_of
from app.protocols.mlflow.scoring_json import MOST_OTHERS, ScoringReader


def test_rows_that_lack_columns_take_no_memory_that_the_body_does_not_show() -> None:
    features = tuple(Feature(name=f"x{index}", required=False, nullable=True) for index in range(1000))
    reader = ScoringReader(features, "named", False)
    rows = FEW_VALUES // len(features)
    for body in (
        b'{"dataframe_records": [' + b"{}," * rows + b"{}]}",
        b'{"dataframe_records": [' + b"{}," * rows + b'{"x0": NaN}]}',
        b'{"dataframe_split": {"columns": ["x0"], "data": [' + b"[1]," * rows + b"[NaN]]}}",
        b'{"inputs": {"x0": [' + b"1," * rows + b"1]}}",
        b'{"inputs": {"x0": [' + b"1," * rows + b"NaN]}}",
    ):
        with pytest.raises(TooLarge, match="lack too many columns"):
            reader.decode(body, 1_000_000)
    fewer = reader.decode(b'{"dataframe_records": [' + b"{}," * (rows - 2) + b'{"x0": 1}]}', 1_000_000)
    assert fewer.shape == (rows - 1, 1000)


@contextmanager
def memory_below(most: int) -> Generator[None]:
    """Checks how many bytes are allocated at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_value_for_all_rows_is_repeated_only_for_as_many_as_the_body_shows() -> None:
    features = tuple(Feature(name=f"x{index}") for index in range(1000))
    reader, names = ScoringReader(features, "named", False), [feature.name for feature in features[1:]]
    once = json.dumps(dict.fromkeys(names, 2)).encode()
    few = reader.decode(b'{"inputs": {"x0": [' + b"1," * 9 + b"1], " + once[1:] + b"}", 1_000_000)
    np.testing.assert_array_equal(few, [[1.0] + [2.0] * 999] * 10)
    with memory_below(20_000_000), pytest.raises(TooLarge, match="lack too many columns"):
        reader.decode(b'{"inputs": {"x0": [' + b"1," * 40_000 + b"1], " + once[1:] + b"}", 1_000_000)


def test_frames_in_kserves_rows_are_refused_before_their_rows_are_made() -> None:
    reader = ScoringReader((Feature(name="x"),), "named", True)
    body = b'{"instances": [{"x": [' + b"1," * 200_000 + b"1]}]}"
    with memory_below(10_000_000), pytest.raises(TooLarge, match="MAX_BULK_ROWS"):
        reader.decode(body, 100_000)


class Looked(dict[str, int]):
    """A row that counts how often a value is looked up in one of these."""

    times = 0

    def get(self, *given: Any) -> Any:
        Looked.times += 1
        return super().get(*given)


@pytest.mark.parametrize("layout", ["unsigned", "tensor", "positional", "named"])
def test_as_many_names_as_rows_take_no_time_that_the_body_does_not_show(layout: Layout) -> None:
    def check(rows: int) -> None:
        if layout == "named":
            raise TooLarge(f"{rows} rows")

    rows = [Looked({f"x{index}": 1}) for index in range(1000)]
    features = tuple(Feature(name=f"x{index}", required=False) for index in range(1000))
    Looked.times = 0
    with nullcontext() if layout == "positional" else pytest.raises(ServiceError):
        frame_of({"inputs": rows}, features, layout, check, arrays=False)
    assert Looked.times == 0


@pytest.mark.slow
def test_a_frame_of_many_other_columns_leaves_nothing_behind() -> None:
    reader = ScoringReader((Feature(name="a"), Feature(name="b")), "named", False)

    def read(others: int) -> list[list[float]]:
        split = {"columns": ["b", "a"] + ["x"] * others, "data": [[1, 2] + [0] * others]}
        return reader.decode(json.dumps({"dataframe_split": split}).encode(), 10).tolist()

    assert read(MOST_OTHERS) == read(MOST_OTHERS + 1) == [[2.0, 1.0]]
    tracemalloc.start()
    try:
        for more in range(8):
            assert read(30_000 + more) == [[2.0, 1.0]]
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
