"""Checks a model must pass before it is served.

Whether its files are whole and fit together is checked where they are read and joined (`artifact`, `signature`). The
checks here compare the model with something else: metrics in the registry, LightGBM, the model in service.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.codecs.categories import codes_of, holds_numbers, holds_text, values_of
from app.codecs.rules import limits_of, number_text, range_text
from app.config.settings import Settings
from app.feature import Category, Feature, Kind
from app.models.artifact import Artifact
from app.models.predictions.interval import Intervals
from app.models.predictions.output import usable_labels
from app.models.refusal import ModelRefused
from app.models.served import NotFinite, ServedModel
from kernels.cost import vary
from kernels.engine import Engine
from kernels.forest.extremes import all_finite, extreme_rows
from kernels.forest.forest import Forest
from kernels.forest.probe import probe_rows

R2_NAMES = ("test_r2", "r2_score", "test_r2_score", "eval_r2", "val_r2", "r2")
RMSE_NAMES = ("test_rmse", "root_mean_squared_error", "test_root_mean_squared_error", "eval_rmse", "val_rmse", "rmse")
"""Names of the metric in a run, the first match counts. `mlflow.models.evaluate` writes `r2_score` and
`root_mean_squared_error`."""

WIDER = {("integer", "number"), ("boolean", "number"), ("boolean", "integer")}
TAKES_AS_MUCH = {*((kind, kind) for kind in get_args(Kind)), *WIDER}
"""Pairs of kinds, old and new, where the new kind accepts every value of the old one."""

RawScores = Callable[[Path, NDArray[np.float64]], NDArray[np.float64]]
"""Raw scores by LightGBM, float64[B] or float64[B, K], of a booster's file for rows, float64[B, F]."""


MAX_FEATURES, MAX_TEXT = 50, 200
"""Features and characters of a row that is reported."""

MAX_LABEL = 1000
"""Characters of a class label."""


def check_metrics(metrics: Mapping[str, float], settings: Settings) -> None:
    """Refuse a model whose training run is worse than MODEL_MIN_R2 or MODEL_MAX_RMSE, or lacks the metric.

    Raises:
        ModelRefused: A metric is beyond its limit, not a number, or missing.
    """
    for limit, names, setting, sign in (
        (settings.model_min_r2, R2_NAMES, "MODEL_MIN_R2", 1),
        (settings.model_max_rmse, RMSE_NAMES, "MODEL_MAX_RMSE", -1),
    ):
        if limit is None:
            continue
        name = next((name for name in names if name in metrics), None)
        if name is None:
            raise ModelRefused(f"{setting} is set, and the run has no metric {' or '.join(names)}", "metrics")
        if not sign * (metrics[name] - limit) >= 0:  # refuses NaN too
            reached = f"the run's {name} is {number_text(metrics[name])}, and {setting} is {number_text(limit)}"
            raise ModelRefused(reached, "metrics")


def check_scores(artifact: Artifact, engine: Engine, directory: Path, raw_scores: RawScores) -> None:
    """Refuse a model whose scores by our kernels differ from LightGBM's in any bit.

    The rows compared are variations of the input example, transformed by the model's plan, and rows at and beyond the
    thresholds of the forest, which the plan may never produce.

    Args:
        artifact: The model.
        engine: Engine of the artifact.
        directory: Model directory.
        raw_scores: LightGBM.

    Raises:
        ModelRefused: Scores differ.
    """
    sample = artifact.sample()
    rows = np.concatenate([sample, _varied(artifact.features, sample)])
    usual = np.asarray(engine.transform(rows), dtype=np.float64)
    for part, forest in (("booster", artifact.forest), ("difficulty", artifact.difficulty)):
        if not isinstance(forest, Forest):
            continue  # absent, or evaluated by LightGBM itself
        rows = np.concatenate([usual, probe_rows(forest.predicates, forest.n_features)])
        ours, theirs = forest.predict(rows, raw_score=True), raw_scores(directory / artifact.files[part], rows)
        if ours.shape != theirs.shape:
            raise ModelRefused(f"LightGBM gives scores of shape {theirs.shape}, the kernels {ours.shape}", "kernels")
        different = (ours.view(np.uint64) != theirs.view(np.uint64)).reshape(len(rows), -1).any(axis=1)
        if different.any():
            raise ModelRefused(
                f"the kernels' raw scores differ from LightGBM's for {int(different.sum())} of {len(rows)} rows",
                "kernels",
            )


