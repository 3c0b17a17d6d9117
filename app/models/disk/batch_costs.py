"""Measured costs of batches, stored on disk: measuring takes longer than the rest of loading a model."""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.files import reason, replace_file
from kernels.cache import kernels_version
from kernels.cost import Cost

MAX_MODELS = 64

log = logging.getLogger(__name__)


class ModelCosts(msgspec.Struct, frozen=True):
    """Costs of one model, with one version of the kernels.

    Attributes:
        kernels: Version of the kernels.
        digest: Digest of the model.
        costs: Cost by device.
    """

    kernels: str
    digest: str
    costs: dict[str, Cost]

    def is_of(self, digest: str) -> bool:
        """Whether the costs hold for a model with the kernels of this process."""
        return (self.kernels, self.digest) == (kernels_version(), digest)


class BatchCosts:
    """File of the batch costs that were measured last.

    An unusable file is a warning, and costs are measured again. If two processes write at once, the costs of one are
    lost, but the file is always whole.

    Args:
        path: The file; it and its directory need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def costs(self, digest: str) -> dict[str, Cost]:
        """Costs of a model by device; empty if unknown. Never raises."""
        return next((known.costs for known in self._read() if known.is_of(digest)), {})

    def store(self, digest: str, costs: Mapping[str, Cost]) -> None:
        """Store costs of a model, beside those of other devices. Never raises.

        Args:
            digest: Digest of the model.
            costs: Cost by device; nothing is written if empty.
        """
        models = self._read()
        known = next((model.costs for model in models if model.is_of(digest)), {})
        if known == (merged := {**known, **costs}):
            return
        others = [model for model in models if not model.is_of(digest)]
        newest = ModelCosts(kernels_version(), digest, merged)
        try:
            content = msgspec.json.encode([*others, newest][-MAX_MODELS:])
            replace_file(self._path, msgspec.json.format(content, indent=2))
        except OSError as error:
            log.warning("measured costs cannot be written", extra={"reason": reason(error)})

    def _read(self) -> list[ModelCosts]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[ModelCosts])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("measured costs cannot be read", extra={"reason": f"{type(error).__name__}: {error}"[:300]})
            return []
