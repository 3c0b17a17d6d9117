"""Files in an object store: a real server that speaks S3, which refuses what a test wants it to."""

import gzip
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

from app.score.places import upload
from tests.score.support import ROWS, Score
from tests.support import free_port

SECRET = "not-to-be-shown"

Refuses = Callable[[dict[str, Any]], bool]


class Store:
    """The server.

    Attributes:
        url: Its address.
        refuses: Tells the requests (WSGI) that are answered with 403.
        files: Its buckets and objects, as a client sees them.
    """

    def __init__(self) -> None:
        answer = DomainDispatcherApplication(create_backend_app)
        self.refuses: Refuses = lambda request: False

        def application(request: dict[str, Any], respond: Any) -> Any:
            if self.refuses(request):
                request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
                respond("403 Forbidden", [("Content-Length", "0")])
                return [b""]
            return answer(request, respond)

        self._server = make_server("127.0.0.1", free_port(), application, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.files = fs.S3FileSystem(
            access_key="key", secret_key=SECRET, endpoint_override=self.url, allow_bucket_creation=True
        )
        self.files.create_dir("lake")

    def names(self) -> list[str]:
        """Names of all objects."""
        found = self.files.get_file_info(fs.FileSelector("lake", recursive=True))
        return sorted(info.path for info in found if info.type == fs.FileType.File)

    def put(self, path: Path, name: str) -> None:
        fs.copy_files(str(path), f"lake/{name}", fs.LocalFileSystem(), self.files)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def whole_store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def store(whole_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", whole_store.url)
    whole_store.refuses = lambda request: False
    whole_store.files.delete_dir_contents("lake")
    return whole_store


def test_a_compressed_object_is_read(score: Score, folder: Path, tmp_path: Path, store: Store) -> None:
    (tmp_path / "in.tsv.gz").write_bytes(gzip.compress((folder / "in.csv").read_bytes().replace(b",", b"\t")))
    store.put(tmp_path / "in.tsv.gz", "many/in.tsv.gz")
    result = score("s3://lake/many", "s3://lake/out/")
    assert (result.exit_code, f"{ROWS} rows" in result.stderr) == (0, True), result.output
    assert "lake/out/in.tsv" in store.names()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson", "arrow"])
def test_objects_of_every_format_are_read_and_written(
    score: Score, folder: Path, tmp_path: Path, store: Store, suffix: str
) -> None:
    store.put(folder / f"in.{suffix}", f"in.{suffix}")
    assert score(folder / f"in.{suffix}", tmp_path / f"out.{suffix}").exit_code == 0
    result = score(f"s3://lake/in.{suffix}", f"s3://lake/scored/out.{suffix}")
    assert result.exit_code == 0, result.output
    with store.files.open_input_file(f"lake/scored/out.{suffix}") as file:
        assert file.read() == (tmp_path / f"out.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://lake/many", ["a.parquet", "b.parquet", "below/c.parquet"]),
        ("s3://lake/many/**/*.parquet", ["a.parquet", "b.parquet", "below/c.parquet"]),
        ("s3://lake/m*/?.parquet", ["many/a.parquet", "many/b.parquet"]),
        ("s3://lake/**/[ab].parquet", None),
    ],
)
def test_a_folder_and_a_pattern_have_an_output_for_each_object(
    score: Score, folder: Path, store: Store, given: str, expected: list[str] | None
) -> None:
    for name in ("a.parquet", "b.parquet", "_b.parquet", "below/c.parquet", "below/_log/d.parquet", "out/e.parquet"):
        store.put(folder / "in.parquet", f"many/{name}")
    result = score(given, "s3://lake/many/out/")
    if expected is None:
        assert "There is no file to score" in result.stderr
        return
    assert result.exit_code == 0, result.output
    outputs = [name.removeprefix("lake/many/out/") for name in store.names() if "/out/" in name]
    assert outputs == sorted([*expected, "e.parquet"])
    assert f"{len(expected) * ROWS} rows" in result.stderr


def test_a_run_goes_on_whose_upload_failed(
    score: Score, folder: Path, store: Store, registry_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.refuses = lambda request: request["REQUEST_METHOD"] == "PUT"
    failed = score(folder / "in.parquet", "s3://lake/out.parquet", "--resume")
    assert (failed.exit_code, "the object store says ACCESS_DENIED" in failed.stderr) == (1, True), failed.output
    assert SECRET not in failed.output
    assert store.names() == []
    store.refuses = lambda request: False
    result = score(folder / "in.parquet", "s3://lake/out.parquet", "--resume")
    assert f"{ROWS} rows, {ROWS} of them by an earlier run" in result.stderr, result.output
    with store.files.open_input_file("lake/out.parquet") as file:
        assert len(pq.read_table(file)) == ROWS
    assert [*(registry_dir / "score").iterdir()] == []


def test_an_upload_that_fails_leaves_the_object_as_it_was(tmp_path: Path, store: Store) -> None:
    for name, size in (("small", 3), ("large", 11 * 2**20)):
        (tmp_path / name).write_bytes(b"7" * size)
    upload(tmp_path / "small", "s3://lake/out")
    store.refuses = lambda request: "partNumber=2" in request["QUERY_STRING"]
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        upload(tmp_path / "large", "s3://lake/out")
    assert store.files.get_file_info("lake/out").size == 3
    store.refuses = lambda request: False
    with pytest.raises(OSError, match="Input/output error"):
        upload(Path("/proc/self/mem"), "s3://lake/out")
    assert store.files.get_file_info("lake/out").size == 3
    upload(tmp_path / "large", "s3://lake/out")
    assert store.files.get_file_info("lake/out").size == 11 * 2**20


def test_a_store_that_cannot_be_used_is_told_without_its_address(
    score: Score, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(folder / "in.parquet", "in.parquet")
    assert "There is no bucket other" in score(folder / "in.parquet", "s3://other/out.parquet").stderr
    assert "would replace an input" in score("s3://lake/in.parquet", "s3://lake/in.parquet").stderr
    assert "s3://lake/no.csv" in score("s3://lake/no.csv", "s3://lake/out.csv").stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    result = score(folder / "in.parquet", "s3://lake/out.parquet")
    assert (result.exit_code, "the object store says NETWORK_CONNECTION" in result.stderr) == (1, True)
    assert "127.0.0.1" not in result.output
    assert store.names() == ["lake/in.parquet"]