def check_predictions(artifact: Artifact, engine: Engine) -> None:
    """Refuse a model without a finite prediction for its input example, or for rows like it.

    Raises:
        ModelRefused: A prediction or a difficulty is infinite or NaN.
    """
    sample = artifact.sample()
    varied = _varied(artifact.features, sample)
    for rows, named in ((sample, "the input example"), (varied, "rows like the input example")):
        evaluation = engine.evaluate(rows)
        if not np.isfinite(evaluation.prediction).all():
            raise ModelRefused(f"the prediction for {named} is not finite", "prediction")
        if evaluation.difficulty is not None and not np.isfinite(evaluation.difficulty).all():
            raise ModelRefused(f"the difficulty of {named} is not finite", "prediction")


def check_labels(artifact: Artifact) -> None:
    """Refuse a classifier whose labels do not fit its booster, or cannot be sent.

    Raises:
        ModelRefused: There are more labels than classes, or none; or a label is not finite, too long, a whole number
            of more than 64 bits, or text that is no Unicode.
    """
    labels, classes = artifact.labels, max(2, artifact.forest.n_outputs)
    if labels is None:
        return
    if not 1 <= len(labels) <= classes:
        raise ModelRefused(f"the model has {len(labels)} class labels, and its booster {classes} classes", "agreement")
    if any(isinstance(label, float) and not np.isfinite(label) for label in labels):
        raise ModelRefused("a class label is not a finite number", "agreement")
    if any(isinstance(label, str) and len(label) > MAX_LABEL for label in labels):
        raise ModelRefused(f"a class label has more than {MAX_LABEL} characters", "agreement")
    try:
        msgspec.msgpack.encode(labels)
    except (UnicodeEncodeError, OverflowError):
        raise ModelRefused(
            "a class label is text that is no Unicode, or needs more than 64 bits", "agreement"
        ) from None


def find_not_finite(artifact: Artifact) -> tuple[NotFinite, ...]:
    """Rows without a finite prediction, at most one for each forest.

    Such a model is served all the same: a request with such a row gets an error, and the owner is warned. A forest
    that LightGBM evaluates is not searched.
    """
    found: list[NotFinite] = []
    for part, forest in (("booster", artifact.forest), ("difficulty", artifact.difficulty)):
        if not isinstance(forest, Forest) or all_finite(forest):
            continue
        rows = np.concatenate([extreme_rows(forest), probe_rows(forest.predicates, forest.n_features)])
        if artifact.plan is None:
            rows = _with_codes(artifact.features, rows)
            rows = rows[_sendable(artifact.features, rows)]
        predictions = forest.predict(rows).reshape(len(rows), -1)
        bad = np.flatnonzero(~np.isfinite(predictions).all(axis=1))
        if len(bad):
            which = "rows" if artifact.plan is None else "of the features that its plan may make"
            message = f"the {part}'s prediction is not finite for some {which}; such a row is answered with an error"
            features = artifact.features if artifact.plan is None else ()
            found.append(_not_finite(message, forest, features, rows[bad[0]], predictions[bad[0]]))
    return tuple(found)


