"""MODEL_NAMES: several registered models, and what selects the versions of each."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from app.config.allowed import allowed_values

MOST_MODELS = 100
"""Most models of a process."""

KEYS = (
    "alias", "stage", "fallback_stage", "fallback_any", "canary_alias", "canary_percent", "canary_header",
    "shadow_alias", "shadow_percent", "min_r2", "max_rmse", "output", "unseen_categories",
)  # fmt: skip
"""What may be said of one model: the names of the MODEL_… settings that it stands for."""

STAGES = ("model_stage", "model_fallback_stage", "model_fallback_any")

TAKEN = frozenset({"batch", "bulk", "curve", "explain", "model", "reload", "stats"})
"""Names that stand for something else where a path has a model's name."""

NOT_ENCODED = re.compile("%(?![0-9A-Fa-f]{2})")


class Selected(NamedTuple):
    """A model of MODEL_NAMES.

    Attributes:
        name: Its name in the registry.
        values: Values of settings, by field.
    """

    name: str
    values: dict[str, Any]


def read_models(text: str, settings: type[msgspec.Struct]) -> tuple[list[Selected], list[str]]:
    """The models of MODEL_NAMES, and a line for each thing that is wrong with them.

    Args:
        text: Names separated by commas, each with `?key=value&key=value` behind it or nothing. What would be read as
            one of these signs is percent-encoded.
        settings: The struct of all settings, whose fields say what a value may be.
    """
    fields = {field.name: field for field in msgspec.structs.fields(settings)}
    models, problems = list[Selected](), list[str]()
    for item in text.split(","):
        name, _, query = item.strip().partition("?")
        selected = Selected(unquote(name), {})
        said = [_about_name(name, selected.name, {model.name for model in models})]
        for key, value in _pairs(query):
            said.append(_take(selected, key, value, fields))
        if selected.values.keys() & set(STAGES):
            selected.values.setdefault("model_alias", None)  # one of the service is not meant for this model
        problems += [f"MODEL_NAMES: model {selected.name[:80]!r}: {problem}" for problem in said if problem is not None]
        models.append(selected)
    if len(models) > MOST_MODELS:
        problems.append(f"MODEL_NAMES: must name at most {MOST_MODELS} models, got {len(models)}")
    return models, problems


def _about_name(text: str, name: str, known: set[str]) -> str | None:
    """What is wrong with the name of a model; None where nothing is."""
    if NOT_ENCODED.search(text):
        return "its name must have % written as %25"
    if not 1 <= len(name.strip()) <= len(name) <= 256:
        return "its name must have 1 to 256 characters"
    if "/" in name or ":" in name or name in (".", ".."):
        return "its name must be one that MLflow takes, without / and :"
    if name in TAKEN:
        return f"its name must be none of {', '.join(sorted(TAKEN))}, which stand for something else in paths"
    return "it must be named once" if name in known else None


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        yield key, value


def _take(selected: Selected, key: str, text: str, fields: dict[str, msgspec.structs.FieldInfo]) -> str | None:
    """Take a value; gives what is wrong with it, or None."""
    if key not in KEYS:
        return f"{key[:80]!r} must be one of {', '.join(KEYS)}"
    field = fields[f"model_{key}"]
    if field.name in selected.values:
        return f"{key} must be given once"
    value = unquote(text)
    try:
        if not value or NOT_ENCODED.search(text):
            raise msgspec.ValidationError
        selected.values[field.name] = msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError:
        return f"{key} must be {allowed_values(field)}, got {value[:80]!r}"
    return None
