"""What a file says of Python objects: plain data in place of the objects themselves.

Numbers, texts, bytes, lists and tuples stand for themselves, and a list for a set. Everything else is one of the
structs here. None of them can be called, and a name in them is only a text.
"""

import re
from typing import Any, cast

import msgspec

RECONSTRUCTORS = {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
"""Functions whose first argument is the class of the object that they make."""

PLAIN = re.compile(r"[\w.<>]{1,100}", re.ASCII)


class Named(msgspec.Struct, frozen=True):
    """A class or function that a file names.

    Attributes:
        name: Module and qualified name, such as `lightgbm.sklearn.LGBMClassifier`.
    """

    name: str


class Mapping(msgspec.Struct, eq=False):
    """A dictionary.

    Attributes:
        pairs: Keys and values, in the file's order; a later pair wins over an earlier one of the same key.
    """

    pairs: list[tuple[Any, Any]] = []


class Described(msgspec.Struct, eq=False):
    """An object that a file tells how to make.

    Attributes:
        kind: Its class, or the function that would make it: a `Named` for all but those that the file defines itself.
        arguments: Arguments of the call that would make it.
        state: What it would get as its state.
        elements: What would be appended or added to it.
        pairs: Items that would be set in it.
        content: Bytes or description of an array whose values the file keeps apart from the object.
    """

    kind: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None
    elements: list[Any] = []
    pairs: list[tuple[Any, Any]] = []
    content: Any = None


def class_name(thing: Any) -> str:
    """Name of the class of what is described, with its module; of a function that makes it if its class is unknown."""
    if not isinstance(thing, Described):
        return "builtins.dict" if isinstance(thing, Mapping) else f"builtins.{type(thing).__name__}"
    kind = kind_of(thing)
    return kind.name if isinstance(kind, Named) else defined_name(kind)


def kind_of(thing: Described) -> Any:
    """Class of an object, be it made by itself or, as before protocol 2 of pickle, by a function that is told it."""
    kind = thing.kind
    told = isinstance(kind, Named) and kind.name in RECONSTRUCTORS and thing.arguments
    return thing.arguments[0] if told else kind


def defined_name(kind: Any) -> str:
    """Name of a class that the file defines itself, as cloudpickle writes it: type, name, bases, attributes."""
    if isinstance(kind, Described):
        module = next((dict_of(part).get("__module__") for part in kind.arguments if isinstance(part, Mapping)), None)
        name = next((part for part in kind.arguments if isinstance(part, str)), None)
        if name is not None:
            return f"{module}.{name}" if isinstance(module, str) else name
    return "an unknown class"


def dict_of(thing: Any) -> dict[str, Any]:
    """Items of a dictionary that have a text as key; empty for anything else."""
    if not isinstance(thing, Mapping):
        return {}
    return {key: value for key, value in thing.pairs if isinstance(key, str)}


def attributes(thing: Any) -> dict[str, Any]:
    """Attributes that an object would have: those of its state, which may be a pair with those of its slots."""
    if not isinstance(thing, Described):
        return {}
    parts = cast(tuple[Any, ...], thing.state) if isinstance(thing.state, tuple) else (thing.state,)
    return {name: value for part in parts for name, value in dict_of(part).items()}


def printable(name: str) -> str:
    """A name from a file as it may stand in a message: short, and without characters that a reader cannot see."""
    return name if PLAIN.fullmatch(name) else repr(name[:100])
