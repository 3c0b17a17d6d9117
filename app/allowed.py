"""Words about a setting, from its annotation: the allowed values, and the help text."""

from typing import Any

import msgspec
from msgspec import Meta


def allowed_values(field: msgspec.structs.FieldInfo) -> str:
    """Describe the allowed values of a setting in words, from its annotation."""
    info: Any = msgspec.inspect.type_info(field.type)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(kind for kind in info.types if not isinstance(kind, msgspec.inspect.NoneType))
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType():
            return f"a whole number from {info.ge} to {info.le}"
        case msgspec.inspect.FloatType():
            least = f"above {info.gt:g} and" if info.gt is not None else f"from {info.ge:g}"
            return f"a number {least} up to {info.le:g}"
        case msgspec.inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in info.values)
        case msgspec.inspect.VarTupleType():
            return "origins separated by commas"
        case msgspec.inspect.StrType() if info.max_length is None:
            return "a URI"
        case msgspec.inspect.StrType():
            return f"1 to {info.max_length} {'visible ASCII ' if info.pattern else ''}characters"
        case _:
            return "a path"


def description(annotation: Any) -> str:
    """Help text in the annotation of a setting."""
    metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    return next((item.description for item in metadata if isinstance(item, Meta) and item.description), "")
