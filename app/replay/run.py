"""`madrone replay`: logged rows scored by another version of the model."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from app.config.settings import Settings
from app.models.loader import loader_of
from app.models.refusal import ModelRefused
from app.models.registry.source import ModelSource, NothingToServe, RegistryUnreachable, VersionUnknown
from app.models.served import ServedModel
from app.prediction_log.messages import LogTarget
from app.prediction_log.reading.page import Source
from app.prediction_log.reading.reader import open_source
from app.prediction_log.sink import explained
from app.replay.comparison import Compared, Pair
from app.replay.report import ReplayReport
from app.replay.rows import LoggedRow, Selection, logged_pages

STATEMENT_TIMEOUT_S = 60.0


class ReplayFailed(Exception):
    """The replay is not possible; the message says why, in one sentence."""


def load_version(settings: Settings, source: ModelSource, version: str | None) -> ServedModel:
    """Fetch, build and check a version, as the service does. Nothing is kept, and none is put in service.

    Args:
        settings: Settings that name the model.
        source: Its registry or place, which the caller closes.
        version: Number of the version; None for the one that the settings prefer.

    Raises:
        ReplayFailed: There is none, or it cannot be served.
    """
    try:
        if version is not None:
            candidate = source.version(version)
        else:
            offer = source.look()
            if not offer.candidates:
                raise ReplayFailed(f"There is no version to replay with: {offer.problem}.")
            candidate = offer.candidates[0]
        return loader_of(settings, source).load(candidate, None, keep=None)
    except (NothingToServe, VersionUnknown) as error:
        raise ReplayFailed(f"There is no version to replay with: {error}.") from None
    except ModelRefused as error:
        raise ReplayFailed(f"The version cannot be served: {error}.") from None
    except RegistryUnreachable as error:
        raise ReplayFailed(f"The model cannot be fetched: {error}.") from None
    except (OSError, MemoryError) as error:
        raise ReplayFailed(f"This machine could not load the model: {error}.") from None


def open_log(target: LogTarget) -> Source:
    """Open the tables or the files of the log.

    Raises:
        ReplayFailed: Predictions are not logged, or the log cannot be read.
    """
    if target.keep_rows == 0:
        raise ReplayFailed("Predictions are not logged (PREDICTION_LOG, PREDICTION_LOG_ROWS), so none can be replayed.")
    if target.format == "parquet" and not target.parquet.exists():
        raise ReplayFailed("There is no prediction log yet: its folder does not exist (DATA_DIR).")
    if target.format == "sql":
        url = sa.make_url(target.url)
        if url.drivername.startswith("sqlite") and url.database and not Path(url.database).exists():
            raise ReplayFailed("There is no prediction log yet: its file does not exist (DATABASE_URL, DATA_DIR).")
    try:
        return open_source(target, STATEMENT_TIMEOUT_S)
    except (exc.SQLAlchemyError, OSError) as error:
        raise _unreadable(error) from None


def replay(source: Source, selection: Selection, served: ServedModel, output: BinaryIO | None) -> ReplayReport:
    """Score logged rows with a version, and compare.

    Args:
        source: The log, from `open_log`.
        selection: The rows.
        served: The version.
        output: File that gets each compared row as a line of JSON.

    Raises:
        ReplayFailed: No such row is logged, or the log cannot be read.
        OSError: The file cannot be written.
    """
    compared: dict[str, Compared] = {}
    rows = 0
    for page in _pages(source, selection):
        rows += len(page)
        for version in dict.fromkeys(row.model_version for row in page):
            comparison = compared.setdefault(version, Compared(served, version))
            pairs = list(comparison.add([row for row in page if row.model_version == version]))
            if output is not None:
                output.write(msgspec.json.Encoder().encode_lines([_line(pair) for pair in pairs]))
    if not rows:
        raise ReplayFailed(f"No row of {selection.model} is logged in that time.")
    results = sorted((one.result() for one in compared.values()), key=lambda one: one.rows, reverse=True)
    return ReplayReport(
        model=selection.model,
        replayed_model=served.identity.name,
        replayed_version=served.identity.version,
        digest=served.artifact.digest,
        since=selection.since,
        until=selection.until,
        rows=rows,
        limited=rows == selection.limit,
        comparisons=tuple(results),
    )


def _pages(source: Source, selection: Selection) -> Iterator[list[LoggedRow]]:
    try:
        yield from logged_pages(source, selection)
    except (exc.SQLAlchemyError, OSError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> ReplayFailed:
    return ReplayFailed(f"The prediction log cannot be read: {explained(error)}.")


def _line(pair: Pair) -> dict[str, object]:
    row = pair.row
    return {
        "request_id": row.request_id,
        "row": row.row,
        "created_at": row.created_at,
        "logged_version": row.model_version,
        "logged": pair.logged,
        "replayed": pair.replayed,
        "difference": pair.difference,
        "actual": row.actual,
    }
