"""What every prediction route does with a request, whatever its protocol: the key, the choice of the model, the log."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from app.auth import check_key
from app.codecs.rules import FloatArray
from app.container import Services
from app.errors import PredictionNotFinite
from app.headers import Headers
from app.models.served import ServedModel
from app.predict.exchange import Endpoint, Exchange, Handle
from app.predict.logged import Places, flushed, logged
from app.predict.many_rows import Call, ManyRows, Reader, Rows
from app.serving.deadline import Deadlines
from app.serving.executor import PredictionType
from kernels.engine import Evaluation

R = TypeVar("R", bound=Rows)


class Scored(NamedTuple):
    """The answer for the rows of a body.

    Attributes:
        rows: float64[B, F], the rows that were predicted.
        evaluation: Evaluation of these rows.
        body: Body of the answer.
        headers: Further headers of the answer.
        media_type: Format of the answer.
    """

    rows: FloatArray
    evaluation: Evaluation
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"application/json"


class Answered(Call, Protocol):
    """A request that is answered by one body: of HTTP, an `Exchange`."""

    async def answer(
        self, body: bytes, media_type: bytes = ..., status: int = ..., headers: Iterable[tuple[bytes, bytes]] = ...
    ) -> None:
        """Send the answer, as `Exchange.answer` does."""
        ...


class Scoring:
    """The policy of all prediction routes of a model.

    Args:
        services: Collaborators that answer for the model.
        many: Answers requests of many rows, for all models.
    """

    def __init__(self, services: Services, many: ManyRows) -> None:
        self.settings = services.settings
        self.admission = services.admission
        self.executor = services.executor
        self.log = services.prediction_log
        self._keys = services.settings.api_keys
        self.many = many
        self._canary = services.canary
        self._drift = services.drift
        self._shadow = services.shadow
        self._not_finite = services.metrics.predictions_not_finite
        self._gate = services.gate
        self._times = services.metrics.stages
        self._deadlines = Deadlines(services.settings.request_timeout)

    def endpoint(self, path: str, handle: Handle) -> Endpoint:
        """Application that answers the POST requests of a route."""
        return Endpoint(path, handle, self._deadlines, self._gate, self._times)

    def choose(self, exchange: Exchange) -> ServedModel:
        """The model that answers a request, which uses this snapshot only, and nothing else of any model.

        Raises:
            Unauthorized: The request has no valid key.
            ModelUnavailable: No model is in use.
        """
        self.check_key(exchange.headers)
        return self._canary.choose(exchange.raw_headers, exchange.request_id)

    def check_key(self, headers: Headers) -> None:
        """Raise Unauthorized if API_KEY is set and the request has no key like it."""
        if self._keys:
            check_key(headers, self._keys)

    def kind(self, rows: int) -> PredictionType:
        """Kind of a request whose route does not tell it, by its number of rows."""
        if rows == 1:
            return "single"
        return "batch" if rows <= self.settings.max_batch_size else "bulk"

    async def answer(self, exchange: Answered, served: ServedModel, reader: Reader[R, Scored]) -> None:
        """Answer a request whose answer is made as a whole.

        Args:
            exchange: The request.
            served: The model that answers.
            reader: Reads the rows and makes the answer.
        """
        with self.admission.enter(len(served.feature_names)) as reservation:
            try:
                scored = await self.many.predict(exchange, served, reader, reservation)
            except PredictionNotFinite as error:
                self.count_not_finite(served, self.kind(error.of), error.rows)
                raise
            rows, evaluation, body, headers, media_type = scored
            del scored
            kind = self.kind(len(rows))
            if kind != "bulk":
                await flushed(self.log, exchange, kind, served, rows, evaluation)
            reservation.reserve_answer(len(body))
            await exchange.answer(body, media_type, headers=headers)
        self.after(exchange, served, kind, rows, evaluation)

    def count_not_finite(self, served: ServedModel, kind: PredictionType, rows: int) -> None:
        """Count rows without a finite prediction."""
        if rows:
            self._not_finite.add((served.identity.name, served.identity.version, kind), rows)

    def after(
        self, exchange: Call, served: ServedModel, kind: PredictionType, rows: FloatArray, evaluation: Evaluation,
        places: Places = None,
    ) -> None:  # fmt: skip
        """Pass answered rows to drift, the shadow and, except those of bulk requests, to a log by best effort."""
        self._drift.add(served.watched, rows, evaluation.prediction)
        self._shadow.offer(served, rows, evaluation.prediction, exchange.request_id)
        if kind != "bulk" and self.log.enabled and not self.log.durable and len(rows):
            self.log.record(*logged(exchange, kind, served, rows, evaluation, places))


class Scorings:
    """The policies of all models.

    Args:
        services: Collaborators of the application.

    Attributes:
        first: That of the first model, which answers the routes without a name.
        models: Those of all models by name.
    """

    def __init__(self, services: Services) -> None:
        many = ManyRows(services.executor)
        self._services = services
        self.models: Mapping[str, Scoring] = {name: Scoring(one, many) for name, one in services.models.items()}
        self.first = self.models[services.name]

    def by_name(self, parameter: str, handles: Mapping[str, Handle]) -> Handle:
        """Answer requests whose path names a model by the handle of that model.

        Args:
            parameter: Parameter of the path that holds the name.
            handles: Handles by name of the model.
        """

        async def handle(exchange: Exchange) -> None:
            name = exchange.parameters[parameter]
            if (found := handles.get(name)) is None:
                self.first.check_key(exchange.headers)  # a request without it learns no names
                self._services.of(name)
            else:
                await found(exchange)

        return handle
