"""Name and version of a model in the registry."""

import msgspec

from app.config.fields import Stage
from app.models.registry.version_number import Version


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a registered model.

    Attributes:
        stage: Stage of the version at the last look.
        aliases: Aliases of the version at the last look.
        run_id: Training run, where the registry knows it.
        created_at_ms: Creation time in the registry, in milliseconds since 1970. A model that is deleted and
            registered again has the same version numbers again.
    """

    name: str
    version: Version
    stage: Stage | None = None
    aliases: tuple[str, ...] = ()
    run_id: str | None = None
    created_at_ms: int | None = None

    def is_same_version(self, other: "ModelIdentity") -> bool:
        """Whether both are the same version, whatever their stages and aliases."""
        return (self.name, self.version, self.created_at_ms) == (other.name, other.version, other.created_at_ms)
