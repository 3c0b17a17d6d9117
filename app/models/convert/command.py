"""The command `madrone convert`: what it will run, the conversion, the comparison, and where the model goes."""

import contextlib
import io
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import click
import msgspec
from mlflow.exceptions import MlflowException
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from app.config.settings import Settings
from app.models.convert.conversion import Conversion, convert
from app.models.convert.refused import ConversionRefused
from app.models.convert.sample import Sample, read_sample
from app.models.convert.stored import UnloadedModel, find_stored
from app.models.convert.wrapped import Wrapped, find_model
from app.models.convert.written import write
from app.models.registry.access import HTTP_RETRIES
from app.models.registry.database import check_schema
from app.models.registry.faults import fault_kind, without_credentials
from app.models.registry.publish import check_publishable, publish
from app.models.registry.source import RegistrySchema

FROM_TAG = "madrone.converted_from"
RUN_TAG = "madrone.converted_from_run"
"""Tags of a converted version: the original's address and run."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where the converted model goes.

    Attributes:
        name: Name to register it under, if any.
        alias: Alias for the new version, if any.
        output: Directory to write it to, if any.
    """

    name: str | None
    alias: str | None
    output: Path | None


def run(
    settings: Settings,
    *,
    model_uri: str,
    name: str | None,
    alias: str | None,
    output: Path | None,
    data: Path | None,
    unseen_as_missing: bool,
    yes: bool,
) -> str | None:
    """Convert as the command's options say.

    Returns:
        Why it failed, or None.

    Raises:
        click.UsageError: The options do not fit, or nobody can be asked.
    """
    if name is None and output is None:
        raise click.UsageError("Say where the converted model goes: --register NAME, --output DIR, or both.")
    if alias is not None and name is None:
        raise click.UsageError("--alias needs --register NAME.")
    # MLflow would refuse them after the model is converted, and an alias after the version is registered.
    if name is not None and (not name.strip() or re.search("[/:]", name)):
        raise click.UsageError("--register takes a name without / and :, which is not empty.")
    if alias is not None and (not re.fullmatch(r"[\w-]+", alias) or re.fullmatch("(?i)latest|v[0-9]+", alias)):
        raise click.UsageError(
            "--alias takes letters, digits, _ and -, and neither latest nor the number of a version."
        )

    def confirm() -> None:
        if yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here whether to load it: give --yes if you trust it.")
        if not click.confirm("Load it?"):
            raise ConversionRefused("Nothing was loaded.")

    try:
        convert_model(
            settings,
            model_uri,
            Destination(name=name, alias=alias, output=output),
            data=data,
            unseen_as_missing=unseen_as_missing,
            confirm=confirm,
        )
    except (ConversionRefused, FileExistsError) as error:
        return str(error)
    except RegistrySchema as error:
        unset = " (MLFLOW_TRACKING_URI is not set)" if settings.embedded_registry else ""
        return f"{error}{f': {error.detail}' if error.detail else ''}{unset}"
    except MlflowException as error:
        return f"MLflow refuses: {without_credentials(error.message)}"
    except SQLAlchemyError as error:
        return f"the registry's database cannot be opened: {fault_kind(error)}"
    except OSError as error:
        return f"a file cannot be read or written: {error.strerror}: {error.filename}"
    return None


