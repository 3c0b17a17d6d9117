"""tritonclient itself, both of its HTTP clients, over sockets to a server with a key."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient
from tritonclient.http.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException

from app.models.artifact import Artifact, read_artifact
from app.models.registry.embedded import BUNDLED
from tests.protocols.open_inference.support import MODEL, asked, tensor
from tests.support import BY_PATH, Server, server_environ, version_by_path

Array = NDArray[np.float64]
KEY = {"Authorization": "Bearer sesame"}
ADMIN = {"X-API-Key": "boss"}
VERSION = version_by_path()


@pytest.fixture(scope="module")
def server(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("triton")
    server = Server(
        server_environ(registry_dir, directory) | BY_PATH | {"API_KEY": "sesame", "ADMIN_API_KEY": ADMIN["X-API-Key"]},
        directory,
    )
    yield server.wait_ready()
    server.kill()


@pytest.fixture(scope="module")
def bundled() -> Artifact:
    return read_artifact(BUNDLED / "model")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


def around(bundled: Artifact, count: int) -> Array:
    """float64[count, 8], rows around the model's example."""
    assert bundled.example is not None
    row = np.array([float(value or 0) for value in bundled.example.values()])
    return row * np.random.default_rng(1).uniform(0.9, 1.1, (count, len(row)))


def test_the_server_and_its_model_are_described(client: InferenceServerClient, bundled: Artifact) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, VERSION)
    assert not client.is_model_ready(MODEL, "7")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["name"] == "madrone"
    names = [feature.name for feature in bundled.features]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"][0]["parameters"]["columns"] == names
    assert client.get_model_metadata(MODEL, VERSION) == metadata
    assert client.get_model_config(MODEL, VERSION)["max_batch_size"] == 1_000_000
    assert client.get_model_repository_index() == [{"name": MODEL, "version": VERSION, "state": "READY", "reason": ""}]
    before = client.get_inference_statistics(MODEL)["model_stats"][0]["inference_count"]
    client.infer(MODEL, [tensor("features", around(bundled, 3))], headers=dict(KEY))
    for statistics in (client.get_inference_statistics(), client.get_inference_statistics(MODEL, VERSION)):
        assert statistics["model_stats"][0]["inference_count"] == before + 3


@pytest.mark.parametrize("count", [2, 50_000])
@pytest.mark.parametrize("algorithm", [None, "gzip"])
def test_rows_are_predicted(
    client: InferenceServerClient, bundled: Artifact, count: int, algorithm: str | None
) -> None:
    rows = around(bundled, count)
    expected = bundled.engine().predict(rows)
    features = [tensor("features", rows)]
    columns = [tensor(feature.name, rows[:, place : place + 1]) for place, feature in enumerate(bundled.features)]
    for inputs in (features, columns):
        result = client.infer(
            MODEL, inputs, outputs=asked("prediction", "lower", "upper"), request_id="a",
            request_compression_algorithm=algorithm, headers=dict(KEY),
        )  # fmt: skip
        np.testing.assert_allclose(result.as_numpy("prediction")[:, 0], expected, rtol=1e-12)
        assert (result.as_numpy("lower") < result.as_numpy("upper")).all()
        assert result.get_response()["id"] == "a"


def test_tensors_may_be_json_both_ways(client: InferenceServerClient, bundled: Artifact) -> None:
    rows = around(bundled, 2)
    inputs, outputs = [tensor("features", rows, binary=False)], asked("prediction", binary=False)
    in_json = client.infer(MODEL, inputs, outputs=outputs, model_version=VERSION, headers=dict(KEY))
    as_bytes = client.infer(MODEL, [tensor("features", rows)], headers=dict(KEY))
    np.testing.assert_array_equal(in_json.as_numpy("prediction"), as_bytes.as_numpy("prediction"))
    pending = client.async_infer(MODEL, inputs, headers=dict(KEY))
    np.testing.assert_array_equal(pending.get_result().as_numpy("prediction"), as_bytes.as_numpy("prediction"))


def refusals(bundled: Artifact) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Arguments of a request, and the status and text of its error."""
    good = [tensor("features", around(bundled, 2))]
    return {
        "no key": ({"inputs": good, "headers": {}}, "401", "This route requires a key"),
        "another model": ({"inputs": good, "model_name": "another"}, "404", f"the model served here is {MODEL}"),
        "another version": ({"inputs": good, "model_version": "7"}, "404", f"In service: {VERSION}."),
        "another shape": ({"inputs": [tensor("x", np.ones((2, 7)))]}, "400", "x: must have the shape [rows, 8]"),
        "another output": ({"inputs": good, "outputs": asked("median")}, "400", "median: is no output of the model"),
        "texts": ({"inputs": [tensor("MedInc", ["a"])]}, "400", "HouseAge: is missing"),
    }


@pytest.mark.parametrize("case", refusals(read_artifact(BUNDLED / "model")))
def test_errors_have_our_text(client: InferenceServerClient, bundled: Artifact, case: str) -> None:
    given, status, text = refusals(bundled)[case]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(**{"model_name": MODEL, "headers": dict(KEY)} | given)
    assert caught.value.status() == status
    assert text in caught.value.message()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_system_shared_memory_status(),
        lambda client: client.register_system_shared_memory("a", "/a", 8),
        lambda client: client.unregister_cuda_shared_memory(),
        lambda client: client.get_trace_settings(),
        lambda client: client.update_trace_settings(MODEL, {}),
        lambda client: client.get_log_settings(),
        lambda client: client.update_log_settings({}),
    ],
)
def test_what_is_not_supported_says_so(client: InferenceServerClient, call: Callable[[Any], Any]) -> None:
    with pytest.raises(InferenceServerException, match=r"not supported|not loaded|not set") as caught:
        call(client)
    assert caught.value.status() == "501"


def test_a_model_is_unloaded_and_loaded(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.unload_model(MODEL)
    assert caught.value.status() == "401"
    client.unload_model(MODEL, headers=ADMIN)
    assert not client.is_model_ready(MODEL)
    client.load_model(MODEL, headers=ADMIN)
    assert client.is_model_ready(MODEL)


@pytest.mark.filterwarnings("ignore:Sending a large body directly with raw bytes:ResourceWarning")
async def test_the_async_client_is_answered_alike(async_client: AsyncClient, bundled: Artifact) -> None:
    client = async_client
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(MODEL, VERSION)
    assert (await client.get_server_metadata())["name"] == "madrone"
    assert (await client.get_model_metadata(MODEL))["versions"] == [VERSION]
    assert (await client.get_model_config(MODEL))["name"] == MODEL
    assert (await client.get_model_repository_index())[0]["state"] == "READY"
    assert (await client.get_inference_statistics())["model_stats"][0]["version"] == VERSION
    for count in (2, 50_000):
        rows = around(bundled, count)
        for binary, algorithm in ((True, None), (True, "gzip"), *([(False, "gzip")] if count == 2 else [])):
            result = await client.infer(
                MODEL, [tensor("features", rows, binary=binary)], request_compression_algorithm=algorithm,
                headers=dict(KEY),
            )  # fmt: skip
            expected = bundled.engine().predict(rows)
            np.testing.assert_allclose(result.as_numpy("prediction")[:, 0], expected, rtol=1e-12)
    for given, status, text in refusals(bundled).values():
        with pytest.raises(InferenceServerException) as caught:
            await client.infer(**{"model_name": MODEL, "headers": dict(KEY)} | given)
        assert (caught.value.status(), text in caught.value.message()) == (status, True)
