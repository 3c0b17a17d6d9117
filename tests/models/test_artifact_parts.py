"""Stored rows, difficulty forest and intervals of a model: round trip, and refusal when damaged."""

import io
import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.drift.profile import MAX_PROFILE_BYTES, make_profile
from app.feature import Feature
from app.models.artifact import read_artifact
from app.models.refusal import ModelRefused
from kernels.plan.plan import Input, Plan
from tests.models.support import (
    NAMES,
    Trap,
    altered,
    referring_parts,
    refusal,
    save_referring,
    serve,
    tiny_booster,
    tiny_rows,
)


def test_stored_rows_difficulty_and_intervals_come_back_as_they_were_saved(referring: Path) -> None:
    parts, artifact = referring_parts(), read_artifact(referring)
    assert artifact.table is not None
    np.testing.assert_array_equal(artifact.table, parts.table)
    assert artifact.intervals == parts.intervals
    rows = tiny_rows() * 2
    for got, expected in zip(artifact.engine().evaluate(rows), parts.engine().evaluate(rows), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["references.npy", "difficulty.lgb", "intervals.json", "profile.json"])
def test_the_digest_is_of_every_part(name: str, referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    before = read_artifact(directory).digest
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content + b"\n" if name != "references.npy" else content[:-1] + b"\x41")
    assert read_artifact(directory).digest != before


@pytest.mark.parametrize("name", ["references.npy", "difficulty.lgb", "intervals.json", "profile.json"])
def test_a_part_that_is_named_and_missing_is_refused(name: str, referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    (directory / name).unlink()
    assert refusal(directory) == f"the model has no file {name!r}"


@pytest.mark.parametrize("kept", ["difficulty", "intervals"])
def test_difficulty_and_intervals_go_together(kept: str, referring: Path, tmp_path: Path) -> None:
    flavor = yaml.safe_load((referring / "MLmodel").read_bytes())["flavors"]["madrone"]
    del flavor["intervals" if kept == "difficulty" else "difficulty"]
    directory = altered(referring, tmp_path / "model", flavors={"madrone": flavor})
    assert refusal(directory) == "the madrone flavor must name both difficulty and intervals, or neither"
    with pytest.raises(ValueError, match="need each other"):
        save_referring(tmp_path / "other", **{kept: None})
    assert not (tmp_path / "other").exists()


def npy(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with this header, whatever it says."""
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + data


def npy_of(shape: str) -> bytes:
    return npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode(), bytes(64))


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04",
        npy_of("(50, 3)"),
        npy_of("(1000000000000, 3)"),
        npy_of(f"({'9' * 300}, 3)"),
        npy_of("(8589934592, 8589934592)"),
        npy_of("(-1, 3)"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (50, 3), }" + b" " * 60_000),
        npy(b" " * 1_000_000, version=2),
        npy(b"(" * 9000),
        npy(b"{'descr': '<,8', 'fortran_order': False, 'shape': (2, 3), }"),
        npy(b"{'descr': (), 'fortran_order': False, 'shape': (2, 3), }"),
        npy(b"{'a': (1L,"),
        npy(b"\xff\xff", version=3),
        npy(b"", version=9),
    ],
    ids=[
        "empty", "magic alone", "npz", "cut", "terabytes", "above int64", "product above int64", "below zero",
        "padded header", "huge header", "nested", "no type", "empty type", "open", "no UTF-8", "version 9",
    ],
)  # fmt: skip
def test_references_that_are_no_whole_npy_file_are_refused(content: bytes, referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    (directory / "references.npy").write_bytes(content)
    assert refusal(directory) == "the model's references are not a whole .npy file"


def test_pickled_references_are_refused_and_not_unpickled(referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    (directory / "references.npy").write_bytes(pickled([Trap(tmp_path / "unpickled")]))
    assert refusal(directory) == "the model's references are not a whole .npy file"
    (directory / "references.npy").write_bytes(pickle.dumps(Trap(tmp_path / "unpickled")))
    assert refusal(directory) == "the model's references are not a whole .npy file"
    assert not (tmp_path / "unpickled").exists()


@cache
def undamaged_predictions() -> NDArray[np.float64]:
    return referring_parts().engine().predict(tiny_rows())


@given(damage=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning", "ignore::DeprecationWarning")
def test_damage_to_the_references_header_is_refused_or_harmless(
    damage: list[tuple[int, int]], referring: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    if not directory.exists():
        altered(referring, directory)
    content = bytearray((referring / "references.npy").read_bytes())
    for position, value in damage:
        content[position] = value
    (directory / "references.npy").write_bytes(content)
    try:
        model = read_artifact(directory).engine()
    except ModelRefused:
        return
    np.testing.assert_array_equal(model.predict(tiny_rows()), undamaged_predictions())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.zeros((49, 3)), "must be float64[50, 3], got float64[49, 3]"),
        (np.zeros((50, 4)), "must be float64[50, 3], got float64[50, 4]"),
        (np.zeros(150), "must be float64[50, 3], got float64[150]"),
        (np.zeros((50, 3), np.float32), "must be float64[50, 3], got float32[50, 3]"),
        (np.full((50, 3), np.nan), "finite"),
        (np.zeros((50, 3), ">f8"), "must be float64[50, 3], got >f8[50, 3]"),
        (None, "references need a table"),
    ],
    ids=["rows", "columns", "dimensions", "type", "NaN", "byte order", "absent"],
)
def test_references_that_do_not_fit_the_plan_are_refused(
    table: NDArray[Any] | None, reason: str, tmp_path: Path
) -> None:
    directory = save_referring(tmp_path / "model", table=table)
    with pytest.raises(ModelRefused, match=re.escape(reason)):
        serve(directory)


def test_references_without_steps_that_use_them_are_refused(referring: Path, tmp_path: Path) -> None:
    plan = Plan(inputs=tuple(Input(name=name) for name in NAMES), outputs=NAMES)
    directory = save_referring(tmp_path / "model", plan=plan)
    with pytest.raises(ModelRefused, match="references are absent, and there is a table"):
        serve(directory)


def test_a_difficulty_forest_of_other_features_is_refused(tmp_path: Path) -> None:
    directory = save_referring(tmp_path / "model", difficulty=tiny_booster().model_to_string())
    with pytest.raises(ModelRefused, match="takes other features than the booster"):
        serve(directory)


def test_a_difficulty_forest_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "booster" in refusal(save_referring(tmp_path / "model", difficulty="tree"))


def test_intervals_that_cannot_be_used_are_refused(referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    (directory / "intervals.json").write_bytes(b"{}")
    assert refusal(directory).startswith("the model's intervals cannot be read: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "the model's profile is not valid: Expected `object`, got `array`"),
        (b" " * (MAX_PROFILE_BYTES + 1), f"the model's file 'profile.json' has {MAX_PROFILE_BYTES + 1} bytes"),
        (
            make_profile((Feature(name="rent"),), tiny_rows()[:, :1], tiny_rows()[:, 0], "training").to_json(),
            "the model's profile has the feature 'rent', which the model does not have",
        ),
    ],
    ids=["no object", "too large", "another model's"],
)
def test_a_bad_profile_is_refused(content: bytes, reason: str, referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    (directory / "profile.json").write_bytes(content)
    assert refusal(directory).startswith(reason)


def test_the_profile_comes_back_as_it_was_saved(referring: Path) -> None:
    artifact = read_artifact(referring)
    assert artifact.profile == referring_parts().profile
    assert artifact.files["profile"] == "profile.json"
