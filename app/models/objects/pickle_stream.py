"""Pickles read as data.

A pickle is a program of a small stack machine. The machine here is one that builds descriptions: where Python's own
would import a name it makes a `Named`, and where that would call something it makes a `Described`. So nothing that the
file names is looked up, imported or called, whatever the file says. Opcodes are decoded by `pickletools`.

The time and memory that a file takes grow with its size and with the number of its opcodes, and both are bounded.
Values are never hashed, compared or copied, and no function here calls itself for a nested value.

The meaning of each opcode is that of CPython's Lib/pickle.py. joblib writes the values of an array into the middle of
the stream, right after the object that stands for it (joblib/numpy_pickle.py).
"""

import io
import pickletools
import struct
from collections.abc import Callable
from typing import Any, cast

from app.models.objects.array import INLINE_ARRAY, UnreadableArray, inline_size
from app.models.objects.description import Described, Mapping, Named, kind_of
from app.models.refusal import ModelRefused

MAX_OPCODES = 1_000_000
"""A classifier of 10,000 classes has 300,000."""

LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    ]
)
GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
OUTSIDE = {
    "PERSID": "a persistent id",
    "BINPERSID": "a persistent id",
    "EXT1": "an extension code",
    "EXT2": "an extension code",
    "EXT4": "an extension code",
    "NEXT_BUFFER": "a buffer outside of it",
    "READONLY_BUFFER": "a buffer outside of it",
}
"""Opcodes whose value the file does not hold."""

SET_STATE = "_class_setstate"
"""Function by which cloudpickle gives a class, which it has made, its attributes."""


class _Damaged(Exception):
    """The stream does not follow the rules; the message says which."""


def read_pickle(content: bytes) -> Any:
    """Description of the object in a pickle, of any protocol, or in an uncompressed file of joblib.

    Raises:
        ModelRefused: The pickle is damaged, beyond a bound, or needs something that it does not hold.
    """
    budget = _Budget()
    return _read(io.BytesIO(content), len(content), budget, inline=True)


class _Budget:
    """Opcodes that may still be read, of a stream and those inside it."""

    def __init__(self) -> None:
        self.left = MAX_OPCODES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ModelRefused(f"the model's pickle has more than {MAX_OPCODES} opcodes, and no more are read")


def _read(file: io.BytesIO, size: int, budget: _Budget, inline: bool) -> Any:
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            budget.spend()
            name = opcode.name
            if name in LITERALS:
                machine.stack.append(argument)
            elif (step := machine.steps.get(name)) is not None:
                step()
            elif name in OUTSIDE:
                raise ModelRefused(f"the model's pickle refers to {OUTSIDE[name]}, which is not read")
            elif name == "FRAME":
                if cast(int, argument) > size - file.tell():
                    raise _Damaged("a frame is longer than the file")
            else:
                machine.step_with(name, argument)
            if name == "BUILD" and inline:
                _read_array(machine.stack[-1], file, size, budget)
        return machine.result()
    except _Damaged as error:
        raise ModelRefused(f"the model's pickle is damaged: {error}") from None
    except (ValueError, OverflowError, struct.error) as error:  # of pickletools; the message may quote the file
        raise ModelRefused("the model's pickle is damaged, or ends too early") from error


def _read_array(thing: Any, file: io.BytesIO, size: int, budget: _Budget) -> None:
    """Take the values of an array that follow the object in its place."""
    if not isinstance(thing, Described) or kind_of(thing) != Named(INLINE_ARRAY):
        return
    try:
        n_bytes, aligned = inline_size(thing)
    except UnreadableArray as error:
        raise _Damaged("an array does not state its shape and type") from error
    if n_bytes is None:
        thing.content = _read(file, size, budget, inline=False)  # a pickle of its own
        return
    if aligned:
        file.seek(sum(file.read(1)), io.SEEK_CUR)
    if n_bytes > size - file.tell():
        raise _Damaged("an array is longer than the file")
    thing.content = file.read(n_bytes)


