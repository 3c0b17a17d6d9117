"""Files of rows scored to files: `madrone score`."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from app.score.bad_rows import BadRows
from app.score.inputs import STANDARD, format_of, read_pieces, stamp
from app.score.options import Format, ScoreRefused
from app.score.output import Output, whole_file
from app.score.parts import Parts, PartWriter, remove_parts
from app.score.pipeline import ScoredPiece, score_pieces
from app.score.scorer import Scorer

Advance = Callable[[int], None]
"""Takes the number of rows that were scored."""


class Job(NamedTuple):
    """One input and its output.

    Attributes:
        source: Path of the input, or `-`.
        target: Path of the output, or `-`.
        input: Format of the input.
        output: Format of the output.
    """

    source: str
    target: str
    input: Format
    output: Format


def jobs_of(
    inputs: list[Path], target: str, given: Format | None, output: Format | None, *, several: bool
) -> list[Job]:  # fmt: skip
    """An output for each input: the target, or a file of the same name in that folder.

    Args:
        inputs: Files; none for standard input.
        target: Path of the output.
        given: Format of the inputs, unless their names tell.
        output: Format of the outputs, unless their names tell.
        several: Whether the target is a folder.

    Raises:
        ScoreRefused: A name does not tell its format, or an output would be an input or another's.
    """
    jobs: list[Job] = []
    for source in map(str, inputs) if inputs else [STANDARD]:
        read = format_of(source, given)
        if not several:
            written = output or (read if target == STANDARD else format_of(target, None))
            jobs.append(Job(source, target, read, written))
            continue
        name = Path(source).stem + f".{output}" if output else Path(source).name
        jobs.append(Job(source, str(Path(target) / name), read, output or read))
    targets = [job.target for job in jobs]
    if len({*targets}) < len(targets):
        raise ScoreRefused("Two inputs have the same name, so their outputs would be one file.")
    if {str(Path(one).absolute()) for one in targets} & {str(path.absolute()) for path in inputs}:
        raise ScoreRefused("The output would replace an input.")
    return jobs


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
    if not resume:
        with whole_file(job.target) as sink:
            return _score(scorer, job, sink, advance)
    manifest = {
        "model": scorer.served.artifact.digest,
        "options": msgspec.to_builtins(scorer.options),
        "input": stamp(job.source),
        "format": [job.input, job.output],
    }
    with whole_file(job.target) as sink:
        parts = Parts(Path(job.target), manifest)
        bad = parts.report()
        advance(bad.seen)
        _score_parts(scorer, job, parts, bad, advance)
        with ExitStack() as stack:
            writer: Output | None = None
            for batch in parts.batches():
                writer = writer or stack.enter_context(closing(Output(sink, job.output, batch.schema, stream=False)))
                writer.write(batch)
    return bad


def forget_parts(jobs: list[Job]) -> None:
    """Remove the finished parts of all outputs, once all are complete: until then, none is scored again."""
    for job in jobs:
        remove_parts(Path(job.target))


def _score(scorer: Scorer, job: Job, sink: Any, advance: Advance) -> BadRows:
    bad, stream = BadRows(), job.target == STANDARD
    writer: Output | None = None
    with ExitStack() as stack:
        for piece, (batch, _) in stack.enter_context(closing(_scored(scorer, job, bad))):
            writer = writer or stack.enter_context(closing(Output(sink, job.output, batch.schema, stream=stream)))
            writer.write(batch)
            advance(piece.batch.num_rows)
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
            advance(piece.batch.num_rows)
        if current is not None:
            current[1].finish()


def _scored(scorer: Scorer, job: Job, bad: BadRows, finished: int = 0) -> Generator[ScoredPiece]:
    """The scored pieces of an input but for its finished parts; their rows are added to `bad`."""
    pieces = read_pieces(job.source, job.input, scorer.features, scorer.wanted, finished)
    scored = score_pieces(pieces, lambda piece: scorer.scored(piece.batch, text=piece.text, bad=piece.bad))
    with closing(scored):
        for one in scored:
            bad.merge(one.scored.bad)
            if bad.rows and scorer.options.on_error == "fail":
                raise ScoreRefused(bad.described())
            yield one
