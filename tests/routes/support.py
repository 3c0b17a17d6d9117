"""Stand-ins for an engine, apps with settings of their own, a second model with other features, and bodies to send."""

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from numpy.typing import NDArray

from app.codecs.columns import arrow
from app.config.settings import Settings
from app.container import Services
from app.main import create_app
from app.models.served import ServedModel
from kernels.engine import Engine, Evaluation
from tests.support import Client, in_process, loaded, problem

Array = NDArray[np.float64]

Row = dict[str, float]

JSON = {"Content-Type": "application/json"}
ARROW = {"Content-Type": arrow.MEDIA_TYPE}
ANSWER_KEYS = {
    "prediction", "model_version", "model_stage", "confidence_interval", "request_id", "processing_time_ms", "warnings",
}  # fmt: skip
BATCH_KEYS = {
    "predictions", "total_predictions", "successful_predictions", "failed_predictions", "batch_id", "model_version",
    "model_stage", "request_id", "processing_time_ms",
}  # fmt: skip

CHURN = "churn"
CHURN_ROW = {"tenure": 3, "monthly charge": 70.5, "contract": True}


@asynccontextmanager
async def client_of(settings: Settings, **collaborators: Any) -> AsyncIterator[Client]:
    """A client of another app, once it has had its first look into the registry."""
    async with Client(create_app(settings, **in_process(settings) | collaborators)) as client:
        await loaded(client)
        yield client


def services_of(client: Client) -> Services:
    return client.app.services


def served_by(client: Client) -> ServedModel:
    """The model that a client's app answers with."""
    return services_of(client).slot.require()


class EngineDouble:
    """An engine whose evaluations are made by `answer`. Its batches count as expensive: a thread runs
    each batch, and runs it whole.

    Args:
        engine: What `answer` may fall back on, and what the rest is taken from.
        answer: Called with float64[B, F]; gives an evaluation, or predictions alone.
    """

    def __init__(self, engine: Engine, answer: Callable[[Array], Array | Evaluation]) -> None:
        self.batches: list[Array] = []
        self.status = engine.status
        self.outside_distance = engine.outside_distance
        self._answer = answer

    def cost(self, rows: int) -> float:
        return 1.0

    def on_device(self, rows: int) -> bool:
        return False

    def chunk(self, rows: int, seconds: float, *, on_cpu: bool = False) -> int:
        return rows

    def close(self) -> None:
        pass

    def evaluate_on_cpu(self, rows: Array) -> Evaluation:
        return self.evaluate(rows)

    def evaluate(self, rows: Array) -> Evaluation:
        self.batches.append(rows)
        answer = self._answer(rows)
        return answer if isinstance(answer, Evaluation) else Evaluation(answer)


def compute_with(client: Client, answer: Callable[[Array], Array | Evaluation] | None = None) -> EngineDouble:
    """Put a double in the place of the served model's engine; by default it only keeps the batches that it sees."""
    served = served_by(client)
    double = EngineDouble(served.engine, answer or served.engine.evaluate)
    services_of(client).slot.current = msgspec.structs.replace(served, engine=double)  # type: ignore[arg-type]
    return double


def put(client: Client, model: ServedModel) -> None:
    """Put another model in the place of the served one."""
    services_of(client).slot.current = model


class Hanging:
    """An answer that does not come until the context ends."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def __call__(self, rows: Array) -> Array:
        self._released.wait()
        return np.zeros(len(rows))

    def __enter__(self) -> "Hanging":
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()


def churn_booster() -> lgb.Booster:
    """A booster of three classes and three features."""
    random = np.random.default_rng(0)
    rows = np.column_stack([random.integers(0, 60, 200), random.uniform(20, 120, 200), random.integers(0, 2, 200)])
    parameters = {
        "objective": "multiclass", "num_class": 3, "num_leaves": 4, "min_data_in_leaf": 5, "num_threads": 1,
        "deterministic": True, "verbosity": -1,
    }  # fmt: skip
    data = lgb.Dataset(rows.astype(np.float64), rows[:, 0] // 20, feature_name=["tenure", "monthly_charge", "contract"])
    return lgb.train(parameters, data, num_boost_round=3)


def save_churn(directory: Path, booster: lgb.Booster) -> Path:
    """Save it as MLflow's lightgbm flavor does, with an integer, an optional number and a boolean for its columns."""
    directory.mkdir(parents=True)
    booster.save_model(directory / "model.lgb")
    columns = [
        ColSpec(DataType.long, "tenure"),
        ColSpec(DataType.double, "monthly charge", required=False),
        ColSpec(DataType.boolean, "contract"),
    ]
    model = Model(signature=ModelSignature(inputs=Schema(columns)))
    model.add_flavor("lightgbm", data="model.lgb", model_class="lightgbm.basic.Booster")
    model.save(str(directory / "MLmodel"))
    return directory


def register(settings: Settings, directory: Path, alias: str | None = None) -> str:
    """Make a model directory the newest Production version of the settings' model, as an operator would.

    With an alias, the version gets that in the place of the stage.
    """
    name = settings.model_name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated, and in use
        client = MlflowClient(settings.tracking_uri, settings.registry_uri)
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        version = str(client.create_model_version(name, source=directory.as_uri()).version)
        if alias is None:
            client.transition_model_version_stage(name, version, "Production", archive_existing_versions=True)
        else:
            client.set_registered_model_alias(name, alias, version)
    return version


def settings_with(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)


def row_of(example: Row) -> Array:
    return np.array([list(example.values())])


def varied(example: Row, count: int) -> Array:
    """float64[count, F]: rows around the example that the model tells apart."""
    return row_of(example) * np.random.default_rng(1).uniform(0.9, 1.1, (count, len(example)))


def stream(columns: dict[str, Any]) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def stream_of(rows: Array, names: Any) -> bytes:
    return stream({name: rows[:, index] for index, name in enumerate(names)})


def fields(response: httpx.Response) -> dict[str, str]:
    errors: Any = problem(response)["errors"]
    return {error["field"]: error["message"] for error in errors}


async def raw_post(client: Client, chunks: list[Any], path: str = "/predict", **headers: str) -> list[Any]:
    """What a client's app sends for a body that comes in these messages, and after them in none."""
    sent: list[Any] = []
    coming = iter(chunks)

    async def receive() -> Any:
        for message in coming:
            return message
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"test"), (b"content-type", b"application/json")]
        + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await client.app(scope, receive, send)
    return sent


async def ask(
    client: Client, headers: list[tuple[bytes, bytes]], *, version: str = "1.1", method: str = "GET",
    path: str = "/info", body: bytes = b"",
) -> tuple[int, dict[bytes, bytes], bytes]:  # fmt: skip
    """Status, headers and body that a client's app answers to a request with these headers and no others."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": version, "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("10.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await client.app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])
