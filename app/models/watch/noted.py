"""A source of models whose answers are noted, for the reports of the service's health."""

from collections.abc import Callable
from typing import TypeVar

from app.models.registry.source import (
    ModelSource,
    ModelUnknown,
    PinNotMoved,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.watch.around import SourceAround
from app.telemetry.dependencies import Dependency

T = TypeVar("T")


class NotedSource(SourceAround):
    """Passes all questions on, and notes whether and how soon the registry answered those about versions.

    Downloads are not noted: they come from other places, and take as long as the model is large.

    Args:
        source: The registry.
        registry: Takes the notes.
    """

    def __init__(self, source: ModelSource, registry: Dependency) -> None:
        super().__init__(source)
        self._registry = registry

    def _ask(self, question: Callable[[], T]) -> T:
        self._registry.began()
        try:
            answer = question()
        except (ModelUnknown, VersionUnknown, PinNotMoved):  # that is an answer
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
