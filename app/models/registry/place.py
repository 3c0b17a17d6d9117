"""A model at an address of its own, without a registry: a file, a directory, an object store, a run."""

import re
import shutil
import time
from pathlib import Path

from app.address import Address
from app.config.settings import Settings
from app.models.directory import MLMODEL
from app.models.identity import ModelIdentity
from app.models.registry.access import answering, configure_mlflow, mlflow_client, prepare_mlflow
from app.models.registry.download import download, final_place, run_metrics
from app.models.registry.http import check_source
from app.models.registry.snapshot import FileState, NoModel, content_version, copy_files, list_files
from app.models.registry.source import (
    Candidate,
    Fetched,
    LookUp,
    NothingToServe,
    Offer,
    PlaceUnreachable,
    VersionUnknown,
)

RULE = "MODEL_PATH"

SETTLED_S = 1.0
"""Time for which files must not have changed, so that half a change is not taken for a whole one."""

BARE_FILES = (
    (re.compile(rb"PK\x03\x04"), "model.skops", "lightgbm.sklearn.LGBMModel", "skops"),
    (re.compile(rb"[\x80\x1f\xfd\x78]|BZh"), "model.pkl", "lightgbm.sklearn.LGBMModel", "pickle"),
    (re.compile(b""), "model.lgb", "lightgbm.basic.Booster", None),
)
"""Files that are a whole model without an MLmodel file: their start, name, class, and form of the Python object."""


class Place:
    """Read access to one address.

    Args:
        settings: Settings with MODEL_PATH.
        address: The address.
    """

    def __init__(self, settings: Settings, address: Address) -> None:
        self._settings = settings
        self._address = address
        self._known: tuple[tuple[FileState, ...], str] | None = None
        self._downloaded: Path | None = None
        if address.kind != "file":
            configure_mlflow(settings)

    def prepare(self) -> None:
        """Import MLflow where it is needed: files of this machine are read without it."""
        if self._address.kind != "file":
            prepare_mlflow(self._settings)

    def look(self, spool: Path | None = None) -> Offer:
        """Find out which version is at the address: the content's, or that of a run, which never changes.

        Args:
            spool: Empty directory, to which the files of an address that may change are downloaded.

        Raises:
            PlaceUnreachable: The place did not answer, or its files are being changed.
        """
        try:
            version = self._address.fixed_version or self._content(spool)
        except NoModel as error:
            return Offer(candidates=(), look_ups=(LookUp(RULE, "empty"),), problem=f"{RULE}: {error}")
        except NothingToServe as error:
            return Offer(candidates=(), look_ups=(LookUp(RULE, "empty"),), problem=str(error))
        return Offer(candidates=(self._candidate(version),), look_ups=(LookUp(RULE, "found", version),))

    def version(self, number: str) -> Candidate:
        """The version at the address, if it is this one.

        Raises:
            VersionUnknown: It is another one.
            PlaceUnreachable: The place did not answer.
        """
        for candidate in self.look().candidates:
            if candidate.identity.version == number:
                return candidate
        raise VersionUnknown(f"{RULE} does not hold version {number[:40]!r} now")

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """Copy or download the files of a version.

        Args:
            identity: The version.
            destination: Empty directory for the files.

        Raises:
            NothingToServe: There is nothing at the address any more.
            ModelRefused: The place of the files is forbidden, or needs a client that is not installed.
            PlaceUnreachable: The download failed, or the files have changed since the look.
        """
        if self._address.kind == "file":
            files = self._listed(self._address.path)
            copy = destination / "copy"
            if files and files[0].name:
                copy.mkdir()
            copy_files(files, copy)
        elif self._downloaded is not None and self._downloaded.exists():
            copy = destination / self._downloaded.name
            shutil.move(self._downloaded, copy)
            self._downloaded = None
        else:
            copy = self._download(destination)
        if self._address.fixed_version is None and content_version(self._listed(copy)) != identity.version:
            raise PlaceUnreachable("its files changed while they were read")
        metrics = {}
        if identity.run_id is not None:
            metrics = run_metrics(mlflow_client(self._settings), identity.run_id)
        return Fetched(_model_directory(copy, destination), metrics, None)

    def _content(self, spool: Path | None) -> str:
        if self._address.kind != "file":
            if spool is None:
                raise VersionUnknown(f"{RULE} has no versions")
            self._downloaded = self._download(spool)
            return content_version(list_files(self._downloaded, self._settings.model_max_bytes))
        try:
            files = self._settled()
            if self._known is None or self._known[0] != files:
                self._known = files, content_version(files)
        except OSError as error:
            raise PlaceUnreachable(f"{RULE} cannot be read: {error.strerror or type(error).__name__}") from error
        return self._known[1]

    def _settled(self) -> tuple[FileState, ...]:
        """States of local files that have not changed for a moment."""
        path, most = self._address.path, self._settings.model_max_bytes
        files = list_files(path, most)
        end = time.monotonic() + self._settings.model_lookup_timeout / 2
        while any(file.changed_ns > time.time_ns() - SETTLED_S * 1e9 for file in files):
            time.sleep(min(SETTLED_S, self._settings.model_lookup_timeout / 4))
            before, files = files, list_files(path, most)
            if before == files:
                break
            if time.monotonic() > end:
                raise PlaceUnreachable(f"the files at {RULE} are being changed")
        return files

    def _listed(self, path: Path) -> tuple[FileState, ...]:
        try:
            return list_files(path, self._settings.model_max_bytes)
        except NoModel as error:
            raise NothingToServe(f"{RULE}: {error}") from error

    def _download(self, destination: Path) -> Path:
        with answering(NothingToServe(f"{RULE}: there is nothing at that address"), self._settings):
            uri = self._address.text
            if self._address.asks_mlflow:
                client = mlflow_client(self._settings)
                uri, named_by = final_place(client, uri, self._settings)
                if named_by is not None:
                    check_source(uri, named_by, self._settings)
            return download(uri, destination, self._settings)

    def _candidate(self, version: str) -> Candidate:
        address = self._address
        run_id = address.text.split("/")[1] if address.kind == "run" else None
        return Candidate(ModelIdentity(name=self._settings.model_name, version=version, run_id=run_id), RULE)


def _model_directory(copy: Path, destination: Path) -> Path:
    """The model directory of what was fetched: a single file becomes one, as MLflow would have written it."""
    if copy.is_dir():
        return copy
    with copy.open("rb") as file:
        start = file.read(8)
    name, kind, form = next(rest for pattern, *rest in BARE_FILES if pattern.match(start))
    directory = destination / "model-of-file"
    directory.mkdir()
    copy.rename(directory / str(name))
    lines = ["flavors:", "  lightgbm:", f"    data: {name}", f"    model_class: {kind}"]
    if form is not None:
        lines.append(f"    serialization_format: {form}")
    (directory / MLMODEL).write_text("\n".join(lines) + "\n")
    return directory
