"""The command `madrone calibrate`: a model loaded as the service does, calibrated, written, read back, registered."""

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from app.calibration.classifier import describe_classifier
from app.calibration.errors import CalibrationRefused
from app.calibration.intervals import CalibratedIntervals, Method, calibrate_intervals
from app.calibration.optimism import SUSPICIOUS, fitted_share
from app.calibration.report import CalibrationReport
from app.calibration.rows import Rows, read_labelled
from app.calibration.written import Added, write_calibrated
from app.codecs.rules import FloatArray
from app.config.contradictions import LEAST_BASELINE
from app.config.settings import Settings
from app.drift.profile import make_profile
from app.models.checks import check_scores
from app.models.directory import MAX_BOOSTER_BYTES, read_file
from app.models.loader import load_preferred
from app.models.objects.booster import stored_booster
from app.models.output import meaning
from app.models.refusal import ModelRefused
from app.models.registry.publish import check_publishable, publish
from app.models.registry.source import ModelSource
from app.models.reliability import Reliability
from app.models.served import ServedModel

LEVELS = (0.8, 0.9, 0.95)

FROM_TAG = "madrone.calibrated_from"
ADDED_TAG = "madrone.calibration"
ROWS_TAG = "madrone.calibration_rows"
DATA_TAG = "madrone.calibration_sha256"
"""Tags of a calibrated version: the original's address, what was added, and the rows and hash of the data."""

OTHERS = {
    "score": "it ranks, and the size of its scores means nothing",
    "probabilities": "it predicts more than two classes; intervals are for regressors, thresholds for binary models",
    "raw_score": "its objective is its owner's own, and what its scores mean is not known",
    "probability": "its objective is cross_entropy, whose targets are shares",
}
"""Why a model is not calibrated, by the meaning of its predictions."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        data: CSV or Parquet file.
        target: Column of the actual values; None for the one that is no feature.
        levels: Levels of the intervals; None for those of the model, or `LEVELS`.
        method: Method of the intervals; None for `normalised`.
        precisions: Precisions that thresholds are to reach.
        recalls: Recalls that they are to reach.
        output: Directory to write to.
        registry: Settings with the registry to write to; None to write to none.
    """

    data: Path
    target: str | None = None
    levels: tuple[float, ...] | None = None
    method: Method | None = None
    precisions: tuple[float, ...] = ()
    recalls: tuple[float, ...] = ()
    output: Path | None = None
    registry: Settings | None = None


def calibrate_model(settings: Settings, source: ModelSource, order: Order) -> CalibrationReport:
    """Calibrate the model that the settings prefer.

    Args:
        settings: Settings that name the model.
        source: Its registry or place, which the caller closes.
        order: What to do.

    Raises:
        CalibrationRefused: The model or the rows are not fit for it, or the output is not empty.
        NothingToServe: There is no such model.
        ModelRefused: The model cannot be served.
        RegistryUnreachable: The registry does not answer.
        mlflow.exceptions.MlflowException: The registry refuses the new version.
        OSError: A file cannot be read or written.
    """
    if order.output is not None and order.output.exists() and any(order.output.iterdir()):
        raise CalibrationRefused(f"{order.output} is not empty")
    if order.registry is not None:
        check_publishable(order.registry)
    served = load_preferred(settings, source)
    rows = read_labelled(order.data, served, order.target)
    prediction = served.engine.predict(rows.features)
    if bad := int((~np.isfinite(prediction)).sum()):
        raise CalibrationRefused(f"the model's prediction is not finite for {bad} of the rows")
    found = _calibrated(served, rows, prediction, order)
    with tempfile.TemporaryDirectory(prefix="madrone-calibrate-") as scratch:
        original = source.fetch(served.identity, Path(scratch)).directory
        source.build(original, served.artifact.digest)
        booster = stored_booster(read_file(original, served.artifact.files["booster"], MAX_BOOSTER_BYTES))
        share = fitted_share(booster.text, served.engine.transform(rows.features), rows.actual)
        profile = None
        if served.artifact.profile is None:
            profile = make_profile(
                served.artifact.features, rows.features, prediction, "profile", served.artifact.watched
            )
        intervals = found if isinstance(found, CalibratedIntervals) else None
        reliability = found if isinstance(found, Reliability) else None
        added = Added(intervals=intervals, reliability=reliability, profile=profile)
        calibrated = Path(scratch) / "calibrated"
        write_calibrated(original, calibrated, added)
        _check(calibrated, source, rows.features, prediction)
        address = f"models:/{served.identity.name}/{served.identity.version}"
        if settings.place is not None:
            address = settings.place.text
        version = None
        if order.registry is not None:
            version = _register(order, served, source, calibrated, address, added, len(rows.actual))
        if order.output is not None:
            shutil.copytree(calibrated, order.output, dirs_exist_ok=True)
    return CalibrationReport(
        model=address,
        version=served.identity.version,
        digest=served.artifact.digest,
        target=rows.target,
        rows=len(rows.actual),
        method=intervals and intervals.method,
        calibration_rows=intervals and intervals.intervals.calibration_rows,
        levels=() if intervals is None else intervals.measured,
        reliability=reliability,
        fitted_share=share,
        added=added.names,
        output=None if order.output is None else str(order.output),
        registered_version=version,
        notes=_notes(share, len(rows.actual), own_profile=profile is None),
    )


