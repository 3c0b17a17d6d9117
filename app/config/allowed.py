"""Types of settings with their allowed values, and words about a setting from its annotation."""

from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Key = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Models = Annotated[str, Meta(min_length=1, max_length=65_536)]
Uri = Annotated[str, Meta(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Place = Annotated[str, Meta(min_length=1, max_length=4096)]
Rows = Annotated[int, Meta(ge=1, le=10**10)]
R2 = Annotated[float, Meta(ge=-1, le=1)]
Rmse = Annotated[float, Meta(ge=0, le=1e100)]
METRIC_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
OCTAL = r"^0?[0-7]{3}$"
Mode = Annotated[str, Meta(min_length=3, max_length=4, pattern=OCTAL)]
MetricPrefix = Annotated[str, Meta(min_length=1, max_length=64, pattern=METRIC_NAME)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
"""A token of RFC 9110, section 5.6.2."""


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
        case msgspec.inspect.StrType() if info.pattern == METRIC_NAME:
            return f"1 to {info.max_length} letters, digits or _, the first of them no digit"
        case msgspec.inspect.StrType() if info.pattern == OCTAL:
            return "three octal digits"
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
    annotations = get_type_hints(settings, include_extras=True)
    lines = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(settings):
        default = field.default
        if default is None or default == ():
            shown = "(unset)"
        elif isinstance(default, bool):
            shown = f"`{str(default).lower()}`"
        else:
            shown = f"`{default}`"
        meaning = description(annotations[field.name])
        lines.append(f"| `{field.name.upper()}` | {shown} | {allowed_values(field)} | {meaning} |")
    return "\n".join(lines)