def convert_model(
    settings: Settings,
    uri: str,
    destination: Destination,
    *,
    data: Path | None,
    unseen_as_missing: bool,
    confirm: Callable[[], None],
) -> None:
    """Convert a model, print what is done, and write or register the result.

    Args:
        settings: Settings that name the registry.
        uri: Directory of the model, or its address in MLflow.
        destination: Where the converted model goes.
        data: CSV or Parquet file of rows to compare with, in place of the input example.
        unseen_as_missing: See `fold`.
        confirm: Called before anything of the model is run; it does not return without consent.

    Raises:
        ConversionRefused: The model cannot be converted.
        FileExistsError: `output` is not empty.
        RegistrySchema: The registry is a database with the schema of another MLflow.
        mlflow.exceptions.MlflowException: The registry refuses or does not answer.
    """
    console = Console(soft_wrap=True, highlight=False)
    output = destination.output
    if output is not None and output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty.")
    if destination.name is not None:
        check_publishable(settings)
    _use_registry(settings, uri)
    with tempfile.TemporaryDirectory(prefix="madrone-convert-") as scratch:
        with _quiet():
            stored = find_stored(uri, Path(scratch) / "original")
        console.print(f"{stored.uri} will be loaded in this process, which runs the code in it:", markup=False)
        for name, value in stored.description:
            console.print(f"  {name}: {value}", markup=False)
        confirm()
        with _quiet():
            pyfunc, thing = stored.load()
            wrapped = find_model(thing)
            console.print(f"Loaded: {_kind(thing, wrapped)}", markup=False)
            sample = _sample(stored, wrapped, data)
            with console.status(f"Comparing on {len(sample.rows)} rows"):
                conversion = convert(wrapped, pyfunc, sample, unseen_as_missing=unseen_as_missing)
            directory = destination.output or Path(scratch) / "converted"
            write(directory, conversion, sample, with_example=data is None)
        _tell(console, conversion, sample)
        if destination.output is not None:
            console.print(f"Written to {destination.output}", markup=False)
        if destination.name is not None:
            with _quiet():
                version = _register(settings, stored, directory, destination.name, destination.alias)
            alias = f", alias {destination.alias}" if destination.alias else ""
            console.print(f"Registered {destination.name} version {version}{alias}", markup=False)


def _tell(console: Console, conversion: Conversion, sample: Sample) -> None:
    """Print what was compared, and what is different from the original."""
    unread = [str(name) for index, name in enumerate(sample.rows.columns) if index not in conversion.columns]
    if unread:
        console.print(f"Columns that are not used, and that callers must not send: {', '.join(unread)}", markup=False)
    for sentence in conversion.agreed:
        console.print(f"Compared: {sentence}", markup=False)
    for note in conversion.notes:
        console.print(f"Note: {note}", markup=False)
    if len(sample.rows) < 10:
        console.print("Note: more rows make a better proof: --data FILE", markup=False)


def _use_registry(settings: Settings, uri: str) -> None:
    """Point MLflow, in this process, to the registry of the settings, without changing its schema.

    Raises:
        RegistrySchema: The registry is a database with the schema of another MLflow.
    """
    if uri.startswith(("models:", "runs:", "mlflow-artifacts:")):
        for address in {settings.tracking_uri, settings.registry_uri}:
            check_schema(address)
    # MLflow's default of 7 retries takes minutes where nobody answers.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(HTTP_RETRIES))
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    os.environ["MLFLOW_REGISTRY_URI"] = settings.registry_uri


def _kind(thing: Any, wrapped: Wrapped) -> str:
    kind = type(thing).__name__
    if not wrapped.path:
        return kind
    count = len(wrapped.steps)
    steps = f", after {count} step{'s' if count > 1 else ''}" if count else ""
    return f"{kind}, with {type(wrapped.model).__name__} at {wrapped.path}{steps}"


def _sample(stored: UnloadedModel, wrapped: Wrapped, data: Path | None) -> Sample:
    from mlflow.models import Model

    names = getattr(wrapped.outer, "feature_names_in_", None)
    if names is None and not wrapped.steps:
        names = wrapped.booster.feature_name()
        if all(name == f"Column_{index}" for index, name in enumerate(names)):
            names = None
    model = Model.load(str(stored.directory))
    return read_sample(model, stored.directory, None if names is None else tuple(map(str, names)), data)


def _register(settings: Settings, stored: UnloadedModel, directory: Path, name: str, alias: str | None) -> str:
    """Register the directory; returns the version."""
    from mlflow import MlflowClient

    tags = {FROM_TAG: stored.uri}
    metrics: dict[str, float] = {}
    of_run = ""
    if stored.run_id:
        tags[RUN_TAG] = stored.run_id
        of_run = f" of run {stored.run_id}"
        with contextlib.suppress(Exception):  # a run of another registry, or one that was deleted
            metrics = dict(MlflowClient().get_run(stored.run_id).data.metrics)
    return publish(
        settings,
        directory,
        name=name,
        params={},
        metrics=metrics,
        tags=tags,
        alias=alias,
        stage=None,
        description=f"Converted by madrone from {stored.uri}{of_run}. Predictions are equal to the last bit.",
    )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the progress bars and advice that MLflow prints to the terminal."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):
        yield
