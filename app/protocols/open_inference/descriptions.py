"""Descriptions of the server and its models, in the shapes of the protocol and of Triton's extensions.

The extensions are https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from app.codecs.arrays.tensors import BYTES
from app.config.settings import Settings
from app.container import Services
from app.models.served import ServedModel
from app.protocols.open_inference.models import models_in_service
from app.protocols.open_inference.outputs import FEATURES, TensorMetadata, inputs_of, outputs_of

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
PLATFORM = "lightgbm"


class ServerMetadata(msgspec.Struct, frozen=True):
    """Name of the server, its version, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: tuple[str, ...]


class Columns(msgspec.Struct, frozen=True):
    """Names of the columns of a tensor of all features."""

    columns: tuple[str, ...]


class TensorDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor that a model takes or gives; a dimension of -1 is variable."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Columns | UnsetType = UNSET


class ModelMetadata(msgspec.Struct, frozen=True):
    """Tensors of a model, and the versions that answer requests."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]


class ConfiguredInput(msgspec.Struct, frozen=True):
    """An input in a configuration, whose dimensions are without that of the rows."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool


class ConfiguredOutput(msgspec.Struct, frozen=True):
    """An output in a configuration."""

    name: str
    data_type: str
    dims: tuple[int, ...]


class TransactionPolicy(msgspec.Struct, frozen=True):
    """Whether a request may have another number of answers than one."""

    decoupled: bool


class ModelConfig(msgspec.Struct, frozen=True):
    """Configuration of a model as Triton shows it, as far as it means something here.

    Attributes:
        max_batch_size: Most rows of a request.
    """

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: tuple[ConfiguredInput, ...]
    output: tuple[ConfiguredOutput, ...]
    model_transaction_policy: TransactionPolicy


class IndexEntry(msgspec.Struct, frozen=True):
    """A version of a model, and whether it answers requests."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


def server_metadata(settings: Settings) -> ServerMetadata:
    """Description of the server."""
    return ServerMetadata("madrone", settings.api_version, EXTENSIONS)


def model_metadata(served: ServedModel, services: Services) -> ModelMetadata:
    """Description of a model, for which the services answer."""
    versions = tuple(model.identity.version for model in models_in_service(services.slot))
    return ModelMetadata(
        services.settings.model_name,
        versions or (served.identity.version,),
        PLATFORM,
        tuple(_described(tensor, served) for tensor in inputs_of(served)),
        tuple(_described(tensor, served) for tensor in outputs_of(served)),
    )


def model_config(served: ServedModel, services: Services) -> ModelConfig:
    """Configuration of a model, for which the services answer."""
    optional = {feature.name for feature in served.artifact.features if not feature.required}
    return ModelConfig(
        services.settings.model_name,
        PLATFORM,
        PLATFORM,
        services.settings.max_bulk_rows,
        tuple(
            ConfiguredInput(tensor.name, _data_type(tensor), tensor.shape[1:], tensor.name in optional)
            for tensor in inputs_of(served)
        ),
        tuple(ConfiguredOutput(tensor.name, _data_type(tensor), tensor.shape[1:]) for tensor in outputs_of(served)),
        TransactionPolicy(decoupled=False),
    )


def repository_index(services: Services, *, ready: bool) -> list[IndexEntry]:
    """Versions of all models that answer requests; and models of which none does, unless `ready` is asked."""
    return [entry for one in services.models.values() for entry in _entries(one, ready=ready)]


def _entries(services: Services, *, ready: bool) -> list[IndexEntry]:
    name = services.name
    entries = [IndexEntry(name, served.identity.version, "READY", "") for served in models_in_service(services.slot)]
    if entries or ready:
        return entries
    last = services.keeper.last_refresh
    why = "no model is loaded" if last is None or last.reason is None else last.reason
    return [IndexEntry(name, "", "UNAVAILABLE", "unloaded" if services.slot.unloaded else why)]


def _described(tensor: TensorMetadata, served: ServedModel) -> TensorDescription:
    is_matrix = tensor.name == FEATURES and tensor.shape[1] == len(served.feature_names)
    return TensorDescription(*tensor, Columns(served.feature_names) if is_matrix else UNSET)


def _data_type(tensor: TensorMetadata) -> str:
    return "TYPE_STRING" if tensor.datatype == BYTES else f"TYPE_{tensor.datatype}"
