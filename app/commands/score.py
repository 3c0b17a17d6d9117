"""`madrone score`: files of rows scored to files."""

import gc
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from app.commands.common import check_openmp, keep_kernels, model_address, place_of, settings_of_model, stop
from app.score.options import FORMATS, ON_ERROR, ScoreOptions, ScoreRefused

MOST_NAMED = 5
"""Files of a folder that are named as left out."""

DELIMITER = r"[\x01-\x1f!-~](?<![\n\r\"A-Za-z0-9.+:-])"
"""Numbers and dates are written without quotes, so that what is in them cannot stand between them."""


class _Ended(BaseException):
    """A signal ends the command."""


class _Signals:
    """Ends the command at a signal. Imports and destructors may swallow that exception, so the signal is remembered.

    Attributes:
        number: The signal; None before there is one.
    """

    number: int | None = None

    def end(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        self.number = number
        raise _Ended(number)

    def check(self) -> None:
        """End the command if a signal has come."""
        if self.number is not None:
            raise _Ended(self.number)


def _columns(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...] | None:
    """Columns to keep; None for all."""
    if value == "all":
        return None
    return () if value == "none" else tuple(dict.fromkeys(value.split(",")))


def _renamed(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """The model's name of each renamed column."""
    pairs = [value.partition("=") for value in values]
    mine, theirs = [pair[0] for pair in pairs], [pair[2] for pair in pairs]
    if not all(mine) or not all(theirs):
        raise click.BadParameter("must be the input's name, =, and the model's name.", param=parameter)
    if len({*mine}) < len(mine) or len({*theirs}) < len(theirs):
        raise click.BadParameter("names a column or a feature twice.", param=parameter)
    return dict(zip(mine, theirs, strict=True))


def _explained(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[bool, int | None]:
    """Whether to explain, and by how many features; None for all."""
    if value is None or value == "all":
        return value is not None, None
    if (found := re.fullmatch(r"top=([1-9][0-9]{0,3})", value)) is None:
        raise click.BadParameter("must be all, or top= and a number from 1 to 9999.", param=parameter)
    return True, int(found[1])


def _delimiter(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """What is between cells; a tab may be written as such or as a backslash and t."""
    delimiter = "\t" if value == "\\t" else value
    if delimiter is not None and not re.fullmatch(DELIMITER, delimiter):
        raise click.BadParameter(
            "must be \\t or one character of ASCII that is in no number, date or quotes, such as ; or |.",
            param=parameter,
        )
    return delimiter


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--model", required=True, callback=model_address, help="Model, as for `madrone check`.")
@click.option("--output", required=True, metavar="OUT", help="File, folder for several inputs, or - (standard output).")
@click.option(
    "--format", "read", type=click.Choice(FORMATS), help="Format of INPUT. Default: by its suffix, before .gz and such."
)
@click.option("--output-format", "written", type=click.Choice(FORMATS), help="Format of OUT. Default: by its suffix.")
@click.option(
    "--delimiter",
    callback=_delimiter,
    help="Character between cells of CSV, read or written; \\t is a tab. Default: a tab for .tsv, else a comma.",
)
@click.option(
    "--keep",
    callback=_columns,
    default="all",
    show_default=True,
    help="Columns that OUT has as well: all that are no features, none, or names with commas.",
)
@click.option(
    "--map", "renamed", multiple=True, callback=_renamed, metavar="MINE=THEIRS", help="Input's name of a feature."
)
@click.option("--interval", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Level of lower and upper.")
@click.option("--labels", is_flag=True, help="Add the label of each row.")
@click.option(
    "--explain", callback=_explained, metavar="all|top=N", help="Add what each feature, or the N largest, add."
)
@click.option(
    "--on-error",
    type=click.Choice(ON_ERROR),
    default="fail",
    show_default=True,
    help="For rows that break the model's rules: fail, give no prediction, or leave them out.",
)
@click.option("--resume", is_flag=True, help="Keep finished parts until OUT is complete, and go on from those.")
def score(
    source: str, model: str, output: str, read: Any, written: Any, delimiter: str | None,
    keep: tuple[str, ...] | None, renamed: dict[str, str], interval: float | None, labels: bool,
    explain: tuple[bool, int | None], on_error: Any, resume: bool,
) -> None:  # fmt: skip
    """Score files of rows with a model.

    The rows of INPUT and their predictions are written to OUT. INPUT is a file, a folder with its subfolders, a
    pattern in quotes, or - (standard input); CSV and NDJSON may be compressed (gzip, bzip2, zstd). INPUT and OUT may be
    in S3 (s3://bucket/key). The exit status is 0 if all went well, 1 if the run failed or has bad rows with --on-error
    fail, 2 for bad usage, 128 and the number of the signal that ended it. OUT appears once it is complete.
    """
    options = ScoreOptions(
        keep=keep, renamed=renamed, level=interval, labels=labels, explain=explain[0], top=explain[1],
        on_error=on_error,
    )  # fmt: skip
    signals = _Signals()
    handlers = {number: signal.signal(number, signals.end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from app.score.places import is_stream  # which takes a while

        if resume and (is_stream(source) or is_stream(output)):
            raise click.UsageError("--resume needs files for INPUT and OUT.")
        if source == "-" and read is None:
            raise click.UsageError("Standard input needs --format.")
        _score_files(source, model, output, read, written, delimiter, options, signals, resume=resume)
    except _Ended as ended:
        how = (
            "The same command goes on from the finished parts."
            if resume
            else "Nothing of it is kept; a run with --resume keeps its finished parts."
        )
        click.echo(f"Ended by a signal; {output} is not complete. {how}", err=True)
        sys.exit(128 + int(ended.args[0]))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _score_files(
    source: str, model: str, output: str, read: Any, written: Any, delimiter: str | None, options: ScoreOptions,
    signals: _Signals, *, resume: bool,
) -> None:  # fmt: skip
    """Score the files, and tell what came of it."""
    settings = settings_of_model(model)
    check_openmp()
    keep_kernels(settings)

    from app.models.process.client import quiet_worker

    worker = quiet_worker(settings)  # it starts while the rest is imported

    from rich.console import Console

    from app.models.loader import load_preferred
    from app.models.refusal import ModelRefused
    from app.models.registry.source import NothingToServe, RegistryUnreachable
    from app.score.bad_rows import BadRows, counted
    from app.score.inputs import find_inputs
    from app.score.places import check_bucket, is_folder, is_remote, size_of, why
    from app.score.progress import shown_rows
    from app.score.run import Advance, forget_parts, jobs_of, score_job
    from app.score.scorer import Scorer
    from app.score.search import is_pattern, root_of

    bad = BadRows()
    try:
        several = "-" not in (source, output) and (is_folder(source) or is_folder(output) or is_pattern(source))
        inputs, others = ([], []) if source == "-" else find_inputs(source, output, read)
        if others:
            named = ", ".join(others[:MOST_NAMED])
            more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            click.echo(f"Left out, since their names tell no format (--format would): {named}{more}.", err=True)
        jobs = jobs_of(
            inputs, output, read, written, settings.data_dir / "score",
            root=root_of(source) if several else None, delimiter=delimiter,
        )  # fmt: skip
        if is_remote(output):
            check_bucket(output)
        sizes = [size_of(job.source) for job in jobs]
        scorer = Scorer(load_preferred(settings, worker), options)
        signals.check()
        if several and not is_remote(output):
            for folder in dict.fromkeys(Path(job.target).parent for job in jobs):
                folder.mkdir(parents=True, exist_ok=True)
        gc.freeze()  # what is imported and loaded stays; to search it for garbage would stop all threads
        with shown_rows(Console(stderr=True)) as counter:
            for number, job in enumerate(jobs):
                note = counter.of(sizes, number)

                def advance(rows: int, share: float | None, note: Advance = note) -> None:
                    signals.check()
                    note(rows, share)

                try:
                    found = score_job(scorer, job, advance, resume=resume)
                except ScoreRefused as error:
                    if not several or job.source in str(error):
                        raise
                    raise ScoreRefused(f"{job.source}: {error}") from error
                bad.merge(found, job.source if several else "")
        seconds, now = counter.seconds, counter.rows
        if resume:
            forget_parts(jobs)
    except ScoreRefused as error:
        stop(str(error))
    except (ModelRefused, NothingToServe, RegistryUnreachable) as error:
        stop(f"{model} cannot be served: {str(error).removeprefix('MODEL_PATH: ')}.")
    except OSError as error:
        stop(f"The run failed: {place_of(error)}{why(error)}.")
    finally:
        worker.close()
    if bad.rows:
        click.echo(bad.described(), err=True)
    before = f", {bad.seen - now} of them by an earlier run" if bad.seen > now else ""
    ended = f"{counted(bad.seen, 'row')}{before} in {seconds:.1f} s, {now / seconds:.0f} rows/s"
    click.echo(f"{ended}, {counted(bad.rows, 'bad row')}", err=True)
