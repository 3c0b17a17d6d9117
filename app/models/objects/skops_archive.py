"""Files of skops read as data: a zip archive of `schema.json`, a tree of nodes, and arrays in `.npy` files.

A node names its class and, in `__loader__`, the kind of object that skops would make of it (skops/io/_general.py).
Here it becomes the same description that a pickle gives; a kind that is not known becomes one with its content.
"""

import io
import json
import struct
import zipfile
import zlib
from typing import Any, cast

import msgspec

from app.models.objects.compression import LEAST_BYTES, MAX_RATIO
from app.models.objects.description import Described, Mapping, Named
from app.models.refusal import ModelRefused

MAGIC = b"PK\x03\x04"
SCHEMA = "schema.json"

MAX_PARTS = 10_000
"""Largest number of files in the archive. A classifier has one for the labels, and two for each class."""

MAX_VALUES = 8_000_000
"""Largest number of brackets and commas in the schema, and so of values."""

MAX_DEPTH = 200
"""Deepest nesting of nodes. A pipeline has about 10 levels."""

DIRECTORY_ENTRY = b"PK\x01\x02"

OF_ZIPFILE = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError, OSError, EOFError)
"""Errors of a damaged archive, and of methods that are not installed."""


def read_skops(content: bytes, most: int) -> Any:
    """Description of the object in a file of skops.

    Args:
        content: The file.
        most: Largest size of the schema, and of each array, in bytes.

    Raises:
        ModelRefused: The file is damaged, or beyond a bound.
    """
    # Counted beforehand, since zipfile makes an object of every entry when it opens an archive.
    if content.count(DIRECTORY_ENTRY) > MAX_PARTS:
        raise ModelRefused(f"the model's skops file holds more than {MAX_PARTS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _Files(archive, len(content), most)
            schema = files.read(SCHEMA)
            if sum(map(schema.count, (b"{", b"[", b","))) > MAX_VALUES:
                raise ModelRefused(f"the schema of the model's skops file has more than {MAX_VALUES} values")
            return _Nodes(files).describe(msgspec.json.decode(schema))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ModelRefused("the schema of the model's skops file is not valid JSON") from error
    except OF_ZIPFILE as error:
        raise ModelRefused("the model's skops file is not a whole archive with a schema.json") from error


class _Files:
    """Files of one archive, each read once into memory, and never written under its name.

    Args:
        archive: The archive.
        size: Its size in bytes.
        most: Largest size of a file, in bytes.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int, most: int) -> None:
        self._archive = archive
        self._most = most
        self._limit = self._left = min(most, max(LEAST_BYTES, MAX_RATIO * size))
        self._known: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """Content of a file, which many nodes may name."""
        if (known := self._known.get(name)) is not None:
            return known
        part = self._archive.getinfo(name)
        bounds = f"at most {self._most} and {MAX_RATIO} times the archive are read"
        if part.file_size > self._limit:
            raise ModelRefused(f"a file in the model's skops file has {part.file_size} bytes, and {bounds}")
        self._left -= part.file_size
        if self._left < 0:
            raise ModelRefused(f"the files in the model's skops file have more than {self._limit} bytes, and {bounds}")
        with self._archive.open(part) as file:
            content = self._known[name] = file.read(part.file_size)
        return content


class _Nodes:
    """Nodes of one archive, and the objects described so far."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self._described: dict[int, Any] = {}

    def describe(self, node: Any, depth: int = 0) -> Any:
        """Description of a node; a value without a class stands for itself."""
        if depth > MAX_DEPTH:
            raise ModelRefused(f"the schema of the model's skops file nests deeper than {MAX_DEPTH} levels")
        if isinstance(node, list):
            return [self.describe(part, depth + 1) for part in cast(list[Any], node)]
        if not isinstance(node, dict):
            return node
        node = cast(dict[str, Any], node)
        if "__loader__" not in node:
            return Mapping([(name, self.describe(part, depth + 1)) for name, part in node.items()])
        known = node.get("__id__")
        known = known if isinstance(known, int) else None
        if known is not None and known in self._described:
            return self._described[known]  # as skops does: a node of the same number is the same object
        if node["__loader__"] == "CachedNode":
            raise ModelRefused("the schema of the model's skops file refers to an object that is not in it")
        described = self._node(node, depth)
        if known is not None:
            self._described[known] = described
        return described

    def _node(self, node: dict[str, Any], depth: int) -> Any:
        kind, content = Named(f"{node.get('__module__')}.{node.get('__class__')}"), node.get("content")
        match node["__loader__"]:
            case "JsonNode" if isinstance(content, str):
                return json.loads(content)  # unlike msgspec, it reads the NaN that Python's own writer writes
            case "DictNode" | "DefaultDictNode":
                # skops turns keys to texts; those that were none are not looked for.
                return self.describe(_plain(content), depth + 1)
            case "ListNode" | "SetNode" if isinstance(content, list):
                return self.describe(content, depth + 1)
            case "TupleNode" if isinstance(content, list):
                return tuple(self.describe(content, depth + 1))
            case "NdArrayNode" if node.get("type") == "numpy" and isinstance(file := node.get("file"), str):
                return Described(kind, content=self._files.read(file))
            case "NdArrayNode" if isinstance(content, list):
                return Described(kind, elements=self.describe(content, depth + 1))
            case "TypeNode" | "FunctionNode":
                return kind
            case _:
                return Described(kind, state=self.describe(_plain(content), depth + 1))


def _plain(content: Any) -> Any:
    """Content of a node: that of a `defaultdict` is a node itself, beside the function that makes its values."""
    return content["main"] if isinstance(content, dict) and "default_factory" in content else content