class _Machine:
    """Stack, marks and memo of one stream."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.steps: dict[str, Callable[[], None]] = {
            "NONE": lambda: self.stack.append(None),
            "NEWTRUE": lambda: self.stack.append(True),
            "NEWFALSE": lambda: self.stack.append(False),
            "EMPTY_TUPLE": lambda: self.stack.append(()),
            "EMPTY_LIST": lambda: self.stack.append([]),
            "EMPTY_SET": lambda: self.stack.append([]),
            "EMPTY_DICT": lambda: self.stack.append(Mapping()),
            "LIST": lambda: self.stack.append(self._marked()),
            "FROZENSET": lambda: self.stack.append(self._marked()),
            "TUPLE": lambda: self.stack.append(tuple(self._marked())),
            "TUPLE1": lambda: self._tuple(1),
            "TUPLE2": lambda: self._tuple(2),
            "TUPLE3": lambda: self._tuple(3),
            "DICT": lambda: self.stack.append(Mapping(_paired(self._marked()))),
            "APPEND": lambda: self._extend([self._pop()]),
            "APPENDS": lambda: self._extend(self._marked()),
            "ADDITEMS": lambda: self._extend(self._marked()),
            "SETITEM": self._set_item,
            "SETITEMS": lambda: self._update(_paired(self._marked())),
            "MARK": lambda: self._marks.append(len(self.stack)),
            "POP": self._drop,
            "POP_MARK": lambda: self._marked().clear(),
            "DUP": lambda: self.stack.append(self._top()),
            "MEMOIZE": lambda: self._memo.__setitem__(len(self._memo), self._top()),
            "STACK_GLOBAL": self._name,
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "NEWOBJ_EX": self._call_by_name,
            "OBJ": self._make,
            "BUILD": self._build,
            "PROTO": lambda: None,
            "STOP": lambda: None,
        }

    def step_with(self, name: str, argument: Any) -> None:
        """Carry out an opcode that has an argument."""
        if name in GETS:
            if argument not in self._memo:
                raise _Damaged("it takes a value from its memo that was not put there")
            self.stack.append(self._memo[argument])
        elif name in PUTS:
            self._memo[argument] = self._top()
        elif name == "GLOBAL":
            self.stack.append(_named(argument))
        elif name == "INST":
            self.stack.append(Described(_named(argument), tuple(self._marked())))
        else:
            raise _Damaged(f"it has an opcode {name}, which is not known")

    def result(self) -> Any:
        """The value that the stream leaves."""
        return self._pop()

    def _top(self) -> Any:
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise _Damaged("it takes more values from its stack than it put there")
        return self.stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        del self.stack[-1]
        return value

    def _drop(self) -> None:
        """Drop the top of the stack, which may be a mark."""
        if self._marks and len(self.stack) == self._marks[-1]:
            del self._marks[-1]
        else:
            self._pop()

    def _marked(self) -> list[Any]:
        """Take what is above the last mark."""
        if not self._marks:
            raise _Damaged("it has no mark where it needs one")
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _tuple(self, length: int) -> None:
        values = [self._pop() for _ in range(length)]
        self.stack.append(tuple(reversed(values)))

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            cast(list[Any], target).extend(values)
        elif isinstance(target, Described):
            target.elements.extend(values)
        else:
            raise _Damaged("it appends to something that is no list")

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._update([(key, value)])

    def _update(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self._top()
        if not isinstance(target, Mapping | Described):
            raise _Damaged("it sets an item of something that is no dictionary")
        target.pairs.extend(pairs)

    def _name(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _Damaged("it names something by other than texts")
        self.stack.append(Named(f"{module}.{name}"))

    def _call(self) -> None:
        arguments, kind = self._pop(), self._pop()
        if not isinstance(arguments, tuple):
            raise _Damaged("it calls something with other than a tuple")
        arguments = cast(tuple[Any, ...], arguments)
        if isinstance(kind, Named) and kind.name.endswith(SET_STATE) and len(arguments) == 2:
            made, state = arguments
            if isinstance(made, Described):
                made.state = state
        self.stack.append(Described(kind, arguments))

    def _call_by_name(self) -> None:
        by_name, arguments, kind = self._pop(), self._pop(), self._pop()
        self.stack.append(Described(kind, (arguments, by_name)))

    def _make(self) -> None:
        values = self._marked()
        if not values:
            raise _Damaged("it makes an object of no class")
        self.stack.append(Described(values[0], tuple(values[1:])))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Described):
            target.state = state
        elif not isinstance(target, Named):  # a class that is given attributes is not described further
            raise _Damaged("it gives a state to something that is no object")


def _named(argument: str) -> Named:
    module, _, name = argument.partition(" ")
    return Named(f"{module}.{name}")


def _paired(values: list[Any]) -> list[tuple[Any, Any]]:
    if len(values) % 2:
        raise _Damaged("a dictionary has a key without a value")
    return list(zip(values[::2], values[1::2], strict=True))
