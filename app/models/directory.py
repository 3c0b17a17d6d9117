"""Reading the files of a model directory within bounds.

The size of a file is checked before it is read. Anything that could grow when parsed, such as an anchor in YAML or the
shape in the header of an array, is checked before it is parsed.
"""

import io
import math
import os
import shutil
import stat
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from app.codecs.rules import FloatArray
from app.models.refusal import ModelRefused

MLMODEL = "MLmodel"
MAX_MLMODEL_BYTES = 1024 * 1024
"""Size of the MLmodel file without the columns of its signature, which may be larger: 20,000 columns are."""
MAX_SIGNATURE_BYTES = 16 * 1024 * 1024
MAX_BOOSTER_BYTES = 1024**3
MAX_PLAN_BYTES = 16 * 1024 * 1024
MAX_REFERENCES_BYTES = 512 * 1024 * 1024
MAX_INTERVALS_BYTES = 64 * 1024
MAX_LABELS_BYTES = 1024 * 1024
MAX_EXAMPLE_BYTES = 16 * 1024 * 1024

MAX_DEPTH = 32
"""Nesting of the MLmodel file; MLflow writes 4 levels."""

NATIVE_SUFFIXES = (".lgb", ".txt", ".model")
NATIVE_START = b"tree\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EXTRA_FILES = "extra_files"
"""Folder of a model directory that MLflow copies `extra_files` to."""

MERGE = "<<"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# LibYAML's loader accepts the same text as PyYAML's own, in a twentieth of the time.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(directory: Path, name: str, most: int, first: int | None = None) -> bytes:
    """Read a file of the model, which must be a plain file inside the model directory.

    Args:
        directory: Model directory.
        name: Name of the file, relative to the directory.
        most: Largest size allowed, in bytes.
        first: Bytes to read from the start; None for the whole file.

    Raises:
        ModelRefused: The file is absent, outside the directory, too large, or unreadable.
    """
    path = directory / name
    try:
        if path.is_symlink() or not path.resolve().is_relative_to(directory.resolve()):
            raise ModelRefused(f"the model's file {name[:100]!r} is outside its directory")
        if not path.is_file():
            raise ModelRefused(f"the model has no file {name[:100]!r}")
        if (size := path.stat().st_size) > most:
            raise ModelRefused(f"the model's file {name[:100]!r} has {size} bytes, and at most {most} are read")
        with path.open("rb") as file:
            return file.read(size if first is None else first)
    except (OSError, ValueError, RuntimeError) as error:  # an impossible name, or links in a circle
        raise ModelRefused(f"the model's file {name[:100]!r} cannot be read: {type(error).__name__}") from error


def read_mlmodel(directory: Path) -> tuple[bytes, dict[str, Any]]:
    """Read the MLmodel file.

    Returns:
        Bytes of the file, and its content, which has a mapping under `flavors`.

    Raises:
        ModelRefused: The file is not as MLflow writes it.
    """
    content = read_file(directory, MLMODEL, MAX_MLMODEL_BYTES + MAX_SIGNATURE_BYTES)
    try:
        _check_events(content)
        mlmodel: Any = yaml.load(content, Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that does not exist.
        raise ModelRefused("the MLmodel file is not valid YAML") from error
    if not isinstance(mlmodel, dict) or not isinstance(mlmodel.get("flavors"), dict):
        raise ModelRefused("the MLmodel file names no flavors")
    signature = mlmodel.get("signature")
    columns = signature.get("inputs") if isinstance(signature, dict) else None
    others = len(content) - (len(columns) if isinstance(columns, str) else 0)
    if others > MAX_MLMODEL_BYTES:
        raise ModelRefused(
            f"the MLmodel file has {others} bytes beside its signature's columns, and at most {MAX_MLMODEL_BYTES} "
            "are read"
        )
    return content, cast(dict[str, Any], mlmodel)


def _check_events(content: bytes) -> None:
    """Refuse YAML that can expand from a few bytes to any number of values, before any value is made."""
    depth = 0
    for event in yaml.parse(content, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ModelRefused(f"the MLmodel file nests deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ModelRefused("the MLmodel file has a YAML anchor or alias, and MLflow writes none")
        if isinstance(event, yaml.ScalarEvent) and (
            (event.value == MERGE and event.implicit[0]) or event.tag == "tag:yaml.org,2002:merge"
        ):
            raise ModelRefused("the MLmodel file has a YAML merge key, and MLflow writes none")


def native_texts(directory: Path) -> list[str]:
    """Names of the boosters' text files that somebody put beside a model's own file.

    They are at the top of the directory, or where MLflow copies `extra_files` to.
    """
    return [
        path.relative_to(directory).as_posix()
        for folder in (directory, directory / EXTRA_FILES)
        if folder.is_dir() and not folder.is_symlink()
        for path in sorted(folder.iterdir())
        if path.suffix in NATIVE_SUFFIXES and not path.is_dir() and _is_native(directory, path)
    ]


def _is_native(directory: Path, path: Path) -> bool:
    name = path.relative_to(directory).as_posix()
    start = read_file(directory, name, MAX_BOOSTER_BYTES, len(BYTE_ORDER_MARK + NATIVE_START) + 1)
    return start.removeprefix(BYTE_ORDER_MARK).replace(b"\r\n", b"\n").startswith(NATIVE_START)


def read_table(content: bytes) -> FloatArray:
    """Read stored rows, an array as `numpy.save` writes it. The engine checks that the rows fit the plan.

    Raises:
        ModelRefused: The content is not a whole array.
    """
    try:
        return read_npy(content)
    except ValueError as error:
        raise ModelRefused("the model's references are not a whole .npy file") from error


def read_npy(content: bytes) -> NDArray[Any]:
    """Read an array as `numpy.save` writes it, without objects.

    Raises:
        ValueError: The content is not a whole array.
    """
    stream = io.BytesIO(content)
    try:
        shape, _, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
        # NumPy allocates what the header asks for before it reads the values.
        if math.prod(shape) * dtype.itemsize > len(content) - stream.tell():
            raise ValueError("the file ends before its array")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # Python's own parser reads the header, and raises more than is documented
        raise ValueError("not a whole .npy file") from error


def copy_model(source: str, destination: Path) -> None:
    """Copy a directory, and its links as links. MLflow would follow them to any place on this machine.

    Raises:
        ModelRefused: The directory has a pipe, a socket or a device.
        OSError: First error of the copy.
    """
    errors: list[OSError] = []

    def copy(path: str, target: str, **options: bool) -> None:
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise ModelRefused("its directory has something that is neither a file nor a directory")
            shutil.copy2(path, target, **options)
        except OSError as error:
            errors.append(error)
            raise

    try:
        shutil.copytree(source, destination, symlinks=True, copy_function=copy)
    except shutil.Error as error:  # it has the texts of all errors, but no errno
        raise (errors or [error])[0] from None
