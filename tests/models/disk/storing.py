"""Model stores for tests, and models stored in them."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from app.models.artifact import read_artifact
from app.models.disk.entry import StoredModel
from app.models.disk.store import ModelStore
from app.models.identity import ModelIdentity

FILES = ("MLmodel", "model.lgb", "input_example.json")
SOURCE = "http://user:secret@registry:5000"


def open_store(directory: Path, versions: int = 2, source: str = SOURCE, name: str = "houses") -> ModelStore:
    return ModelStore(directory, source, name, versions)


def described(model: Path, version: str = "1", **changes: Any) -> StoredModel:
    """What is known of a model directory that is kept as some version."""
    entry = StoredModel(
        identity=ModelIdentity(name="houses", version=version, stage="Production", created_at_ms=1),
        resolved_by="stage Production",
        metrics={"rmse": 0.5},
        selection="stage",
        kernels="1",
        digest=read_artifact(model).digest,
        stored_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return msgspec.structs.replace(entry, **changes)


def keep(store: ModelStore, model: Path, version: str = "1", **changes: Any) -> StoredModel:
    """Keep a model that plain MLflow saved; what the store then knows of it."""
    entry = described(model, version, **changes)
    store.keep(model, FILES, entry)
    assert store.status().last_error is None
    return next(known for known in store.entries() if known.directory_name == entry.directory_name)


def place(directory: Path) -> Path:
    """What the one registered model of a store has."""
    (only,) = directory.iterdir()
    return only


def entry_directory(directory: Path, entry: StoredModel) -> Path:
    return place(directory) / entry.directory_name


def names(directory: Path) -> set[str]:
    return {child.name for child in directory.iterdir()}


def with_another_example(model: Path, destination: Path) -> Path:
    """A model of the same digest, since the input example is no part of it."""
    shutil.copytree(model, destination)
    (destination / "input_example.json").write_text("{}")
    return destination


def versions_that_load(store: ModelStore) -> list[str]:
    """Versions of a store's entries, each of which is read; damage in any raises."""
    entries = store.entries()
    assert [store.load(entry).digest for entry in entries] == [entry.digest for entry in entries]
    return [entry.identity.version for entry in entries]


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
