"""`madrone calibrate`: intervals or thresholds for a model, from rows that it was not fitted on."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import click

from app.address import parse_address
from app.commands.common import (
    check_openmp,
    keep_kernels,
    model_address,
    place_of,
    settings_of_environment,
    settings_of_model,
    stop,
)


def _levels(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Levels that were given to the command, ascending; others than shares are bad usage."""
    if value is None:
        return None
    try:
        levels = tuple(sorted({float(level) for level in value.split(",")}))
    except ValueError as error:
        raise click.BadParameter("must be numbers with commas between them.", param=parameter) from error
    if not all(0 < level < 1 for level in levels) or len(levels) > 100:
        raise click.BadParameter("must be above 0 and below 1, and at most 100.", param=parameter)
    return levels


class _Share(click.FloatRange):
    """A number above 0, and at most 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = super().convert(value, param, ctx)
        if share != share:  # NaN is in every range
            self.fail("nan is no number.", param, ctx)
        return share


SHARE = _Share(0, 1, min_open=True)


@click.command(short_help="Add intervals or thresholds to a model.")
@click.argument("model", callback=model_address)
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
    help="Rows that the model was NOT fitted on: a .csv or .parquet file with its features and the target.",
)  # fmt: skip
@click.option("--target", help="Column with the actual values. Default: the only column that is no feature.")
@click.option(
    "--levels", callback=_levels,
    help="Levels of the intervals, such as 0.8,0.95. Default: those that the model has, else 0.8,0.9,0.95.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["normalised", "plain"]),
    help="normalised (default): widths follow an error that a second forest predicts. plain: one width for all rows.",
)  # fmt: skip
@click.option("--precision", type=SHARE, multiple=True, help="Also find the threshold that reaches this precision.")
@click.option("--recall", type=SHARE, multiple=True, help="Also find the threshold that reaches this recall.")
@click.option(
    "--register", is_flag=True,
    help="Register it as the next version of the same model, in the registry that MODEL (models:/…) is in.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Directory to write it to; empty or new."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def calibrate(
    model: str, data: Path, target: str | None, levels: tuple[float, ...] | None,
    method: Literal["normalised", "plain"] | None, precision: tuple[float, ...], recall: tuple[float, ...],
    register: bool, output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Calibrate MODEL on rows of a file: intervals for a regressor, reliability and thresholds for a classifier.

    MODEL is a file, a directory or an address, as for `madrone check`. Rows that it was fitted on make intervals too
    narrow and probabilities too good. Coverage and thresholds are measured on rows that were kept back for that. The
    booster and its predictions stay as they are. A profile for drift is added if the model has none. No alias is moved.
    Without --register and --output nothing is written. The exit status is 0 if the model was calibrated, 1 if not.
    """
    registered = parse_address(model).kind == "registered"
    if register and not registered:
        raise click.UsageError("--register is for a model of a registry, models:/…; --output DIR writes a directory.")
    if register and output is not None:
        raise click.UsageError("Give one of --register and --output.")
    environ = {name: value for name, value in os.environ.items() if name != "MODEL_PATH"}
    registry = settings_of_environment(environ)
    if registered and registry.embedded_registry:
        if not (registry.data_dir / "mlflow.db").exists():
            stop("MLFLOW_TRACKING_URI is not set, and DATA_DIR has no embedded registry.")
        environ["MLFLOW_TRACKING_URI"] = registry.tracking_uri
    settings = settings_of_model(model, environ)
    check_openmp()
    keep_kernels(settings)

    import msgspec
    from mlflow.exceptions import MlflowException
    from rich.console import Console
    from sqlalchemy.exc import SQLAlchemyError

    from app.calibration.errors import CalibrationRefused
    from app.calibration.report import describe_calibration
    from app.calibration.run import Order, calibrate_model
    from app.files import reason
    from app.models.process.client import quiet_worker
    from app.models.refusal import ModelRefused
    from app.models.registry.faults import fault_kind, without_credentials
    from app.models.registry.source import NothingToServe, RegistrySchema, RegistryUnreachable
    from app.models.watch.profiling import SUFFIXES

    if data.suffix not in SUFFIXES:
        raise click.BadParameter(f"{data} ends in none of {', '.join(SUFFIXES)}.", param_hint="--data")
    if register and not registry.embedded_registry:
        click.echo("--register writes a new version to the registry that MLFLOW_TRACKING_URI names.", err=True)
    order = Order(
        data=data,
        target=target,
        levels=levels,
        method=method,
        precisions=precision,
        recalls=recall,
        output=output,
        registry=registry if register else None,
    )
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it logs what it raises, with its stack
    source = quiet_worker(settings)
    try:
        with Console(stderr=True).status("Calibrating"):
            report = calibrate_model(settings, source, order)
    except CalibrationRefused as error:
        stop(f"{model} cannot be calibrated: {error}.")
    except RegistrySchema as error:
        stop(f"The registry cannot be used: {error}.")
    except (ModelRefused, NothingToServe, RegistryUnreachable) as error:
        stop(f"{model} cannot be served: {str(error).removeprefix('MODEL_PATH: ')}.")
    except MlflowException as error:
        stop(f"The registry refuses the new version: {without_credentials(error.message)}")
    except SQLAlchemyError as error:
        stop(f"The registry's database cannot be used: {fault_kind(error)}.")
    except OSError as error:
        stop(f"The model could not be calibrated: {place_of(error)}{reason(error)}.")
    finally:
        source.close()
    click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2) if as_json else describe_calibration(report))
