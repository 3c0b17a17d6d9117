"""A calibrated model as a directory: the original's files as they are, with what was added beside them.

The MLmodel file keeps its flavors, so MLflow loads and predicts as before. The added flavor `madrone` names the same
booster, which Madrone then reads together with the added parts.
"""

import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from app.calibration.intervals import CalibratedIntervals
from app.drift.profile import Profile
from app.models import pyfunc
from app.models.directory import MLMODEL, read_mlmodel
from app.models.flavor import DIFFICULTY_FILE, INTERVALS_FILE, PROFILE_FILE
from app.models.parts import FLAVOR, PYFUNC, part_names
from app.models.predictions.reliability import Reliability

FOLDER = "madrone"
"""Folder of the added files, where no other file has their names."""

RELIABILITY_FILE = "reliability.json"

OF_ANOTHER = ("run_id", "artifact_path", "model_id", "model_size_bytes")
"""Keys of an MLmodel file about where the original was logged."""


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to a model; None for what is not."""

    intervals: CalibratedIntervals | None = None
    reliability: Reliability | None = None
    profile: Profile | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What there is."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name) is not None)


def write_calibrated(original: Path, directory: Path, added: Added) -> None:
    """Write a model directory.

    Args:
        original: Directory of the model; not changed.
        directory: Directory to write; empty or absent.
        added: What is added. It replaces such parts of the original.

    Raises:
        ModelRefused: The original is no model that can be served.
        OSError: A file cannot be read or written.
    """
    shutil.copytree(original, directory, dirs_exist_ok=True)
    _, mlmodel = read_mlmodel(directory)
    flavors = cast(dict[str, Any], mlmodel["flavors"])
    parts: dict[str, str] = part_names(directory, flavors)
    content: dict[str, tuple[str, bytes]] = {}
    if (intervals := added.intervals) is not None:
        content["difficulty"] = DIFFICULTY_FILE, intervals.difficulty.encode()
        content["intervals"] = INTERVALS_FILE, _json(intervals.intervals)
    if added.reliability is not None:
        content["reliability"] = RELIABILITY_FILE, _json(added.reliability)
    if added.profile is not None:
        content["profile"] = PROFILE_FILE, added.profile.to_json()
    for part, (name, file) in content.items():
        if (replaced := parts.get(part)) is not None:
            (directory / replaced).unlink(missing_ok=True)
        parts[part] = f"{FOLDER}/{name}"
        (directory / FOLDER).mkdir(exist_ok=True)
        (directory / parts[part]).write_bytes(file)
    flavors[FLAVOR] = {**cast(dict[str, Any], flavors.get(FLAVOR) or {}), **parts}
    flavors.setdefault(PYFUNC, {"loader_module": pyfunc.__name__, "env": {"virtualenv": None}})
    for key in OF_ANOTHER:
        mlmodel.pop(key, None)
    mlmodel["model_uuid"] = uuid.uuid4().hex
    mlmodel["utc_time_created"] = str(datetime.now(UTC).replace(tzinfo=None))
    (directory / MLMODEL).write_text(yaml.safe_dump(mlmodel, sort_keys=False, allow_unicode=True))


def put_directory(source: Path, target: Path) -> None:
    """Copy a model directory to another one, which is empty or new. Whatever ends it, the MLmodel file comes last.

    Raises:
        OSError: The directory cannot be written.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target) as scratch:
        incoming = Path(scratch, "model")
        shutil.copytree(source, incoming)
        for entry in sorted(incoming.iterdir(), key=lambda path: path.name == MLMODEL):
            entry.rename(target / entry.name)


def _json(struct: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(struct), indent=2) + b"\n"
