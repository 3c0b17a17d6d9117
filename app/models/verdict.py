"""Whether a model can be served, and what it takes and gives: `madrone check`."""

import json
from collections.abc import Sequence
from typing import get_args

import msgspec

from app.codecs.rules import LARGEST_WHOLE, limits_of, range_text
from app.config.settings import Settings
from app.feature import Category, Feature
from app.models.loader import loader_of
from app.models.predictions.output import Meaning, meaning
from app.models.refusal import Check, ModelRefused
from app.models.registry.source import Candidate, ModelSource, NothingToServe, RegistryUnreachable
from app.models.served import NotFinite, ServedModel

CHECKS: tuple[Check, ...] = ("digest", "artifact", "agreement", "metrics", "kernels", "prediction")
"""Checks in the order in which a model meets them. `interface` compares it with a model in service, and none is."""

assert set(CHECKS) == set(get_args(Check)) - {"interface"}

MAX_LINES, MAX_VALUES = 50, 10
"""Features, and values of one, in lines for people."""


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gives.

    Attributes:
        count: Numbers for each row.
        meaning: What they are.
        objective: LightGBM's objective with its parameters, where the booster names one.
        labels: Label of each class, for a classifier whose labels are known.
        interval_levels: Levels of its prediction intervals; empty where it has none.
    """

    count: int
    meaning: Meaning
    objective: str | None
    labels: tuple[Category, ...] | None
    interval_levels: tuple[float, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Result of checking one model as the service does.

    Attributes:
        servable: Whether it can be served.
        reason: Why it cannot; None where it can.
        failed: The check that it failed; None where it failed none, or could not be fetched.
        detail: Words of a registry, a store or a library.
        name: Name that it would be served under.
        version: Its version; None where it could not be found.
        digest: SHA-256 over its MLmodel file and the files that its flavor names.
        checks: Checks that it passed.
        features: What it takes.
        outputs: What it gives.
        trees: Number of its trees.
        evaluated_by: Whether the kernels or LightGBM itself evaluate it.
        not_finite: A row of each forest without a finite answer, where one was found; such a row gets an error.
    """

    servable: bool
    reason: str | None = None
    failed: Check | None = None
    detail: str | None = None
    name: str
    version: str | None = None
    digest: str | None = None
    checks: tuple[Check, ...] = ()
    features: tuple[Feature, ...] = ()
    outputs: Outputs | None = None
    trees: int | None = None
    evaluated_by: str | None = None
    not_finite: tuple[NotFinite, ...] = ()


def judge_model(settings: Settings, source: ModelSource) -> Verdict:
    """Fetch, build and check the model that the settings prefer. Nothing is kept, and none is put in service.

    Args:
        settings: Settings that name the model.
        source: Its registry or place, which the caller closes.
    """
    name = settings.model_name
    candidate: Candidate | None = None
    try:
        offer = source.look()
        if not offer.candidates:
            return Verdict(servable=False, reason=offer.problem, name=name)
        candidate = offer.candidates[0]
        return _accepted(loader_of(settings, source).load(candidate, None, keep=None))
    except ModelRefused as error:
        before = CHECKS[: CHECKS.index(error.check)]
        passed: tuple[Check, ...] = tuple(check for check in _checks(settings) if check in before)
        refused = Verdict(servable=False, reason=str(error), failed=error.check, name=name, checks=passed)
        return msgspec.structs.replace(refused, version=candidate and candidate.identity.version)
    except NothingToServe as error:
        return Verdict(servable=False, reason=str(error), name=name)
    except RegistryUnreachable as error:
        return Verdict(servable=False, reason=str(error), detail=error.detail, name=name)
    except (OSError, MemoryError) as error:
        return Verdict(servable=False, reason=f"this machine could not load it: {error}", name=name)


def _accepted(served: ServedModel) -> Verdict:
    artifact = served.artifact
    forest, intervals = artifact.forest, artifact.intervals
    return Verdict(
        servable=True,
        name=served.identity.name,
        version=served.identity.version,
        digest=artifact.digest,
        checks=served.checks,
        features=artifact.features,
        outputs=Outputs(
            count=forest.n_outputs,
            meaning=meaning(forest.objective),
            objective=forest.objective or None,
            labels=served.labels,
            interval_levels=() if intervals is None else tuple(intervals.levels),
        ),
        trees=forest.n_trees,
        evaluated_by=served.engine.status().forest.evaluator,
        not_finite=served.not_finite,
    )


def _checks(settings: Settings) -> tuple[Check, ...]:
    """Checks that every model has, and that of metrics where a limit is set."""
    limited = settings.model_min_r2 is not None or settings.model_max_rmse is not None
    return tuple(check for check in CHECKS if check != "digest" and (limited or check != "metrics"))


def describe_verdict(verdict: Verdict, model: str) -> str:
    """A verdict in lines for people.

    Args:
        verdict: The verdict.
        model: The model's address, as it was given.
    """
    if not verdict.servable:
        reason = str(verdict.reason).removeprefix("MODEL_PATH: ")
        failed = f" It fails the check `{verdict.failed}`." if verdict.failed else ""
        detail = f"\n{verdict.detail}" if verdict.detail else ""
        return f"{model} cannot be served: {reason}.{failed}{detail}"
    lines = [f"{model} can be served as {verdict.name}, version {verdict.version}.", ""]
    lines.append(f"It takes {len(verdict.features)} features:")
    lines += [f"  {_feature_line(feature)}" for feature in verdict.features[:MAX_LINES]]
    if (more := len(verdict.features) - MAX_LINES) > 0:
        lines.append(f"  and {more} more, which --json lists")
    if (outputs := verdict.outputs) is not None:
        numbers = "one number" if outputs.count == 1 else f"{outputs.count} numbers"
        what = f"{numbers} for each row ({outputs.meaning.replace('_', ' ')})"
        lines += ["", f"It gives {what}, objective {outputs.objective or 'unknown'}."]
        if outputs.labels is not None:
            lines.append(f"Labels of its classes: {_listed(outputs.labels)}.")
        if outputs.interval_levels:
            lines.append(f"Levels of its intervals: {_listed(outputs.interval_levels)}.")
    evaluator = "LightGBM itself" if verdict.evaluated_by == "lightgbm" else "the kernels"
    lines.append(f"Its {verdict.trees} trees are evaluated by {evaluator}.")
    lines.append(f"Checks that it passed: {', '.join(verdict.checks)}.")
    lines += [f"Note: {found.message}." for found in verdict.not_finite]
    return "\n".join(lines)


def _feature_line(feature: Feature) -> str:
    words = [feature.kind]
    if feature.categories is not None:
        words.append(f"of {_listed(feature.categories)}")
    if not feature.required:
        words.append("optional")
    if feature.takes_missing:
        words.append("may be missing")
    # Those of a column of type long are float64's, and not its own.
    if feature.physical_range is not None and limits_of(feature) != (-LARGEST_WHOLE, LARGEST_WHOLE):
        words.append(f"from {range_text(feature)}")
    return f"{feature.name}: {', '.join(words)}"


def _listed(values: Sequence[Category]) -> str:
    """Values as JSON has them, which tells the text "1" from the number."""
    shown = ", ".join(json.dumps(value, ensure_ascii=False) for value in values[:MAX_VALUES])
    return shown + (f" and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else "")
