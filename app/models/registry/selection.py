"""Rules that select a version from a registry: by an alias, or by stages."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from app.address import LATEST
from app.config.settings import Settings
from app.models.registry.source import FALLBACK, REMAINING, STAGES, LookUp

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MAX_ALIASES = 10
"""Aliases named in a message."""


def versions_by_rule(
    settings: Settings, versions: "Sequence[ModelVersion]", aliases: Mapping[str, str]
) -> "Iterator[tuple[str, list[ModelVersion]]]":
    """Selection rules in order of preference, each with the versions that match it.

    Args:
        settings: Settings that select versions.
        versions: All versions, the newest first.
        aliases: Number of the version under each alias.
    """
    if (number := settings.model_version) is not None:
        yield (
            f"version {number}",
            list(versions[:1])
            if number == LATEST
            else [version for version in versions if str(version.version) == number],
        )
        return
    if settings.model_alias is not None:
        target = aliases.get(settings.model_alias)
        yield f"alias {settings.model_alias}", [v for v in versions if str(v.version) == str(target)]
        return
    labels = {settings.model_fallback_stage: FALLBACK, settings.model_stage: "stage"}
    remaining = STAGES if settings.model_fallback_any else ()
    for stage in dict.fromkeys((settings.model_stage, settings.model_fallback_stage, *remaining)):
        rule = f"{labels.get(stage, REMAINING)} {stage}"
        yield rule, [version for version in versions if version.current_stage == stage]


def nothing_to_serve(
    settings: Settings, look_ups: Sequence[LookUp], versions: "Sequence[ModelVersion]", aliases: Mapping[str, str]
) -> str:
    """Message about why no version matches, with a hint for the operator."""
    if (number := settings.model_version) is not None:
        which = "version" if number == LATEST else f"version {number}"
        ready = " whose upload has ended" if look_ups[0].outcome == "not_ready" else ""
        return f"model {settings.model_name!r} has no {which}{ready}"
    said = ", ".join(f"{look_up.rule}: {look_up.outcome.replace('_', ' ')}" for look_up in look_ups)
    if settings.model_alias is None:
        if any(version.current_stage in STAGES for version in versions if is_ready(version)):
            said += "; other stages have versions, which MODEL_ALIAS or MODEL_FALLBACK_ANY can ask for"
    elif look_ups[0].outcome == "empty":
        if (target := aliases.get(settings.model_alias)) is not None:
            said += f", it names version {str(target)[:40]!r}, which is not there"
        said += f"; {_named_aliases(aliases)}"
    return f"model {settings.model_name!r} has no version to serve ({said})"


def is_ready(version: "ModelVersion") -> bool:
    """Whether the upload of a version has ended."""
    return str(version.status) in ("READY", "None", "")


def _named_aliases(aliases: Mapping[str, str]) -> str:
    """Names of the aliases that exist, for a message. Those that MLflow would not accept are only counted."""
    if not aliases:
        return "it has no alias"
    named = sorted(alias for alias in aliases if re.fullmatch(r"[\w-]{1,100}", alias))[:MAX_ALIASES]
    others = len(aliases) - len(named)
    return "aliases that exist: " + ", ".join((*named, *([f"{others} more"] if others else ())))