def _sendable(features: tuple[Feature, ...], rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a request could contain each row, bool[B] for rows float64[B, F]."""
    low, high = np.array([limits_of(feature) for feature in features]).reshape(-1, 2).T
    whole = np.array([feature.kind != "number" for feature in features])
    missing = np.array([feature.takes_missing for feature in features])
    fits = (low <= rows) & (rows <= high) & ~(whole & (rows != np.floor(rows)))
    with np.errstate(over="ignore"):
        for column in (column for column, feature in enumerate(features) if feature.single):
            fits[:, column] &= rows[:, column] == rows[:, column].astype(np.float32)
    return np.asarray((fits | (missing & np.isnan(rows))).all(axis=1))


def _with_codes(features: tuple[Feature, ...], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose category columns hold what a request's values become: codes, and NaN in place of other numbers.

    LightGBM takes no number that is no code for a category, as it takes NaN.
    """
    columns = [column for column, feature in enumerate(features) if feature.kind == "category"]
    rows = rows.copy() if columns else rows
    for column in columns:
        codes = np.trunc(rows[:, column])
        known = (codes >= 0) & (codes < len(features[column].categories or ()))
        rows[:, column] = np.where(known, codes, np.nan)
    return rows


def _varied(features: tuple[Feature, ...], sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows like the sample, as `vary` makes them, with random codes in category columns, some of them missing."""
    rows, random = vary(sample), np.random.default_rng(1)
    for column, feature in enumerate(features):
        if feature.kind == "category":
            codes = random.integers(-1, max(1, len(feature.categories or ())), len(rows))
            rows[:, column] = np.where(codes < 0, np.nan, codes)
    return rows


def _not_finite(
    message: str,
    forest: Forest,
    features: tuple[Feature, ...],
    row: NDArray[np.float64],
    prediction: NDArray[np.float64],
) -> NotFinite:
    """Describe a row; `features` are the model's, or empty where the booster has other ones."""
    values = ", ".join(map(str, prediction.tolist()))
    told: dict[str, Category | None] = {}
    for index in np.flatnonzero(row != 0)[:MAX_FEATURES].tolist():
        told[forest.feature_names[index]] = None if np.isnan(row[index]) else float(row[index])
    for index, feature in enumerate(features):
        name = forest.feature_names[index]
        if feature.kind == "category" and (name in told or len(told) < MAX_FEATURES) and not np.isnan(row[index]):
            told[name] = values_of(feature)[int(row[index])]
    return NotFinite(message=message, prediction=values[:MAX_TEXT], features=told)


def check_interface(artifact: Artifact, current: ServedModel) -> None:
    """Refuse a model that would reject requests that the model in service answers, or answer in another shape.

    Raises:
        ModelRefused: The model lacks a feature or a level of intervals, requires a new feature, accepts less for one,
            has more or fewer outputs, or gives no labels.
    """
    old, new = ({feature.name: feature for feature in one.features} for one in (current.artifact, artifact))
    problems = [f"it does not take {name!r}" for name in old if name not in new]
    problems += [f"it requires {name!r}" for name in new if _required(new, name) and not _required(old, name)]
    problems += [
        f"its {name!r} is {new[name].kind}, not {old[name].kind}"
        for name in old
        if name in new and (old[name].kind, new[name].kind) not in TAKES_AS_MUCH
    ]
    problems += [
        f"its {name!r} has the narrower range {range_text(new[name])}"
        for name in old
        if name in new and not _contains(new[name].physical_range, old[name].physical_range)
    ]
    problems += [
        f"its {name!r} may not be missing"
        for name in old
        if name in new and old[name].required and old[name].takes_missing and not new[name].takes_missing
    ]
    problems += [
        f"its {name!r} does not take {lacking}"
        for name in old
        if name in new and (lacking := _lacking_categories(new[name], old[name]))
    ]
    if current.artifact.intervals is not None and not _offers(artifact.intervals, current.artifact.intervals):
        levels = ", ".join(map(str, current.artifact.intervals.levels))
        problems.append(f"it lacks intervals of the levels {levels}")
    if current.labels is not None and usable_labels(artifact.forest.objective, artifact.labels) is None:
        problems.append("it gives no class labels")
    if artifact.forest.n_outputs != current.artifact.forest.n_outputs:
        problems.append(f"it has {artifact.forest.n_outputs} outputs, not {current.artifact.forest.n_outputs}")
    if problems:
        raise ModelRefused(
            f"callers of version {current.identity.version} could not use it: {', '.join(problems[:5])} "
            "(pin it to serve it all the same)",
            "interface",
        )


def _contains(new: tuple[float, float] | None, old: tuple[float, float] | None) -> bool:
    return new is None or (old is not None and new[0] <= old[0] and old[1] <= new[1])


def _lacking_categories(new: Feature, old: Feature) -> str | None:
    """What a category of the model in service takes, and the new one refuses; None if there is no such value."""
    if old.kind != "category" or new.kind != "category":
        return None
    for holds, what in ((holds_text, "text"), (holds_numbers, "numbers")):
        if holds(old) and not holds(new):
            return what
    if new.unseen == "missing":
        return None
    if old.unseen == "missing":
        return "values that are none of its categories"
    lacking = codes_of(old).keys() - codes_of(new).keys()
    return f"{len(lacking)} of the categories" if lacking else None


def _offers(new: Intervals | None, old: Intervals) -> bool:
    return new is not None and new.default_level == old.default_level and set(old.levels) <= set(new.levels)


def _required(features: Mapping[str, Feature], name: str) -> bool:
    return name in features and features[name].required
