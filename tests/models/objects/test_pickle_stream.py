"""Pickles that were made to do harm, or are damaged: nothing of them runs, and each is refused within bounds."""

import contextlib
import copyreg
import os
import pickle
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.models.objects import pickle_stream
from app.models.objects.description import Described, Mapping, Named, attributes, class_name, dict_of
from app.models.objects.estimator import Estimator, read_estimator
from app.models.objects.pickle_stream import read_pickle
from app.models.refusal import ModelRefused
from tests.models.objects.support import FORMATS, fitted, labelled, of_joblib, refusal
from tests.models.support import Trap

NO_BOOSTER = "a Python object in which no fitted LightGBM booster was found"
DAMAGED = "the model's pickle is damaged, or ends too early"

PICKLE = FORMATS["pickle"](labelled(["no", "yes"], n_estimators=1))
JOBLIB = of_joblib(0)(labelled(["no", "yes"], n_estimators=1))


def with_pickled_array(pickled: bytes) -> bytes:
    """A file of joblib whose class labels are objects: a pickle of its own in place of the array's bytes."""
    head, found, _ = JOBLIB.rpartition(b"\x8c\x02U3")
    start = JOBLIB.index(b"K\x10ub", len(head)) + 4
    assert found
    return head + b"\x8c\x02O8" + JOBLIB[len(head) + len(found) : start] + pickled + JOBLIB[start:]


