"""Which model a model is: its name and version in the registry."""

import msgspec

from app.models.registry.version_number import VersionNumber
from app.settings import Stage


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which model this is, pinned to one version of the registry."""

    name: str
    version: VersionNumber
    stage: Stage | None = None
    aliases: tuple[str, ...] = ()
    run_id: str | None = None
    created_at_ms: int | None = None
    """When the registry made the version: a model that is registered anew has its old numbers again."""

    def is_same_version(self, other: "ModelIdentity") -> bool:
        """Whether both are one version of the registry, whatever its stage and aliases were at either look."""
        return (self.name, self.version, self.created_at_ms) == (other.name, other.version, other.created_at_ms)