def _calibrated(
    served: ServedModel, rows: Rows, prediction: FloatArray, order: Order
) -> CalibratedIntervals | Reliability:
    """Intervals of a regressor, or thresholds and reliability of a binary classifier."""
    objective = served.artifact.forest.objective
    means = meaning(objective)
    of_intervals = [name for name, given in (("--levels", order.levels), ("--method", order.method)) if given]
    of_thresholds = [name for name, given in (("--precision", order.precisions), ("--recall", order.recalls)) if given]
    if means == "value":
        if of_thresholds:
            raise CalibrationRefused(f"{of_thresholds[0]} is for binary classifiers, and the model is a regressor")
        own = served.artifact.intervals
        return calibrate_intervals(
            served.artifact,
            served.engine,
            rows.features,
            rows.actual,
            levels=order.levels or (LEVELS if own is None else own.levels),
            default_level=own and own.default_level,
            method=order.method or "normalised",
        )
    if objective.partition(" ")[0] != "binary":
        raise CalibrationRefused(OTHERS[means])
    if of_intervals:
        raise CalibrationRefused(f"{of_intervals[0]} is for regressors, and the model is a classifier")
    return describe_classifier(prediction, rows.actual, order.precisions, order.recalls)


def _check(directory: Path, source: ModelSource, rows: FloatArray, prediction: FloatArray) -> None:
    """Read the written model as the service does, and compare its predictions."""
    try:
        artifact = source.build(directory, None).artifact()
        engine = artifact.engine()
        check_scores(artifact, engine, directory, source.raw_scores)
    except ModelRefused as error:
        raise CalibrationRefused(f"the calibrated model would not be served: {error}") from error
    if not np.array_equal(engine.predict(rows).view(np.uint64), prediction.view(np.uint64)):
        raise CalibrationRefused("the calibrated model does not predict as the original")


def _register(
    order: Order, served: ServedModel, source: ModelSource, directory: Path, address: str, added: Added, rows: int
) -> str:
    """Register the directory as the next version of the same model, without an alias or a stage."""
    assert order.registry is not None
    names = ", ".join(added.names)
    with tempfile.TemporaryDirectory(prefix="madrone-card-") as scratch:
        card = None
        with contextlib.suppress(Exception):  # a run that is gone, or whose files cannot be fetched: no card
            card = source.card(served.identity, Path(scratch))
        return publish(
            order.registry,
            directory,
            card=card,
            name=served.identity.name,
            params={},
            metrics=served.metrics,
            tags={
                FROM_TAG: address,
                ADDED_TAG: names,
                ROWS_TAG: str(rows),
                DATA_TAG: hashlib.sha256(order.data.read_bytes()).hexdigest(),
            },
            alias=None,
            stage=None,
            description=f"Calibrated by madrone from {address}: {names}. Predictions are the same to the last bit.",
        )


def _notes(share: float | None, rows: int, *, own_profile: bool) -> tuple[str, ...]:
    notes: list[str] = []
    if share is not None and share > SUSPICIOUS:
        notes.append(
            f"The last trees fit these rows as if the model had been fitted on them ({share:.2f}; such rows give 1). "
            "If it was, errors on new rows will be larger. Where it has few trees, other rows may give 1, too."
        )
    if own_profile:
        notes.append("The model has a profile for drift of its own, which stays.")
    elif rows < LEAST_BASELINE:
        notes.append(f"Chance alone moves a profile of so few rows: take {LEAST_BASELINE} or expect false alarms.")
    return tuple(notes)
