"""What each app would work out anew and always alike, worked out once in a process that starts some hundred apps."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from litestar._signature import SignatureModel
from litestar.utils.signature import ParsedSignature

from app.models import artifact


def work_once() -> None:
    """Read a model's text, measure its kernels and read the handlers' signatures once for all apps of this process.

    The bundled model's text is read for each app, and its kernels are measured, which is half of the time that an app
    takes to start. What comes of a text is never changed, and depends on nothing else.
    """
    artifact.read_forest = lru_cache(maxsize=4)(artifact.read_forest)
    artifact.make_forest = _made_and_measured_once(artifact.make_forest)
    _read_signatures_once()


def _once(work: Callable[..., Any]) -> Callable[..., Any]:
    """Work that is done the first time, and gives the same answer ever after."""
    answers: list[Any] = []

    def answer(*arguments: Any) -> Any:
        if not answers:
            answers.append(work(*arguments))
        return answers[0]

    return answer


def _made_and_measured_once(make: Callable[..., Any]) -> Callable[..., Any]:
    """The forest of what was read, which is the same for all apps if what was read is."""
    forests: dict[int, tuple[Any, Any]] = {}

    def made(data: Any) -> Any:
        if id(data) not in forests:
            if len(forests) == 8:
                forests.clear()
            forest = make(data)
            for measured in (forest, forest.explainer):
                if hasattr(measured, "measure"):
                    measured.measure = _once(measured.measure)
            forests[id(data)] = data, forest  # with the data, so that no other gets its id
        return forests[id(data)][1]

    return made


def _read_signatures_once() -> None:
    """Litestar reads those of 120 handlers for each app: half of the processor time that building one takes."""
    read: Any = ParsedSignature.from_fn
    make: Any = SignatureModel.create
    signatures: dict[Hashable, tuple[Any, ParsedSignature]] = {}
    models: dict[Hashable, tuple[Any, type[SignatureModel]]] = {}

    def read_once(fn: Any, signature_namespace: dict[str, Any]) -> ParsedSignature:
        key = _definition(fn)
        if key not in signatures:
            signatures[key] = fn, read(fn, signature_namespace)  # with the function, so that no other gets its ids
        return signatures[key][1]

    def make_once(*, fn: Any, dependency_name_set: set[str], **more: Any) -> type[SignatureModel]:
        key = _definition(fn), frozenset(dependency_name_set)
        if key not in models:
            models[key] = fn, make(fn=fn, dependency_name_set=dependency_name_set, **more)
        return models[key][1]

    ParsedSignature.from_fn = read_once  # type: ignore[method-assign]
    SignatureModel.create = make_once  # type: ignore[method-assign]


def _definition(fn: Any) -> Hashable:
    """The same for all functions of one `def` or lambda whose parameters have the same types."""
    function = getattr(fn, "__func__", fn)
    if hasattr(function, "__wrapped__") or not hasattr(function, "__code__"):
        return id(function)
    return function.__code__, tuple(map(id, function.__annotations__.values()))
