"""Objects around LightGBM models, which are refused: what they are, and where a booster sits in them."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, cast

import msgspec

from app.models.objects.description import (
    Described,
    Mapping,
    attributes,
    class_name,
    printable,
)
from app.models.objects.lineage import BOOSTER
from app.models.refusal import ModelRefused

MAX_PATH = 200
MAX_NAME = 40
MAX_SHOWN = 3
MAX_PARTS = 200_000
"""Parts of an object that are looked into."""

WAY_OUT = "Convert it where its packages are installed: `madrone convert MODEL_URI --register NAME`"
ALONE = "If its booster alone predicts what is wanted, log that, or put its text (booster_.save_model) beside it"


class BoosterPlace(msgspec.Struct, frozen=True):
    """Place of a booster.

    Attributes:
        path: Path to the LightGBM model that holds it, such as `best_estimator_ → steps[1] 'model'`.
        class_name: Class of that model, with its module.
    """

    path: str
    class_name: str


def refuse(root: Any, what: str = "a Python object", *, alone: bool = True) -> NoReturn:
    """Refuse an object.

    Args:
        root: Its description.
        what: Kind of object, as the message is to say it.
        alone: Whether a booster's text beside the object would be served.

    Raises:
        ModelRefused: Always; the message says what the object is, and where the boosters in it are.
    """
    found = places(root)
    of = f"the model is a {printable(class_name(root))}, {what}"
    if not found:
        raise ModelRefused(f"{of} in which no fitted LightGBM booster was found")
    shown = ", ".join(f"{place.path} ({printable(place.class_name)})" for place in found[:MAX_SHOWN])
    more = f" and {len(found) - MAX_SHOWN} more places" if len(found) > MAX_SHOWN else ""
    count = "a LightGBM booster" if len(found) == 1 else f"{len(found)} LightGBM boosters"
    raise ModelRefused(
        f"{of} that computes its predictions with {count} at {shown}{more}, and such objects are not run. "
        + (f"{WAY_OUT}. {ALONE}" if alone else WAY_OUT)
    )


def places(root: Any) -> list[BoosterPlace]:
    """Places of the fitted boosters in an object, the nearest first; each booster once."""
    found: list[BoosterPlace] = []
    seen = {id(root)}
    waiting = deque([_Part(root, None, None)])
    while waiting and len(seen) < MAX_PARTS:
        part = waiting.popleft()
        if class_name(part.thing) == BOOSTER:
            state = attributes(part.thing)
            if isinstance(state.get("_handle", state.get("handle")), str):
                found.append(_place(part))
            continue
        for step, child in _children(part.thing):
            if isinstance(child, Described | Mapping | list | tuple) and id(child) not in seen:
                seen.add(id(child))
                waiting.append(_Part(child, part, step))
    return found


class _Part(NamedTuple):
    """A part of an object, and the step that leads to it from the part around it."""

    thing: Any
    around: "_Part | None"
    step: Any


class _Item(NamedTuple):
    """Step to an item of a list or of a dictionary; a text alone is a step to an attribute."""

    key: Any


class _Namesake(NamedTuple):
    """Step to the object in a pair of a name and an object, such as pipelines have."""

    name: str


def _children(thing: Any) -> Iterator[tuple[Any, Any]]:
    """Parts of a described object, each with the step that leads to it."""
    if isinstance(thing, list | tuple):
        items = cast(list[Any], thing)
        named = isinstance(thing, tuple) and len(items) > 1 and isinstance(items[0], str)
        for index, item in enumerate(items):
            yield (_Namesake(items[0]) if named else _Item(index)), item
    elif isinstance(thing, Mapping):
        for key, value in thing.pairs:
            yield _Item(key), value
    elif isinstance(thing, Described):
        yield from attributes(thing).items()
        for index, item in enumerate(thing.elements):
            yield _Item(index), item
        for key, value in thing.pairs:
            yield _Item(key), value
        for name in ("arguments", "state", "kind", "content"):
            yield f"({name})", getattr(thing, name)


def _place(part: _Part) -> BoosterPlace:
    """Place of a booster: the path to the LightGBM model that holds it, or its own where none does."""
    holder = part.around if part.step == "_Booster" and part.around is not None else part
    steps: list[str] = []
    around = holder
    while around.around is not None and sum(map(len, steps)) < MAX_PATH:
        steps.append(_step(around.step))
        around = around.around
    joined = "".join(reversed(steps))
    path = joined.removeprefix(" → ") if around.around is None else f"…{joined}"
    return BoosterPlace(path or "its attribute _Booster", class_name(holder.thing))


def _step(step: Any) -> str:
    match step:
        case _Namesake(name):
            return f" {name[:MAX_NAME]!r}"
        case _Item(int() as index):
            return f"[{index}]" if abs(index) < 2**63 else "[…]"
        case _Item(key):
            return f"[{key[:MAX_NAME]!r}]" if isinstance(key, str) else "[…]"
        case _:
            return f" → {printable(step)}"
