"""Files of skops that are damaged, or were made to do harm."""

import io
import json
import pickle
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.objects import skops_archive
from app.models.objects.estimator import Estimator, read_estimator
from app.models.refusal import ModelRefused
from tests.models.objects.support import FORMATS, labelled, refusal
from tests.models.support import Trap

NOT_WHOLE = "the model's skops file is not a whole archive with a schema.json"
NOT_JSON = "the schema of the model's skops file is not valid JSON"


@cache
def model() -> bytes:
    return FORMATS["skops"](labelled(["no", "yes"], n_estimators=1))


def archive(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    return file.getvalue()


def parts() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(model())) as source:
        return {name: source.read(name) for name in source.namelist()}


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The model with a change of its schema."""
    content = parts()
    schema = json.loads(content["schema.json"])
    change(schema)
    return archive(content | {"schema.json": json.dumps(schema).encode()})


def attribute(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema["content"]["content"][name]


def test_the_model_is_read_packed_or_not() -> None:
    assert read_estimator(archive(parts())) == read_estimator(model())
    assert read_estimator(archive(parts(), zipfile.ZIP_DEFLATED)) == read_estimator(model())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04", NOT_WHOLE),
        (archive({}), NOT_WHOLE),
        (archive({"other.json": b"{}"}), NOT_WHOLE),
        (archive({"schema.json": b""}), NOT_JSON),
        (archive({"schema.json": b"\xff"}), NOT_JSON),
        (archive({"schema.json": b"[" * 100_000}), NOT_JSON),
    ],
)
def test_a_damaged_archive_is_refused(content: bytes, reason: str) -> None:
    # zipfile writes an archive of no files without the usual first bytes.
    assert refusal(content if content.startswith(b"PK\x03\x04") else b"PK\x03\x04" + content) == reason


def test_a_cut_archive_is_refused() -> None:
    assert refusal(model()[:-1]) == NOT_WHOLE
    assert refusal(model()[: len(model()) // 2]) == NOT_WHOLE


def test_an_encrypted_or_unknown_method_is_refused() -> None:
    for flags, method in ((1, 0), (0, 97)):
        content = bytearray(archive({"schema.json": b"{}"}))
        entry = content.rindex(b"PK\x01\x02")
        content[entry + 8], content[entry + 10] = flags, method
        content[6], content[8] = flags, method
        assert refusal(bytes(content)) == NOT_WHOLE


def test_a_bomb_is_refused_by_its_ratio() -> None:
    content = archive({"schema.json": b" " * 50_000_000}, zipfile.ZIP_DEFLATED)
    assert refusal(content) == (
        "a file in the model's skops file has 50000000 bytes, and at most 1073741824 and 200 times the archive are read"
    )


def test_an_archive_that_lies_about_a_size_is_read_no_further() -> None:
    content = bytearray(archive({"schema.json": b" " * 5_000_000}, zipfile.ZIP_DEFLATED))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    assert refusal(bytes(content)) == NOT_WHOLE


def test_a_file_that_many_nodes_name_is_read_once_and_all_files_within_a_bound() -> None:
    array = io.BytesIO()
    np.save(array, np.random.default_rng(0).integers(0, 256, 2**18, np.uint8))
    node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}

    def of_files(*names: str) -> bytes:
        nodes = [{**node, "file": name} for name in names]
        schema = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": nodes}
        files = {name: array.getvalue() for name in set(names)}
        return archive({"schema.json": json.dumps(schema).encode(), **files})

    tracemalloc.start()
    try:
        arrays = skops_archive.read_skops(of_files(*["a.npy"] * 100), 2**20)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert [len(found.content) for found in arrays] == [len(array.getvalue())] * 100
    with pytest.raises(ModelRefused, match="the files in the model's skops file have more than 1048576 bytes, and at"):
        skops_archive.read_skops(of_files("a.npy", "b.npy", "c.npy", "d.npy"), 2**20)


def test_the_number_of_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skops_archive, "MAX_PARTS", 20)
    more = {f"part-{index}": b"" for index in range(20 - len(parts()))}
    assert read_estimator(archive(parts() | more)) == read_estimator(model())
    assert refusal(archive(parts() | more | {"one more": b""})) == "the model's skops file holds more than 20 files"


def test_the_number_of_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = parts()["schema.json"]
    count = sum(map(schema.count, (b"{", b"[", b",")))
    monkeypatch.setattr(skops_archive, "MAX_VALUES", count)
    assert read_estimator(model()).labels == ("no", "yes")
    monkeypatch.setattr(skops_archive, "MAX_VALUES", count - 1)
    assert refusal(model()) == f"the schema of the model's skops file has more than {count - 1} values"


def nested(depth: int) -> bytes:
    node: dict[str, Any] = {"__loader__": "JsonNode", "content": "1"}
    for _ in range(depth):
        node = {"__loader__": "ObjectNode", "__module__": "m", "__class__": "C", "content": node}
    return archive({"schema.json": json.dumps(node).encode()})


def test_the_depth_is_bounded() -> None:
    assert refusal(nested(199)).startswith("the model is a m.C, a Python object")
    assert refusal(nested(201)) == "the schema of the model's skops file nests deeper than 200 levels"


def test_names_that_lead_outside_are_read_and_never_written(tmp_path: Path) -> None:
    def outside(schema: dict[str, Any]) -> None:
        attribute(schema, "_classes")["file"] = f"../../..{tmp_path}/labels.npy"

    assert refusal(changed(outside)) == NOT_WHOLE
    content = parts() | {f"../../..{tmp_path}/other.npy": b"x", f"{tmp_path}/absolute.npy": b"x"}
    assert read_estimator(archive(content)) == read_estimator(model())
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    array = np.empty(1, object)
    array[0] = Trap(tmp_path / "made")
    np.save(file, array, allow_pickle=True)
    content = parts() | {"trap.npy": file.getvalue()}
    schema = json.loads(content["schema.json"])
    attribute(schema, "_classes")["file"] = "trap.npy"
    stored = archive(content | {"schema.json": json.dumps(schema).encode()})
    assert refusal(stored) == "the class labels in the model's object are not a whole .npy file"
    assert not (tmp_path / "made").exists()
    with pytest.raises(ModelRefused):
        read_estimator(archive({"schema.json": pickle.dumps(Trap(tmp_path / "made"))}))
    assert not (tmp_path / "made").exists()


def test_functions_and_classes_that_a_schema_names_are_not_imported(tmp_path: Path) -> None:
    modules = set(sys.modules)
    for loader in ("ObjectNode", "FunctionNode", "TypeNode", "OperatorFuncNode", "ConstructorFromReduceNode", "NoNode"):

        def named(schema: dict[str, Any], loader: str = loader) -> None:
            node = {"__module__": "antigravity", "__class__": "geohash", "__loader__": loader, "content": {}}
            schema["content"]["content"]["_evals_result"] = node

        assert read_estimator(changed(named)) == read_estimator(model())
    assert set(sys.modules) == modules


def test_labels_that_refer_to_a_node_before_them_are_found() -> None:
    def cached(schema: dict[str, Any]) -> None:
        node = attribute(schema, "_classes")
        node["__id__"] = 77
        attributes = schema["content"]["content"]
        attributes["boosting_type"] = node
        attributes["_classes"] = {"__loader__": "CachedNode", "__id__": 77}

    def unknown(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["_classes"] = {"__loader__": "CachedNode", "__id__": 78}

    assert read_estimator(changed(cached)) == read_estimator(model())
    assert refusal(changed(unknown)) == "the schema of the model's skops file refers to an object that is not in it"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    content = parts()
    name = data.draw(st.sampled_from(sorted(content)))
    part = bytearray(content[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(part) - 1))
        part[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    stored = bytearray(archive(content | {name: bytes(part)}))
    if data.draw(st.booleans()):
        stored[data.draw(st.integers(len(stored) - 400, len(stored) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ModelRefused):
        assert isinstance(read_estimator(bytes(stored)), Estimator)
