"""`madrone replay`: logged rows scored by another version of the model."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import click

from app.commands.common import (
    check_openmp,
    keep_kernels,
    model_address,
    settings_of_environment,
    settings_of_model,
    settings_of_name,
    stop,
)
from app.replay.period import parse_time


def _time(_: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """A time that was given to the command; one that is none is bad usage."""
    try:
        return None if value is None else parse_time(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param=parameter) from error


@click.command(short_help="Score logged rows with another version, and compare.")
@click.option("--since", required=True, callback=_time, help="First time: 2026-03-01T12:00:00Z, a date, or 24h (ago).")
@click.option("--until", callback=_time, help="Time before which the rows were logged. Default: now.")
@click.option("--alias", help="Alias of the version to replay with.")
@click.option("--version", type=click.IntRange(1), help="Number of the version to replay with.")
@click.option("--model", callback=model_address, help="Model to replay with, as for `madrone check`.")
@click.option("--name", help="Name of the model, of several in MODEL_NAMES. Default: the first.")
@click.option("--limit", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True, help="Most rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for all rows, as NDJSON.")
def replay(
    since: datetime, until: datetime | None, alias: str | None, version: int | None, model: str | None,
    name: str | None, limit: int, as_json: bool, output: Path | None,
) -> None:  # fmt: skip
    """Score logged rows with another version of the model, and report the differences.

    Rows are those of the prediction log of MODEL_NAME or --name, the newest first. Without --alias, --version or
    --model they are replayed with the version that the service would choose. The exit status is 0 if rows were
    replayed, 1 if not.
    """
    if sum(given is not None for given in (alias, version, model)) > 1:
        raise click.UsageError("Give one of --alias, --version and --model.")
    settings = settings_of_name(name, settings_of_environment())
    check_openmp()
    keep_kernels(settings)

    import msgspec

    from app.models.process.client import WorkerProcess
    from app.replay.report import describe_replay
    from app.replay.rows import Selection
    from app.replay.run import ReplayFailed, load_version, open_log
    from app.replay.run import replay as replay_rows

    quiet = {"log_level": "ERROR", "api_debug": False, "model_canary_alias": None, "model_shadow_alias": None}
    chosen = settings
    if model is not None:
        chosen = settings_of_model(model)
    elif alias is not None or version is not None:
        chosen = msgspec.structs.replace(settings, model_path=None, model_alias=alias)
    chosen = msgspec.structs.replace(chosen, **quiet)
    source = WorkerProcess(chosen)
    try:
        with contextlib.ExitStack() as stack:
            rows = open_log(settings.prediction_log_target)
            stack.callback(rows.close)
            file = None if output is None else stack.enter_context(output.open("wb"))
            served = load_version(chosen, source, None if version is None else str(version))
            report = replay_rows(rows, Selection(settings.model_name, since, until, limit), served, file)
    except ReplayFailed as error:
        stop(str(error))
    except OSError as error:
        stop(f"The file cannot be written: {error.strerror}.")
    finally:
        source.close()
    click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2) if as_json else describe_replay(report))
