"""An app of several tests, and requests to it whose bodies are tritonclient's own."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype

from app.config.settings import Settings
from app.container import Services
from app.models.identity import ModelIdentity
from app.models.served import ServedModel
from tests.models.support import ready, save_text, serve
from tests.routes.support import client_of, services_of
from tests.support import free_port

T = TypeVar("T")

MODEL = Settings().model_name
INFER = f"/v2/models/{MODEL}/infer"
HEAD_LENGTH = "inference-header-content-length"


class App:
    """An app in this process, which serves whatever model a test puts there.

    Args:
        settings: Its settings.
        served: Its model; None for one that a test puts there later.
    """

    def __init__(self, settings: Settings, served: ServedModel | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = client_of(msgspec.structs.replace(settings, prometheus_port=free_port()))
        self.client = self.run(self._context.__aenter__())
        self.slot = self.services.slot
        if served is not None:
            self.slot.current = served

    def close(self) -> None:
        self.run(self._context.__aexit__(None, None, None))
        self._loop.close()

    @property
    def services(self) -> Services:
        return services_of(self.client)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.get(path, **options))

    def post(self, path: str = INFER, **options: Any) -> httpx.Response:
        return self.run(self.client.post(path, **options))

    def send(
        self, inputs: Sequence[InferInput], outputs: Sequence[InferRequestedOutput] | None = None, path: str = INFER,
        headers: dict[str, str] | None = None, **options: Any,
    ) -> httpx.Response:  # fmt: skip
        """Send what tritonclient would."""
        body, length = InferenceServerClient.generate_request_body(list(inputs), outputs=outputs, **options)
        told = {} if length is None else {HEAD_LENGTH: str(length)}
        return self.post(path, content=body, headers=told | (headers or {}))

    def infer(self, *arguments: Any, **options: Any) -> InferResult:
        """Send what tritonclient would, and read the answer as it would."""
        response = self.send(*arguments, **options)
        assert response.status_code == 200, response.text
        length = response.headers.get(HEAD_LENGTH)
        is_binary = response.headers["content-type"] == "application/octet-stream"
        assert is_binary == (length is not None)
        return InferenceServerClient.parse_response_body(
            response.content, header_length=None if length is None else int(length)
        )


def error(response: httpx.Response, status: int = 400) -> str:
    """Text of an error, checked to be nothing but that."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, str] = msgspec.json.decode(response.content)
    assert list(body) == ["error"]
    return body["error"]


def tensor(name: str, values: Any, *, binary: bool = True) -> InferInput:
    """A tensor of an array, or of texts [B, 1]."""
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object).reshape(-1, 1)
    made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def asked(*names: str, binary: bool = True) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def body(data: Any, shape: list[int], datatype: str = "FP64", name: str = "features", **more: Any) -> dict[str, Any]:
    """A request in JSON with one tensor."""
    return {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}], **more}


def classifier(labels: Sequence[Any], directory: Path) -> tuple[lgb.LGBMClassifier, ServedModel]:
    """A classifier of three features with these labels, and the same model in service."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(200, 3))
    classes = np.array(labels)
    target = classes[np.digitize(rows[:, 0], np.linspace(-0.5, 0.5, len(labels) + 1)[1:-1])]
    own = lgb.LGBMClassifier(n_estimators=3, num_leaves=4, min_child_samples=5, n_jobs=1, verbosity=-1)
    own.fit(rows, target)
    artifact = serve(save_text(own.booster_.model_to_string(), directory)).artifact
    artifact = msgspec.structs.replace(artifact, labels=tuple(own.classes_.tolist()))
    return own, ready(artifact, ModelIdentity(name=MODEL, version="1"), {}, "a test")


def sample(count: int, columns: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(3).normal(size=(count, columns))
