"""`POST /invocations`: rows in MLflow's formats, answered by what MLflow's pyfunc predicts."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from litestar.types import ASGIApp

from app.codecs.columns import csv, parquet
from app.codecs.json import table as table_json
from app.codecs.rules import FloatArray
from app.errors import UnsupportedMediaType
from app.models.served import ServedModel
from app.predict.body import Body
from app.predict.bulk import identity_headers
from app.predict.exchange import Exchange
from app.predict.many_rows import NO_TURN, Reader
from app.predict.scoring import Scored, Scoring, Scorings
from app.protocols.mlflow.params import contributions_of, needs_of
from app.protocols.mlflow.predictions import all_finite, answer_body, predictions_of
from app.protocols.mlflow.scoring_json import scoring_reader
from app.protocols.mlflow.tables import decode_csv, decode_parquet
from app.serving.needs import PLAIN, Needs
from kernels.engine import Evaluation

PATH = "/invocations"
NAMED_PATH = "/invocations/{model}"

MEDIA_TYPES = (table_json.MEDIA_TYPE, csv.MEDIA_TYPE, parquet.MEDIA_TYPE)

Decode = Callable[[Body], FloatArray]


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        rows: float64[B, F].
        needs: What is computed beside predictions.
    """

    rows: FloatArray
    needs: Needs

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)


class Invocations:
    """Answers requests in MLflow's formats to a model.

    Args:
        scoring: Policy of the model.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._settings = scoring.settings

    async def invoke(self, exchange: Exchange) -> None:
        """Answer a request in any of the formats."""
        served = self._scoring.choose(exchange)
        await self.answer(exchange, served, media_type_of(exchange.header(b"content-type")))

    async def answer(self, exchange: Exchange, served: ServedModel, media_type: str, *, arrays: bool = False) -> None:
        """Answer a request.

        Args:
            exchange: The request.
            served: The model that answers.
            media_type: Format of the body, one of MEDIA_TYPES.
            arrays: Whether JSON may hold nested lists in the order of the features, although these have names.
        """
        scoring, settings = self._scoring, self._settings
        is_json = media_type == table_json.MEDIA_TYPE
        turns = scoring.many.turns
        decode = _decoder(served, media_type, settings.max_bulk_rows, arrays=arrays)
        reader = Reader(
            scoring.kind, _needs,
            settings.max_json_bytes if is_json else settings.max_body_bytes,
            "MAX_JSON_BYTES" if is_json else "MAX_BODY_BYTES",
            lambda body: Asked(decode(body), needs_of(body, served) if is_json and not arrays else PLAIN),
            turns if is_json else NO_TURN,
            lambda table, evaluation: self._scored(served, table, evaluation), turns,
            media_type == parquet.MEDIA_TYPE,
        )  # fmt: skip
        await scoring.answer(exchange, served, reader)

    def _scored(self, served: ServedModel, table: Asked, evaluation: Evaluation) -> Scored:
        """The answer for a table, also where the model has no finite prediction."""
        prediction = evaluation.prediction
        if not all_finite(prediction):
            rows = np.isfinite(prediction).reshape(len(prediction), -1).all(axis=1)
            self._scoring.count_not_finite(served, self._scoring.kind(table.size), int(np.count_nonzero(~rows)))
        if evaluation.explanation is not None:
            contributions = contributions_of(evaluation.explanation)
            body = answer_body(contributions.tolist(), finite=all_finite(contributions))
        elif evaluation.leaves is not None:
            body = answer_body(evaluation.leaves.tolist(), finite=True)
        else:
            body = answer_body(predictions_of(served, prediction), finite=all_finite(prediction))
        return Scored(table.rows, evaluation, body, identity_headers(served.identity))


def invocation_routes(scorings: Scorings, models: Mapping[str, Invocations]) -> dict[str, ASGIApp]:
    """The routes, an ASGI application by path, for POST.

    Args:
        scorings: Policies of all models.
        models: What answers for each model.
    """
    first = scorings.first
    named = scorings.by_name("model", {name: one.invoke for name, one in models.items()})
    return {
        PATH: first.endpoint(PATH, models[first.settings.model_name].invoke),
        NAMED_PATH: first.endpoint(NAMED_PATH, named),
    }


@lru_cache(maxsize=64)
def media_type_of(content_type: str | None) -> str:
    """Media type of a body, one of MEDIA_TYPES.

    Args:
        content_type: Value of the header, None if absent.

    Raises:
        UnsupportedMediaType: The header names another one, or a parameter but `charset=utf-8`.
    """
    name, *parameters = map(str.strip, (content_type or "").split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key != "charset" or value.lower() != "utf-8":
            raise UnsupportedMediaType("The only parameter of Content-Type is charset=utf-8.")
    if name not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"The body must come with one of these as Content-Type: {', '.join(MEDIA_TYPES)}.")
    return name


def _needs(asked: Asked) -> Needs:
    return asked.needs


def _decoder(served: ServedModel, media_type: str, max_rows: int, *, arrays: bool) -> Decode:
    features, layout = served.artifact.features, served.artifact.layout
    if media_type == table_json.MEDIA_TYPE:
        reader = scoring_reader(features, layout, arrays)
        return lambda body: reader.decode(body, max_rows)
    decode = decode_csv if media_type == csv.MEDIA_TYPE else decode_parquet
    return lambda body: decode(body, features, layout, max_rows)
