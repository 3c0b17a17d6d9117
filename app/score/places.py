"""Where files are: on this machine, or in an object store that speaks S3.

The credentials are those of the environment, as of every client of AWS; AWS_ENDPOINT_URL names another store.
"""

import errno
import io
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa
from pyarrow import fs

STANDARD = "-"
"""Standard input or output."""

S3 = "s3://"

BUFFER_BYTES = 2**18
"""Bytes that are read of a file at once, and can be looked at before."""

CHUNK_BYTES = 2**23
"""Bytes that are copied at once."""

REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def is_remote(path: str) -> bool:
    """Whether a path is an object's."""
    return path.startswith(S3)


def is_stream(path: str) -> bool:
    """Whether what is written to a path goes on as it comes: standard output, a pipe, a device."""
    if path == STANDARD:
        return True
    return not is_remote(path) and Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()


def is_folder(path: str) -> bool:
    """Whether files have a folder's path; of a folder that is not there yet, whether it ends with a slash."""
    if not is_remote(path):
        return path.endswith(os.sep) or Path(path).is_dir()
    return path.endswith("/") or _info(path).type == fs.FileType.Directory


def inside(folder: str, name: str) -> str:
    """Path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def real(path: str) -> str:
    """Path of a file without links, such as to tell whether two are one."""
    return path if path == STANDARD or is_remote(path) else os.path.realpath(path)


def is_file(path: str) -> bool:
    """Whether there is something to read at a path that is no folder's (OSError: the store does not answer)."""
    return _info(path).type == fs.FileType.File if is_remote(path) else Path(path).exists()


def objects_below(folder: str) -> list[str]:
    """The objects in a folder of a store and in those below it (OSError: the store does not answer)."""
    bucket, key = _split(folder)
    selector = fs.FileSelector(f"{bucket}/{key}".rstrip("/"), recursive=True, allow_not_found=True)
    infos = _store(bucket).get_file_info(selector)
    return [f"{S3}{info.path}" for info in infos if info.type == fs.FileType.File]


def check_bucket(path: str) -> None:
    """Check that an object's bucket is there, before its content is made.

    Raises:
        OSError: It is not, or the store does not answer.
    """
    bucket, _ = _split(path)
    if _store(bucket).get_file_info(bucket).type == fs.FileType.NotFound:
        raise FileNotFoundError(errno.ENOENT, f"There is no bucket {bucket}")


def stamp(path: str) -> dict[str, Any]:
    """What tells whether a file is the same as before."""
    if path == STANDARD:
        return {}
    if is_remote(path):
        info = _info(path)
        return {"path": path, "size": info.size, "mtime_ns": info.mtime_ns}
    status = os.stat(path)
    return {"path": os.path.abspath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def size_of(path: str) -> int | None:
    """Bytes of a file, where that is known."""
    if path == STANDARD:
        return None
    return _info(path).size if is_remote(path) else os.path.getsize(path)


@contextmanager
def opened(path: str) -> Generator[BinaryIO]:
    """A file to be read from its beginning."""
    if path == STANDARD:
        yield _buffer(sys.stdin)
    elif is_remote(path):
        bucket, key = _split(path)
        source: Any = _store(bucket).open_input_file(f"{bucket}/{key}")
        with io.BufferedReader(source, BUFFER_BYTES) as file:
            yield file
    else:
        with open(path, "rb", buffering=BUFFER_BYTES) as file:
            yield file


@contextmanager
def streamed(path: str) -> Generator[BinaryIO]:
    """A stream to be written."""
    if path == STANDARD:
        file = _buffer(sys.stdout)
        yield file
        file.flush()
    else:
        with open(path, "wb") as file:
            yield file


@contextmanager
def sought(path: str) -> Generator[Any]:
    """A file whose parts can be read in any order: of a stream a copy on the disk, in TMPDIR, that nobody else sees."""
    if is_remote(path):
        bucket, key = _split(path)
        with _store(bucket).open_input_file(f"{bucket}/{key}") as file:
            yield file
        return
    if path != STANDARD and Path(path).is_file():
        with pa.OSFile(path) as file:
            yield file
        return
    with opened(path) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy, 2**20)
            yield copy


def upload(file: Path, path: str) -> None:
    """Copy a file to an object, which is there once it is complete; the former one stays until then.

    It is copied in a thread, so that a signal need not wait for it.

    Raises:
        OSError: It could not be copied.
    """
    failed: list[Exception] = []

    def copy() -> None:
        try:
            _copy(file, path)
        except (OSError, pa.ArrowException) as error:
            failed.append(error)

    thread = threading.Thread(target=copy, name="upload", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _copy(file: Path, path: str) -> None:
    """Copy a file to an object; Arrow's `copy_files` would not tell that the last request failed."""
    bucket, key = _split(path)
    with file.open("rb") as source:
        sink = _store(bucket).open_output_stream(f"{bucket}/{key}")
        try:
            chunk = source.read(CHUNK_BYTES)
            while chunk:
                try:
                    sink.write(chunk)
                except OSError:
                    with suppress(OSError):
                        sink.close()  # fails likewise; when it is destroyed, that would be printed
                    raise
                chunk = source.read(CHUNK_BYTES)
        except BaseException:
            _unfinished.append(sink)  # to close it, or to destroy it, would complete the object
            raise
        sink.close()


def why(error: Exception) -> str:
    """Why a file cannot be read or written, without a host of the store and without values of the file."""
    text = str(getattr(error, "strerror", None) or error)
    if store := re.search(r"AWS Error (\w+)", text):
        return f"the object store says {store[1]}"
    return re.sub(r"(Expected \d+ columns, got \d+).*", r"\1", text.splitlines()[0])[:200] if text else "it is damaged"


def _buffer(file: TextIO | None) -> BinaryIO:
    if file is None:  # the shell has closed it
        raise OSError(errno.EBADF, "Standard input or output is closed")
    return file.buffer


def _info(path: str) -> Any:
    bucket, key = _split(path)
    return _store(bucket).get_file_info(f"{bucket}/{key}".rstrip("/"))


def _split(path: str) -> tuple[str, str]:
    """Bucket and key of an address."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    return bucket, key


def _store(bucket: str) -> Any:
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    has_region = endpoint is not None or any(os.environ.get(name) for name in REGIONS)
    return _client(endpoint, None if has_region else bucket)


@cache
def _client(endpoint: str | None, bucket: str | None) -> Any:
    """A client of a store, in the region of a bucket or in that of the environment."""
    region = None if bucket is None else fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(endpoint_override=endpoint, region=region, allow_delayed_open=True)


_unfinished: list[Any] = []
"""Streams to objects that are not to be completed; they end with the process."""
