"""A stored model: a directory with the model's files under `model/`, and `entry.json`, its description.

Reading checks every name, owner and hash.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

import msgspec

from app.files import check_directory, check_file, created, sync_directory
from app.models.artifact import Artifact
from app.models.identity import ModelIdentity
from app.models.refusal import ModelRefused
from app.models.registry.source import RegistryUnreachable

FORMAT = 1
METADATA = "entry.json"
MODEL = "model"
MAX_METADATA_BYTES = 1024 * 1024
CHUNK_BYTES = 1024 * 1024

NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors of the system for a name that no file has."""


class StoreCorrupt(Exception):
    """A stored model cannot be used; the message is the exact reason."""


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """Description of a stored model.

    Attributes:
        identity: Version in the registry.
        resolved_by: Selection rule that chose the version.
        metrics: Finite metrics of the training run; JSON has no form for others.
        selection: Alias or stages of the settings that the version was selected by; opaque to the store.
        kernels: `kernels_version()` of the process whose checks the model passed.
        digest: `Artifact.digest` of the model.
        files: SHA-256 in hexadecimal of every file, by its name relative to the model directory; set by the store.
        stored_at: Time of storing, with a time zone.
        sequence: Number that grows with each stored model, since clocks can jump back; set by the store.
    """

    identity: ModelIdentity
    resolved_by: str
    metrics: dict[str, float]
    selection: str
    kernels: str
    digest: str
    files: dict[str, str] = {}
    stored_at: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(default_factory=lambda: datetime.now(UTC))
    sequence: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 0

    @property
    def directory_name(self) -> str:
        """Name of the entry's directory, of letters, digits and hyphens only."""
        return f"version-{_plain(self.identity.version)}-{_plain(self.digest[:16])}"


DIRECTORY_NAME = re.compile(r"version-[0-9a-fx]{1,20}-[0-9a-fx]{1,20}")


class _Envelope(msgspec.Struct, frozen=True):
    """Content of `entry.json`: a `StoredModel`, its hash, and the number of the format."""

    format: int = 0
    sha256: str = ""
    entry: msgspec.Raw = msgspec.Raw(b"")


def encode_entry(entry: StoredModel) -> bytes:
    """Content of `entry.json`.

    Raises:
        StoreCorrupt: The content could not be read back, as with text that is not Unicode.
    """
    try:
        body = msgspec.json.encode(entry)
    except UnicodeEncodeError as error:
        raise StoreCorrupt("what is known of the model is not valid text") from error
    content = msgspec.json.encode(_Envelope(FORMAT, hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))
    _decode(content)
    return content


def _decode(content: bytes) -> StoredModel:
    if len(content) > MAX_METADATA_BYTES:
        raise StoreCorrupt(f"{METADATA} is larger than {MAX_METADATA_BYTES} bytes")
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
        if envelope.format != FORMAT:
            raise StoreCorrupt(f"{METADATA} has format {envelope.format}, and {FORMAT} is read")
        if hashlib.sha256(envelope.entry).hexdigest() != envelope.sha256:
            raise StoreCorrupt(f"{METADATA} is not what was written")
        return msgspec.json.decode(envelope.entry, type=StoredModel)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt(f"{METADATA} cannot be read: {error}"[:300]) from error


def hash_file(directory: Path, name: str, copy: BinaryIO | None = None) -> str:
    """SHA-256 in hexadecimal of a plain file inside a directory.

    Args:
        directory: Model directory.
        name: Name of the file, relative to the directory, with `/` between its parts.
        copy: File that gets a copy of the content.

    Raises:
        ModelRefused: The name leads outside or through a link, or is not that of a plain file.
        OSError: The file cannot be read.
    """
    path, mode = directory, stat.S_IFDIR
    digest = hashlib.sha256()
    try:
        for part in _parts(name):
            path /= part
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise ModelRefused(f"the model's file {name[:100]!r} is outside its directory")
        if not stat.S_ISREG(mode):
            raise ModelRefused(f"the model has no file {name[:100]!r}")
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                if copy is not None:
                    copy.write(chunk)
    except OSError as error:
        if error.errno in NO_FILE:
            raise ModelRefused(f"the model has no file {name[:100]!r}") from error
        raise
    return digest.hexdigest()


