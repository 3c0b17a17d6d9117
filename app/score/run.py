"""Files of rows scored to files: `madrone score`."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from app.files import make_directory
from app.score.bad_rows import BadRows
from app.score.csv_rows import delimiter_of
from app.score.inputs import format_of, format_to_write, read_pieces
from app.score.options import Format, ScoreRefused
from app.score.output import Output, whole_file
from app.score.packed import without_packing
from app.score.parts import Parts, PartWriter, remove_parts
from app.score.pipeline import ScoredPiece, score_pieces
from app.score.places import STANDARD, inside, is_remote, is_stream, real, stamp, upload
from app.score.scorer import Scorer
from app.score.search import below

Advance = Callable[[int, float | None], None]
"""Takes the number of rows that were scored, and the share of the input that is done with them, if that is known."""


class Job(NamedTuple):
    """One input and its output.

    Attributes:
        source: Path of the input, or `-`.
        target: Path of the output, or `-`.
        made: Path at which the output is made: on this machine, also for an output elsewhere.
        input: Format of the input.
        output: Format of the output.
        delimiters: What is between cells of the input and of the output, where these are CSV.
    """

    source: str
    target: str
    made: str
    input: Format
    output: Format
    delimiters: tuple[str, str]


def jobs_of(
    inputs: list[str], target: str, given: Format | None, output: Format | None, work: Path, *,
    root: str | None = None, delimiter: str | None = None,
) -> list[Job]:  # fmt: skip
    """An output for each input: the target, or a file of the same path in that folder.

    Args:
        inputs: Files; none for standard input.
        target: Path of the output.
        given: Format of the inputs, unless their names tell.
        output: Format of the outputs, unless their names tell.
        work: Folder where outputs are made that go elsewhere.
        root: Folder of the inputs, from which on their paths are kept in the target, which is a folder; None where the
            target is a file.
        delimiter: What is between cells of CSV, unless names tell.

    Raises:
        ScoreRefused: A name does not tell its format, or an output would be an input or another's.
    """
    if Path(target).is_file() if root is not None else len(inputs) > 1:
        raise ScoreRefused("Several inputs need a folder for --output.")
    jobs: list[Job] = []
    for source in inputs or [STANDARD]:
        read, alike = format_of(source, given), output is None and target == STANDARD
        if root is not None:
            name = below(root, without_packing(source))
            path, written = inside(target, str(name.with_suffix(f".{output}") if output else name)), output or read
        else:
            path, written = target, read if alike else format_to_write(target, output)
        delimiters = delimiter_of(source, delimiter), delimiter_of(source if alike else path, delimiter)
        jobs.append(Job(source, path, _made(path, work), read, written, delimiters))
    first: dict[str, str] = {}
    for job in jobs:
        if (other := first.setdefault(real(job.target), job.source)) != job.source:
            raise ScoreRefused(f"The outputs of {other} and {job.source} would be one file, {job.target}.")
    if {*first} & {real(path) for path in inputs}:
        raise ScoreRefused("The output would replace an input.")
    if delimiter and not any("csv" in (job.input, job.output) for job in jobs):
        raise ScoreRefused("--delimiter is for CSV, and there is none to read or write.")
    return jobs


def _made(target: str, work: Path) -> str:
    if not is_remote(target):
        return target
    return str(work / hashlib.sha256(target.encode()).hexdigest()[:16] / Path(target).name)


def score_job(scorer: Scorer, job: Job, advance: Advance, *, resume: bool) -> BadRows:
    """Score an input to its output, which appears whole or not at all.

    Args:
        scorer: Scores record batches.
        job: The input and the output.
        advance: Told of rows as they are scored.
        resume: Whether finished parts are kept beside the output until it is complete, and those of an earlier run
            are used.

    Returns:
        How many rows the input has, and which of them are bad.

    Raises:
        ScoreRefused: The input cannot be scored, or has bad rows and these are to fail.
        OSError: The output cannot be written.
    """
    if not is_remote(job.target):
        return _make(scorer, job, advance, resume=resume)
    made = Path(job.made)
    make_directory(made.parent, parents=True)
    try:
        bad = _make(scorer, job, advance, resume=resume)
        upload(made, job.target)
        return bad
    finally:
        made.unlink(missing_ok=True)
        with suppress(OSError):
            made.parent.rmdir()  # unless it has parts, or another run's


def _make(scorer: Scorer, job: Job, advance: Advance, *, resume: bool) -> BadRows:
    if not resume:
        with whole_file(job.made) as sink:
            return _score(scorer, job, sink, advance)
    manifest = {
        "model": scorer.served.artifact.digest,
        "options": msgspec.to_builtins(scorer.options),
        "input": stamp(job.source),
        "format": [job.input, job.output, *job.delimiters],
    }
    with whole_file(job.made) as sink:
        parts = Parts(Path(job.made), manifest)
        bad = parts.report()
        _score_parts(scorer, job, parts, bad, advance)
        with ExitStack() as stack:
            writer: Output | None = None
            for batch in parts.batches():
                writer = writer or stack.enter_context(
                    Output(sink, job.output, batch.schema, stream=False, delimiter=job.delimiters[1])
                )
                writer.write(batch)
    return bad


def forget_parts(jobs: list[Job]) -> None:
    """Remove the finished parts of all outputs, once all are complete: until then, none is scored again."""
    for job in jobs:
        remove_parts(Path(job.made))
        if is_remote(job.target):
            with suppress(OSError):
                Path(job.made).parent.rmdir()


def _score(scorer: Scorer, job: Job, sink: Any, advance: Advance) -> BadRows:
    bad, stream = BadRows(), is_stream(job.target)
    writer: Output | None = None
    with ExitStack() as stack:
        for piece, (batch, _) in stack.enter_context(closing(_scored(scorer, job, bad))):
            writer = writer or stack.enter_context(
                Output(sink, job.output, batch.schema, stream=stream, delimiter=job.delimiters[1])
            )
            writer.write(batch)
            advance(piece.batch.num_rows, piece.share)
    return bad


def _score_parts(scorer: Scorer, job: Job, parts: Parts, bad: BadRows, advance: Advance) -> None:
    """Score the unfinished parts of an input, and add their rows to those of the finished ones."""
    current: tuple[int, PartWriter] | None = None
    with ExitStack() as stack:
        for piece, (batch, found) in stack.enter_context(closing(_scored(scorer, job, bad, parts.finished))):
            if current is not None and current[0] != piece.part:
                current[1].finish()
                current = None
            if current is None:
                writer = stack.enter_context(closing(parts.writer(piece.part, batch.schema)))
                current = piece.part, writer
            current[1].add(batch, found)
            advance(piece.batch.num_rows, piece.share)
        if current is not None:
            current[1].finish()


def _scored(scorer: Scorer, job: Job, bad: BadRows, finished: int = 0) -> Generator[ScoredPiece]:
    """The scored pieces of an input but for its finished parts; their rows are added to `bad`."""
    pieces = read_pieces(job.source, job.input, scorer.features, scorer.wanted, finished, job.delimiters[0])
    scored = score_pieces(pieces, lambda piece: scorer.scored(piece.batch, text=piece.text, unread=piece.unread))
    with closing(scored):
        for one in scored:
            bad.merge(one.scored.bad)
            if bad.rows and scorer.options.on_error == "fail":
                raise ScoreRefused(bad.described())
            yield one
