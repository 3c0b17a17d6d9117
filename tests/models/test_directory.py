"""Bounds on the files of a model directory, each named in its refusal."""

import json
import re
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.drift.profile import MAX_PROFILE_BYTES
from app.models import directory as model_directory
from app.models.artifact import read_artifact
from app.models.directory import MAX_MLMODEL_BYTES, MAX_SIGNATURE_BYTES, read_mlmodel
from app.models.predictions.interval import Intervals
from app.models.refusal import ModelRefused
from kernels.plan.plan import Input, Plan
from tests.models.support import (
    INTERVALS,
    NAMES,
    SavedModel,
    altered,
    refusal,
    save_referring,
    with_booster,
)

PLAIN = "flavors: {lightgbm: {data: model.lgb}}\n"


def merge_keys(levels: int = 10) -> str:
    """1 KB of YAML that stands for 9**levels values."""
    lines = ["l0: &l0 {a: 1}"]
    lines += [f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 9)}]}}" for level in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (merge_keys(), "the MLmodel file has a YAML anchor or alias, and MLflow writes none"),
        ("a: &b 1", "the MLmodel file has a YAML anchor or alias, and MLflow writes none"),
        ("&b a: 1", "the MLmodel file has a YAML anchor or alias, and MLflow writes none"),
        ("a: [&b [], *b]", "the MLmodel file has a YAML anchor or alias, and MLflow writes none"),
        ("a: {<<: {b: 1}}", "the MLmodel file has a YAML merge key, and MLflow writes none"),
        ("a: {!!merge '<<': {b: 1}}", "the MLmodel file has a YAML merge key, and MLflow writes none"),
        ("a: " + "[" * 32 + "]" * 32, "the MLmodel file nests deeper than 32 levels"),
        ("a: " + "{b: " * 32 + "}" * 32, "the MLmodel file nests deeper than 32 levels"),
    ],
)
def test_yaml_that_expands_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(f"{PLAIN}{text}\n")
    assert refusal(tmp_path) == reason


def test_harmless_yaml_that_looks_alike_is_read(tmp_path: Path) -> None:
    text = "a: '<<'\nb: '&c *d'\nc: " + "[" * 31 + "]" * 31
    (tmp_path / "MLmodel").write_text(f"{PLAIN}{text}\n")
    assert read_mlmodel(tmp_path)[1]["a"] == "<<"


def test_an_mlmodel_file_of_a_mebibyte_is_read_and_of_a_byte_more_refused(tmp_path: Path) -> None:
    text = PLAIN + "#" * (MAX_MLMODEL_BYTES - len(PLAIN))
    (tmp_path / "MLmodel").write_text(text)
    assert len(read_mlmodel(tmp_path)[0]) == MAX_MLMODEL_BYTES
    (tmp_path / "MLmodel").write_text(text + "#")
    assert refusal(tmp_path) == (
        "the MLmodel file has 1048577 bytes beside its signature's columns, and at most 1048576 are read"
    )


def test_the_columns_of_a_wide_model_do_not_count(tmp_path: Path) -> None:
    columns = json.dumps([{"type": "double", "name": f"feature_{index}", "required": True} for index in range(20_000)])
    assert len(columns) > MAX_MLMODEL_BYTES
    (tmp_path / "MLmodel").write_text(f"{PLAIN}signature: {json.dumps({'inputs': columns})}")
    assert read_mlmodel(tmp_path)[1]["signature"]["inputs"] == columns


def grow(path: Path, size: int) -> None:
    """Give a file a size, and nothing that takes room."""
    with path.open("ab") as file:
        file.truncate(size)


PARTS = {
    "MLmodel": MAX_MLMODEL_BYTES + MAX_SIGNATURE_BYTES,
    "model.lgb": model_directory.MAX_BOOSTER_BYTES,
    "plan.json": model_directory.MAX_PLAN_BYTES,
    "profile.json": MAX_PROFILE_BYTES,
    "references.npy": model_directory.MAX_REFERENCES_BYTES,
    "difficulty.lgb": model_directory.MAX_BOOSTER_BYTES,
    "intervals.json": model_directory.MAX_INTERVALS_BYTES,
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("beyond", [1, 20 * 2**30])
def test_a_file_is_refused_by_its_size_before_it_is_read(
    name: str, beyond: int, referring: Path, tmp_path: Path
) -> None:
    directory, size = altered(referring, tmp_path / "model"), PARTS[name] + beyond
    grow(directory / name, size)
    assert refusal(directory) == f"the model's file {name!r} has {size} bytes, and at most {PARTS[name]} are read"


def test_an_example_that_is_too_large_does_not_refuse_its_model(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model")
    grow(directory / "input_example.json", model_directory.MAX_EXAMPLE_BYTES + 1)
    assert read_artifact(directory).example is None


def test_of_a_file_that_may_be_a_booster_only_the_start_is_read(saved: SavedModel, tmp_path: Path) -> None:
    directory = altered(saved.directory, tmp_path / "model", flavors={"lightgbm": {"model_class": "sklearn"}})
    grow(directory / "other.txt", 2**30)
    assert read_artifact(directory).files["booster"] == "model.lgb"


def test_an_array_of_more_than_its_file_is_refused_before_it_is_made(referring: Path, tmp_path: Path) -> None:
    directory = altered(referring, tmp_path / "model")
    with (directory / "references.npy").open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**27, 4)})
    tracemalloc.start()
    try:
        assert refusal(directory) == "the model's references are not a whole .npy file"
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_intervals_of_more_levels_than_a_hundred_are_refused(tmp_path: Path) -> None:
    levels = tuple({"level": (index + 1) / 200, "score": 1.0} for index in range(101))
    content = msgspec.json.encode(msgspec.to_builtins(INTERVALS) | {"quantiles": levels, "default_level": 0.5})
    with pytest.raises(ModelRefused, match="length <= 100"):
        Intervals.from_json(content)
    content = msgspec.json.encode(msgspec.to_builtins(INTERVALS) | {"quantiles": levels[1:], "default_level": 0.5})
    assert len(Intervals.from_json(content).levels) == 100


def test_a_booster_of_absurdly_many_classes_is_refused_at_once(saved: SavedModel, tmp_path: Path) -> None:
    head = saved.booster.model_to_string().partition("\nTree=")[0]
    head = re.sub("(num_class|num_tree_per_iteration)=1", r"\g<1>=300000000", head)
    head = re.sub("tree_sizes=.*", "tree_sizes=\n\nend of trees\n", head)
    assert refusal(with_booster(head, saved.directory, tmp_path / "model")) == (
        "the booster has 300000000 classes, and at most 10000 are read"
    )


def test_a_reason_does_not_repeat_all_that_a_model_names(tmp_path: Path) -> None:
    directory = save_referring(tmp_path / "model")
    inputs = tuple(Input(name=f"a column of a plan of many {index}") for index in range(1000))
    (directory / "plan.json").write_bytes(Plan(inputs=inputs, outputs=(inputs[0].name,)).to_json())
    reason = refusal(directory)
    assert reason.startswith(f"the signature's columns {', '.join(NAMES)} are not the plan's inputs a column")
    assert reason.endswith("a column of a plan of many 19 and 980 more")


def test_a_reason_is_cut_where_it_would_fill_the_page(tmp_path: Path) -> None:
    directory = save_referring(tmp_path / "model")
    inputs = tuple(Input(name=f"{'long ' * 60}{index}") for index in range(20))
    (directory / "plan.json").write_bytes(Plan(inputs=inputs, outputs=(inputs[0].name,)).to_json())
    assert len(refusal(directory)) == 2002
