"""A source of models whose answers are noted, for the reports of the service's health."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.codecs.rules import FloatArray
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity
from app.models.registry.source import (
    Candidate,
    Fetched,
    ModelSource,
    ModelUnknown,
    Offer,
    RegistryUnreachable,
    VersionUnknown,
)
from app.telemetry.dependencies import Dependency

T = TypeVar("T")


class NotedSource:
    """Passes all questions on, and notes whether and how soon the registry answered those about versions.

    Downloads are not noted: they come from other places, and take as long as the model is large.

    Args:
        source: The registry.
        registry: Takes the notes.
    """

    def __init__(self, source: ModelSource, registry: Dependency) -> None:
        self._source = source
        self._registry = registry

    def look(self) -> Offer:
        """See `ModelSource`."""
        return self._noted(lambda: self._source.look())

    def version(self, number: str) -> Candidate:
        """See `ModelSource`."""
        return self._noted(partial(self._source.version, number))

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `ModelSource`."""
        return self._source.fetch(identity, destination)

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `ModelSource`."""
        return self._source.build(directory, digest)

    def raw_scores(self, booster: Path, rows: FloatArray) -> FloatArray:
        """See `ModelSource`."""
        return self._source.raw_scores(booster, rows)

    def close(self) -> None:
        """See `ModelSource`."""
        self._source.close()

    def _noted(self, ask: Callable[[], T]) -> T:
        self._registry.began()
        try:
            answer = ask()
        except (ModelUnknown, VersionUnknown):  # that is an answer
            self._registry.ended()
            raise
        except RegistryUnreachable as error:
            self._registry.ended(str(error), error.detail)
            raise
        except BaseException as error:
            self._registry.ended(type(error).__name__)
            raise
        self._registry.ended()
        return answer