def write_entry(path: Path, model_directory: Path, entry: StoredModel) -> None:
    """Fill an empty directory with an entry, and wait until it is on disk.

    Args:
        path: The directory, of mode 0700.
        model_directory: Directory that `entry.files` are copied from.
        entry: Description of the model.

    Raises:
        ModelRefused: A name is not that of a plain file inside the model directory.
        StoreCorrupt: A file does not have its hash in `entry.files`.
        OSError: The entry cannot be written.
    """
    folders = _folders(entry.files)
    for folder in folders:
        (path / folder).mkdir(mode=0o700, exist_ok=True)
    for name, digest in entry.files.items():
        with created(path / MODEL / name) as file:
            if hash_file(model_directory, name, file) != digest:
                raise StoreCorrupt(f"the model's file {name!r} changed while it was copied")
    with created(path / METADATA) as file:
        file.write(encode_entry(entry))
    for folder in folders:
        sync_directory(path / folder)


def read_entry(path: Path) -> StoredModel:
    """Read `entry.json` alone.

    Raises:
        StoreCorrupt: The file is damaged, of another format, or describes another entry.
        OSError: The file is missing or cannot be read.
    """
    check_directory(path)
    check_file(path / METADATA)
    with open(path / METADATA, "rb") as file:
        entry = _decode(file.read(MAX_METADATA_BYTES + 1))
    if entry.directory_name != path.name:
        raise StoreCorrupt(f"{METADATA} is of {entry.directory_name}")
    return entry


def verify_files(path: Path, entry: StoredModel) -> None:
    """Check that an entry consists of exactly its own files, each as it was written.

    Raises:
        StoreCorrupt: A file is missing, damaged, a link, another user's, or not part of the entry.
        ModelRefused: `entry.files` has a name that no file of a model may have.
        OSError: A file cannot be read.
    """
    for name in entry.files:
        _parts(name)
    folders, files = _folders(entry.files), {METADATA, *(f"{MODEL}/{name}" for name in entry.files)}
    found: set[str] = set()
    for folder in folders:
        check_directory(path / folder)
        with os.scandir(path / folder) as children:
            found.update(str(PurePosixPath(folder, child.name)) for child in children)
    if others := found - files - set(folders):
        raise StoreCorrupt(f"it holds {min(others)[:100]!r}, which is none of its files")
    for name in sorted(files):
        if name not in found:
            raise StoreCorrupt(f"it has no file {name[:100]!r}")
        check_file(path / name)
    for name, digest in entry.files.items():
        if hash_file(path / MODEL, name) != digest:
            raise StoreCorrupt(f"its file {name[:100]!r} is not what was written")


def load_entry(path: Path, digest: str, read: Callable[[Path], Artifact]) -> Artifact:
    """Verify an entry and read its model.

    Args:
        path: Directory of the entry.
        digest: Digest that the model must have.
        read: Reads a model directory.

    Raises:
        StoreCorrupt: The entry is damaged, or holds another model.
        ModelRefused: The model cannot be served.
        RegistryUnreachable: The process that reads the model does not answer.
        OSError: A file cannot be read.
    """
    # Read the description again, since another process may have replaced the entry by one with another input example.
    verify_files(path, read_entry(path))
    try:
        artifact = read(path / MODEL)
    except (ModelRefused, RegistryUnreachable, OSError, MemoryError):
        raise
    except Exception as error:
        # A model can be strange in more ways than are foreseen.
        raise StoreCorrupt(f"its model cannot be loaded: {type(error).__name__}") from error
    if artifact.digest != digest:
        raise StoreCorrupt(f"its model has digest {artifact.digest}, not {digest[:100]}")
    return artifact


def _plain(text: str) -> str:
    # Only hashes begin with an x, so no text equals the hash of another.
    if re.fullmatch("[0-9a-f]{1,20}", text):
        return text
    return "x" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parts(name: str) -> list[str]:
    """Parts of the name of a file relative to the model directory; refuses a name that leads outside."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ModelRefused(f"the model's file {name[:100]!r} is outside its directory")
    try:
        name.encode()
    except UnicodeEncodeError as error:  # Python's form of a name that is not UTF-8, which JSON cannot hold
        raise ModelRefused(f"the model's file {name[:100]!r} has a name that is not Unicode") from error
    return parts


def _folders(names: Iterable[str]) -> list[str]:
    """Directories of an entry, "." for its own, each before its sub-directories."""
    files = [PurePosixPath(MODEL, name) for name in names]
    return sorted({".", MODEL, *(str(parent) for file in files for parent in file.parents)})
