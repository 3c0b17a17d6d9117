"""Words about a setting, from its annotation: the allowed values, the help text, and the table of all settings."""

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


def settings_table(settings: type[msgspec.Struct]) -> str:
    """The settings as a Markdown table of name, default, allowed values and meaning."""
    lines = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(settings):
        default = field.default
        if default is None or default == ():
            shown = "(unset)"
        elif isinstance(default, bool):
            shown = f"`{str(default).lower()}`"
        else:
            shown = f"`{default}`"
        meaning = description(settings.__annotations__[field.name])
        lines.append(f"| `{field.name.upper()}` | {shown} | {allowed_values(field)} | {meaning} |")
    return "\n".join(lines)
