"""What the questions to a registry tell of its health."""

from typing import Any

import pytest

from app.models.registry.source import ModelUnknown, Offer, RegistryUnreachable, VersionUnknown
from app.models.watch.noted import NotedSource
from app.telemetry.dependencies import Dependency


class Asked:
    """A source that gives or raises what it is told to."""

    answer: Any = Offer((), ())

    def look(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def version(self, number: str) -> Any:
        return self.look()


@pytest.mark.parametrize("question", ["look", "version"])
@pytest.mark.parametrize(
    ("answer", "error", "detail"),
    [
        (Offer((), ()), None, None),
        (ModelUnknown("no such model"), None, None),
        (VersionUnknown("no such version"), None, None),
        (RegistryUnreachable("HTTP 501", "words of the registry"), "HTTP 501", "words of the registry"),
        (OSError("/a/path/of/ours"), "OSError", None),
    ],
)
def test_an_answer_of_any_kind_is_one_and_a_fault_is_kept(
    question: str, answer: Any, error: str | None, detail: str | None
) -> None:
    asked, registry = Asked(), Dependency("registry")
    source: Any = NotedSource(asked, registry)  # type: ignore[arg-type]
    asked.answer = answer
    arguments = ("1",) if question == "version" else ()
    if isinstance(answer, Exception):
        with pytest.raises(type(answer)):
            getattr(source, question)(*arguments)
    else:
        assert getattr(source, question)(*arguments) is answer
    reading = registry.read()
    assert (reading.up, reading.last_error, reading.detail) == (error is None, error, detail)
    assert reading.latency_seconds is not None
