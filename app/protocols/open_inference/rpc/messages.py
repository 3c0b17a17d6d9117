"""Messages of the protocol, made from the description of inference.proto that `just proto` writes.

They are in a pool of their own. In the common pool of the process their names would collide with those of a client of
the protocol, such as tritonclient's. And a description fits every version of protobuf, which generated code does not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    described = Path(__file__).with_name("inference.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(described).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _pool()
"""Descriptions of the messages and of the service, for reflection as well."""

METHODS: Mapping[str, Any] = POOL.FindServiceByName(SERVICE).methods_by_name
"""Description of each method, by name."""


def message(name: str) -> Any:
    """Class of the messages of a name, of the package `inference`."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))
