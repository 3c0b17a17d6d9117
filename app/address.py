"""The address of a model: MODEL_PATH, and the argument of `madrone check`."""

import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

STORES = {"s3": "s3", "r2": "s3", "b2": "s3", "gs": "gcs", "wasbs": "azure", "abfss": "azure"}
"""Object stores by scheme, with the extra that installs the client of each."""

FORMS = "a path, or runs:/, models:/, mlflow-artifacts:/, " + ", ".join(f"{scheme}://" for scheme in STORES)

SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*:/"
"""How a URI begins; anything else is a path."""

STAGES = {"production": "Production", "staging": "Staging", "archived": "Archived", "none": "None"}

NAME_ENDINGS = (".txt", ".lgb", ".model")
"""Ends of files' names that are no part of a model's name."""

Kind = Literal["file", "store", "artifacts", "run", "logged", "registered"]
"""What an address names: files of this machine, of an object store or of an MLflow server; a run's or a logged model's;
or a registered model."""

LATEST = "latest"


class AddressError(ValueError):
    """The text is not the address of a model; the message is a condition that it must meet."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Address of a model.

    Attributes:
        text: The address as it was given.
        kind: What it names.
        scheme: Scheme of the URI; empty for a path.
        name: Name of the registered model, or a name made from the last part of the address.
        version: Version of the registered model, or `latest`.
        alias: Alias of the registered model.
        stage: Stage of the registered model.
    """

    text: str
    kind: Kind
    scheme: str = ""
    name: str = "model"
    version: str | None = None
    alias: str | None = None
    stage: str | None = None

    @property
    def path(self) -> Path:
        """The path of a file or directory of this machine."""
        text = unquote(urlsplit(self.text).path) if self.scheme else self.text
        return Path(text).expanduser().absolute()

    @property
    def fixed_version(self) -> str | None:
        """Version of an address whose files never change: digits from its run or logged model; None for any other."""
        if self.kind not in ("run", "logged"):
            return None
        digits = re.search(r"/(?:m-)?([0-9a-f]{12})[0-9a-f]*(?:/|$)", self.text)
        return digits[1] if digits else sha256(self.text.encode()).hexdigest()[:12]

    @property
    def asks_mlflow(self) -> bool:
        """Whether an MLflow server has to be asked."""
        return self.kind not in ("file", "store")


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        AddressError: It is not the address of a model.
    """
    if not text.strip():
        raise AddressError("must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes of a path that are not UTF-8
        raise AddressError("must be text in UTF-8")
    if not re.match(SCHEME, text):
        return _of_file(Address(text=text, kind="file"))
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise AddressError("must be a path or a valid URI") from error
    scheme = parts.scheme
    if parts.username is not None and scheme in ("s3", "gs"):
        raise AddressError("must have no user or password in it")
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise AddressError("must name no host after file:")
        return _of_file(Address(text=text, kind="file", scheme=scheme))
    if scheme in STORES:
        if not parts.netloc or not parts.path.strip("/"):
            raise AddressError(f"must have a bucket and a path after {scheme}://")
        return Address(text=text, kind="store", scheme=scheme, name=_name(parts.path))
    path = text.partition(":")[2]
    if scheme == "mlflow-artifacts":
        return Address(text=text, kind="artifacts", scheme=scheme, name=_name(parts.path))
    if scheme == "runs":
        if not re.fullmatch(r"/[^/]+/.+", path):
            raise AddressError("must be runs:/RUN_ID/PATH")
        return Address(text=text, kind="run", scheme=scheme, name=_name(path))
    if scheme == "models":
        return _of_registry(text, path)
    raise AddressError(f"must be {FORMS}, and {scheme}: is none of them")


def _of_file(address: Address) -> Address:
    return msgspec.structs.replace(address, name=_name(address.path.name, decoded=True))


def _of_registry(text: str, path: str) -> Address:
    """Address after `models:`, by the grammar of MLflow (mlflow/store/artifact/utils/models.py)."""
    if re.fullmatch(r"/m-[0-9a-f]{12,64}", path):
        return Address(text=text, kind="logged", scheme="models", name=path[1:])
    name, slash, last = path[1:].rpartition("/")
    at_name, at, alias = path[1:].rpartition("@")
    if path.startswith("/") and not path.startswith("//"):
        if slash and name and "/" not in name:
            if re.fullmatch("[0-9]{1,20}", last):
                return Address(text=text, kind="registered", scheme="models", name=name, version=str(int(last)))
            if last.lower() == LATEST:
                return Address(text=text, kind="registered", scheme="models", name=name, version=LATEST)
            if last.lower() in STAGES:
                return Address(text=text, kind="registered", scheme="models", name=name, stage=STAGES[last.lower()])
        if at and at_name and alias and not slash:
            return Address(text=text, kind="registered", scheme="models", name=at_name, alias=alias)
    raise AddressError("must be models:/NAME/VERSION, models:/NAME/STAGE, models:/NAME/latest or models:/NAME@ALIAS")


def _name(path: str, *, decoded: bool = False) -> str:
    name = path if decoded else PurePosixPath(unquote(path)).name
    ending = next((ending for ending in NAME_ENDINGS if name.lower().endswith(ending)), "")
    return name.removesuffix(name[len(name) - len(ending) :] if ending else "")[:256] or "model"
