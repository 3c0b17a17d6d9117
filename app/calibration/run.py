"""The command `madrone calibrate`: a model loaded as the service does, calibrated, written, read back, registered."""

import contextlib
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from app.calibration.classifier import describe_binary, describe_several
from app.calibration.errors import CalibrationRefused
from app.calibration.intervals import CalibratedIntervals, Method, calibrate_intervals
from app.calibration.notes import about_model, about_rows, about_training, r_squared
from app.calibration.optimism import fitted_share
from app.calibration.report import CalibrationReport
from app.calibration.rows import Rows, read_labelled
from app.calibration.written import Added, put_directory, write_calibrated
from app.codecs.rules import FloatArray
from app.config.settings import Settings
from app.drift.profile import make_profile
from app.models.checks import check_scores
from app.models.directory import MAX_BOOSTER_BYTES, read_file
from app.models.loader import load_preferred
from app.models.objects.booster import stored_booster
from app.models.predictions.output import CLASSIFYING, meaning
from app.models.predictions.reliability import Reliability
from app.models.refusal import ModelRefused
from app.models.registry.publish import check_publishable, publish
from app.models.registry.source import ModelSource
from app.models.served import ServedModel

LEVELS = (0.8, 0.9, 0.95)

FROM_TAG = "madrone.calibrated_from"
ADDED_TAG = "madrone.calibration"
ROWS_TAG = "madrone.calibration_rows"
DATA_TAG = "madrone.calibration_sha256"
"""Tags of a calibrated version: the original's address, what was added, and the rows and hash of the data."""

OTHERS = {
    "score": "it ranks, and the size of its scores means nothing",
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
        CalibrationRefused: The model or the rows are not fit for it, or the output is not empty, or inside the model.
        NothingToServe: There is no such model.
        ModelRefused: The model cannot be served.
        RegistryUnreachable: The registry does not answer, or has the schema of another MLflow.
        mlflow.exceptions.MlflowException: The registry refuses the new version.
        sqlalchemy.exc.SQLAlchemyError: The registry's database cannot be opened.
        OSError: A file cannot be read or written.
    """
    if order.output is not None and order.output.exists() and any(order.output.iterdir()):
        raise CalibrationRefused(f"{order.output} is not empty")
    place = settings.place
    original = place.path.resolve() if place is not None and place.kind == "file" else None
    if order.output is not None and original is not None and order.output.resolve().is_relative_to(original):
        raise CalibrationRefused(f"{order.output} is inside the model, which stays as it is")
    if order.registry is not None:
        check_publishable(order.registry)
    served = load_preferred(settings, source)
    rows = read_labelled(order.data, served, order.target)
    prediction = served.engine.predict(rows.features)
    if bad := int((~np.isfinite(prediction)).reshape(len(rows.actual), -1).any(axis=1).sum()):
        raise CalibrationRefused(f"the model's prediction is not finite for {bad} of the rows")
    found = _calibrated(served, rows, prediction, order)
    intervals = found if isinstance(found, CalibratedIntervals) else None
    reliability = found if isinstance(found, Reliability) else None
    profile, artifact = None, served.artifact
    if artifact.profile is None:
        profile = make_profile(artifact.features, rows.features, prediction, "profile", artifact.watched)
    added = Added(intervals=intervals, reliability=reliability, profile=profile)
    address = f"models:/{served.identity.name}/{served.identity.version}"
    if place is not None:
        address = place.text
    with tempfile.TemporaryDirectory(prefix="madrone-calibrate-") as scratch:
        original = source.fetch(served.identity, Path(scratch)).directory
        source.build(original, artifact.digest)
        booster = stored_booster(read_file(original, artifact.files["booster"], MAX_BOOSTER_BYTES))
        share = fitted_share(booster.text, served.engine.transform(rows.features), rows.actual)
        calibrated = Path(scratch) / "calibrated"
        write_calibrated(original, calibrated, added)
        _check(calibrated, source, rows.features, prediction)
        version = None
        if order.registry is not None:
            version = _register(order, served, source, calibrated, address, added, rows)
        if order.output is not None:
            put_directory(calibrated, order.output)
    r2 = None if intervals is None else r_squared(prediction, rows.actual)
    levels = () if intervals is None else intervals.intervals.levels
    return CalibrationReport(
        model=address,
        version=served.identity.version,
        digest=artifact.digest,
        target=rows.target,
        rows=len(rows.actual),
        r2=r2,
        method=intervals and intervals.method,
        calibration_rows=intervals and intervals.intervals.calibration_rows,
        levels=() if intervals is None else intervals.measured,
        reliability=reliability,
        fitted_share=share,
        added=added.names,
        output=None if order.output is None else str(order.output),
        registered_version=version,
        notes=(
            *(about_rows(rows.target, rows.actual, r2, reliability) or about_training(share)),
            *about_model(served, levels, len(rows.actual)),
        ),
    )


def _calibrated(
    served: ServedModel, rows: Rows, prediction: FloatArray, order: Order
) -> CalibratedIntervals | Reliability:
    """Intervals of a regressor, or thresholds and reliability of a classifier."""
    objective = served.artifact.forest.objective
    kind, means = objective.partition(" ")[0], meaning(objective)
    of_intervals = [name for name, given in (("--levels", order.levels), ("--method", order.method)) if given]
    of_thresholds = [name for name, given in (("--precision", order.precisions), ("--recall", order.recalls)) if given]
    if kind in CLASSIFYING:
        if of_intervals:
            raise CalibrationRefused(f"{of_intervals[0]} is for regressors, and the model is a classifier")
        if kind == "binary":
            return describe_binary(prediction, rows.actual, order.precisions, order.recalls)
        if of_thresholds:
            raise CalibrationRefused(f"{of_thresholds[0]} is for binary classifiers, and the model has several classes")
        return describe_several(prediction, rows.actual)
    if means != "value":
        raise CalibrationRefused(OTHERS[means])
    if of_thresholds:
        raise CalibrationRefused(f"{of_thresholds[0]} is for binary classifiers, and the model is a regressor")
    own = served.artifact.intervals
    return calibrate_intervals(
        served.artifact,
        served.engine,
        rows.features,
        prediction,
        rows.actual,
        levels=order.levels or (LEVELS if own is None else own.levels),
        default_level=own and own.default_level,
        method=order.method or "normalised",
    )


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
    order: Order, served: ServedModel, source: ModelSource, directory: Path, address: str, added: Added, rows: Rows
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
            tags={FROM_TAG: address, ADDED_TAG: names, ROWS_TAG: str(len(rows.actual)), DATA_TAG: rows.sha256},
            alias=None,
            stage=None,
            beside=served.identity.run_id,
            description=f"Calibrated by madrone from {address}: {names}. Predictions are the same to the last bit.",
        )