def calls(path: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles that make the directory `path` when Python unpickles them."""
    command = f"mkdir {path}".encode()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"reduce {protocol}", b"\x80\x02" * (protocol < 2) + pickle.dumps(Trap(path), protocol=protocol)
    yield "system", b"\x80\x04cos\nsystem\n(X" + len(command).to_bytes(4, "little") + command + b"tR."
    yield "inst", b"\x80\x02(S'" + command + b"'\nios\nsystem\n."
    yield "obj", b"\x80\x02(cos\nsystem\nS'" + command + b"'\no."
    yield "new", b"\x80\x04cos\nsystem\nS'" + command + b"'\n\x85\x81."
    yield "stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93S'" + command + b"'\n\x85R."
    code = f"__import__('os').mkdir({str(path)!r})".encode()
    for name in (b"eval", b"exec"):
        yield name.decode(), b"\x80\x04cbuiltins\n" + name + b'\nS"' + code + b'"\n\x85R.'
    yield "state", b"\x80\x04ccopyreg\n_reconstructor\n(cos\nsystem\ncbuiltins\nobject\nNtRS'" + command + b"'\nb."
    yield "inside a model", PICKLE[:-1] + b"cos\nsystem\nS'" + command + b"'\n\x85R0."
    # As the label array of joblib's format, whose values follow as a pickle of their own.
    yield "array", with_pickled_array(pickle.dumps(Trap(path)))


def test_nothing_that_a_pickle_calls_is_called(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for name, content in calls(made):
        modules = set(sys.modules)
        with contextlib.suppress(ModelRefused):
            read_estimator(content)
        assert not made.exists(), name
        assert set(sys.modules) == modules, name


def test_the_traps_are_sprung_by_pythons_own_unpickler(tmp_path: Path) -> None:
    made = tmp_path / "made"
    sprung: list[str] = []
    for name, content in calls(made):
        with contextlib.suppress(Exception):  # after what it did, a trap may end in any way
            pickle.loads(content)
        if made.exists():
            sprung.append(name)
            made.rmdir()
    assert len(sprung) >= 12


def test_what_a_pickle_names_is_described_and_not_looked_up() -> None:
    thing = read_pickle(b"\x80\x04cno.such.module\nThing\n)\x81}(S'a'\nK\x01S'b'\n]K\x02aub.")
    assert class_name(thing) == "no.such.module.Thing"
    assert attributes(thing) == {"a": 1, "b": [2]}


class Colour:
    def __init__(self) -> None:
        self.name = "red"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_are_read_as_python_reads_them(protocol: int) -> None:
    shared: list[Any] = [1, 2]
    value = [
        *(
            None,
            True,
            False,
            0,
            255,
            65_535,
            -1,
            2**31,
            -(2**70),
            2**3000,
            0.5,
            float("inf"),
            "",
            "ä\N{SNOWMAN}",
            "x" * 300,
        ),
        *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), shared, shared, [[]]),
    ]
    read = read_pickle(pickle.dumps(value, protocol=protocol))
    assert read == value
    assert read[-3] is read[-2]


def test_bytes_sets_and_dictionaries_are_read() -> None:
    value = (b"a", b"b" * 300, bytearray(b"c"), {1, 2}, frozenset({3}), {"a": {"b": 1}, 2: "c"})
    small, large, array, some, frozen, mapping = read_pickle(pickle.dumps(value, protocol=5))
    assert (small, large, array, sorted(some), frozen) == (b"a", b"b" * 300, bytearray(b"c"), [1, 2], [3])
    assert isinstance(mapping, Mapping)
    assert dict_of(dict_of(mapping)["a"]) == {"b": 1}
    assert len(mapping.pairs) == 2


def test_objects_are_read_from_every_protocol() -> None:
    for protocol in range(2, 6):
        thing = read_pickle(pickle.dumps(Colour(), protocol=protocol))
        assert class_name(thing) == f"{__name__}.Colour"
        assert attributes(thing) == {"name": "red"}
    thing = read_pickle(b"\x80\x02" + pickle.dumps(Colour(), protocol=0))
    assert class_name(thing) == f"{__name__}.Colour"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04Pname\n.", "the model's pickle refers to a persistent id, which is not read"),
        (b"\x80\x04NQ.", "the model's pickle refers to a persistent id, which is not read"),
        (b"\x80\x04\x82\x01.", "the model's pickle refers to an extension code, which is not read"),
        (b"\x80\x04\x83\x01\x00.", "the model's pickle refers to an extension code, which is not read"),
        (b"\x80\x04\x84\x01\x00\x00\x00.", "the model's pickle refers to an extension code, which is not read"),
        (b"\x80\x05\x97.", "the model's pickle refers to a buffer outside of it, which is not read"),
        (b"\x80\x05N\x98.", "the model's pickle refers to a buffer outside of it, which is not read"),
        (b"\x80", DAMAGED),
        (b"\x80\x04", DAMAGED),
        (b"\x80\x04\xff.", DAMAGED),
        (b"\x80\x04I" + b"9" * 5000 + b"\n.", DAMAGED),
        (b"\x80\x04\x8b\xff\xff\xff\x7f1.", DAMAGED),
        (b"\x80\x04\x8b\xff\xff\xff\xff1.", DAMAGED),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b"1.", DAMAGED),
        (b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"1.", DAMAGED),
        (b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.", "a frame is longer than the file"),
        (b"\x80\x04.", "it takes more values from its stack than it put there"),
        (b"\x80\x04N(a.", "it takes more values from its stack than it put there"),
        (b"\x80\x04NNa.", "it appends to something that is no list"),
        (b"\x80\x04N(Ne.", "it appends to something that is no list"),
        (b"\x80\x04NNNs.", "it sets an item of something that is no dictionary"),
        (b"\x80\x04}(Nu.", "a dictionary has a key without a value"),
        (b"\x80\x04t.", "it has no mark where it needs one"),
        (b"\x80\x04(o.", "it makes an object of no class"),
        (b"\x80\x04Nh\x07.", "it takes a value from its memo that was not put there"),
        (b"\x80\x04NN\x93.", "it names something by other than texts"),
        (b"\x80\x04NNR.", "it calls something with other than a tuple"),
        (b"\x80\x04NNb.", "it gives a state to something that is no object"),
    ],
)
def test_a_pickle_that_breaks_the_rules_is_refused(content: bytes, reason: str) -> None:
    expected = reason if reason.startswith("the model") else f"the model's pickle is damaged: {reason}"
    assert refusal(content) == expected


def test_an_extension_code_that_is_registered_is_refused_as_well() -> None:
    copyreg.add_extension("os", "system", 0xF0)
    try:
        assert "extension code" in refusal(b"\x80\x04\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


@pytest.mark.parametrize("content", [PICKLE, JOBLIB], ids=["pickle", "joblib"])
def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(content: bytes) -> None:
    text = content.index(b"tree\n")
    ends = [*range(1, text + 20), *range(text + 20, len(content) - 900, 97), *range(len(content) - 900, len(content))]
    for end in ends:
        assert refusal(content[:end]).startswith("the model's pickle is damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8b\xf0\xff\xff\x7f1.",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"1.",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"1.",
        b"\x80\x04X\xff\xff\xff\xff1.",
        b"\x80\x04B\xff\xff\xff\xff1.",
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"1.",
        b"\x80\x04Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",  # C's unpickler makes room for the memo's highest index
    ],
)
def test_lengths_that_a_file_only_states_take_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        refusal(content)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_number_of_opcodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_stream, "MAX_OPCODES", 1000)
    assert refusal(b"\x80\x04" + b"N" * 998 + b".").endswith(NO_BOOSTER)
    reason = "the model's pickle has more than 1000 opcodes, and no more are read"
    assert refusal(b"\x80\x04" + b"N" * 999 + b".") == reason
    # The pickle of joblib's array counts as well.
    for count, refused in ((200, False), (900, True)):
        assert (refusal(with_pickled_array(b"\x80\x04" + b"N" * count + b".")) == reason) == refused


NESTS = {
    "lists": b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "tuples": b"\x80\x04N" + b"\x85" * 20_000 + b".",
    "doubled": b"\x80\x04N" + b"2\x86" * 20_000 + b".",
    "doubled by memo": b"\x80\x04N" + b"\x94h\x00\x86" * 10_000 + b".",
    "dictionaries": b"\x80\x04" + b"}N" * 20_000 + b"}" + b"s" * 20_000 + b".",
    "calls": b"\x80\x04cos\nsystem\n" + b")R" * 20_000 + b".",
    "states": b"\x80\x04" + b"cos\nsystem\n)R" * 10_000 + b"b" * 9_999 + b".",
    "a circle": b"\x80\x04]\x94h\x00a.",
    "a circle of states": b"\x80\x04cos\nsystem\n)R\x94h\x00b.",
}


@pytest.mark.parametrize("name", NESTS)
def test_depth_and_repetition_cost_no_more_than_length(name: str) -> None:
    assert refusal(NESTS[name]).endswith(NO_BOOSTER)


def test_an_array_longer_than_its_file_is_refused() -> None:
    shape = JOBLIB.index(b"\x8c\x05shape") + 8
    assert JOBLIB[shape : shape + 3] == b"K\x02\x85"
    longer = JOBLIB[:shape] + b"J\xff\xff\xff\x7f\x85" + JOBLIB[shape + 3 :]
    assert refusal(longer) == "the model's pickle is damaged: an array is longer than the file"
    unknown = JOBLIB.replace(b"\x8c\x02U3", b"\x8c\x02Y3")
    assert refusal(unknown) == "the model's pickle is damaged: an array does not state its shape and type"


def test_names_that_cannot_be_printed_are_quoted_and_cut() -> None:
    content = b"\x80\x04X" + (2000).to_bytes(4, "little") + b"\x1b[2J\r" + b"a" * 1995 + b"\x8c\x01x\x93)R."
    reason = refusal(content)
    assert reason.isprintable()
    assert len(reason) < 250


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([PICKLE, JOBLIB])))
    text = content.index(b"tree\n")
    end = content.index(b"pandas_categorical:null")
    outside = st.one_of(st.integers(2, text), st.integers(end, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        place = min(data.draw(outside), len(content) - 1)
        match data.draw(st.sampled_from(["change", "insert", "delete", "repeat"])):
            case "change":
                content[place] = data.draw(st.integers(0, 255))
            case "insert":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del content[place : place + data.draw(st.integers(1, 8))]
            case _:
                content[place:place] = content[place : place + 30]
    modules = set(sys.modules)
    with contextlib.suppress(ModelRefused):
        assert isinstance(read_estimator(bytes(content)), Estimator)
    assert set(sys.modules) == modules


def test_a_callable_that_a_file_defines_is_only_described() -> None:
    thing = read_pickle(b"\x80\x04cfunctools\npartial\ncos\nsystem\n\x85R.")
    assert isinstance(thing, Described)
    assert thing.arguments == (Named("os.system"),)
    assert not callable(thing)
    assert os.path.exists("/")


def test_the_real_files_are_read() -> None:
    assert read_estimator(PICKLE) == read_estimator(JOBLIB)
    assert read_estimator(FORMATS["pickle"](fitted())).labels is None
