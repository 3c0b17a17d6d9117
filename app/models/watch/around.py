"""A source of models within another one, for what is done around each question about versions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.codecs.rules import FloatArray
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity
from app.models.registry.source import Candidate, Fetched, ModelSource, Offer

T = TypeVar("T")


class SourceAround:
    """Passes all questions on; those about versions go through `_ask`, which a subclass may replace.

    Args:
        source: The source.
    """

    def __init__(self, source: ModelSource) -> None:
        self._source = source

    def look(self) -> Offer:
        """See `ModelSource`."""
        return self._ask(self._source.look)

    def version(self, number: str) -> Candidate:
        """See `ModelSource`."""
        return self._ask(partial(self._source.version, number))

    def move_pin(self, number: str | None) -> None:
        """See `ModelSource`."""
        self._ask(partial(self._source.move_pin, number))

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `ModelSource`."""
        return self._source.fetch(identity, destination)

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        """See `ModelSource`."""
        return self._source.card(identity, destination)

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `ModelSource`."""
        return self._source.build(directory, digest)

    def raw_scores(self, booster: Path, rows: FloatArray) -> FloatArray:
        """See `ModelSource`."""
        return self._source.raw_scores(booster, rows)

    def close(self) -> None:
        """See `ModelSource`."""
        self._source.close()

    def _ask(self, question: Callable[[], T]) -> T:
        return question()
