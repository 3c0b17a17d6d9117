"""Objects around LightGBM models, which are refused: what they are, and where a booster sits in them."""

from collections import deque
from typing import Any, NoReturn, cast

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
MAX_SHOWN = 3

WAY_OUT = (
    "Convert it where its packages are installed (`madrone convert MODEL_URI --register NAME`), or put the text of its "
    "booster (booster_.save_model) beside it, as the only such text"
)


class Place(msgspec.Struct, frozen=True):
    """Place of a booster.

    Attributes:
        path: Path to the LightGBM model that holds it, such as `best_estimator_ → steps[1] 'model'`.
        class_name: Class of that model, with its module.
    """

    path: str
    class_name: str


def refuse(root: Any, what: str = "a Python object") -> NoReturn:
    """Refuse an object.

    Args:
        root: Its description.
        what: Kind of object, as the message is to say it.

    Raises:
        ModelRefused: Always; the message says what the object is, and where the boosters in it are.
    """
    found = places(root)
    of = f"the model is a {printable(class_name(root))}, {what}"
    if not found:
        raise ModelRefused(f"{of} that holds no fitted LightGBM booster")
    shown = ", ".join(f"{place.path} ({printable(place.class_name)})" for place in found[:MAX_SHOWN])
    more = f" and {len(found) - MAX_SHOWN} more places" if len(found) > MAX_SHOWN else ""
    count = "a LightGBM booster" if len(found) == 1 else f"{len(found)} LightGBM boosters"
    raise ModelRefused(
        f"{of} that computes its predictions with {count} at {shown}{more}, and such objects are not run. {WAY_OUT}"
    )


def places(root: Any) -> list[Place]:
    """Places of all fitted boosters in an object, the nearest first; each booster once."""
    found: list[Place] = []
    seen = {id(root)}
    waiting: deque[tuple[Any, str, Any]] = deque([(root, "", root)])
    while waiting:
        thing, path, parent = waiting.popleft()
        if class_name(thing) == BOOSTER:
            state = attributes(thing)
            if isinstance(state.get("_handle", state.get("handle")), str):
                found.append(Place(path.removesuffix(" → _Booster"), class_name(parent)))
            continue
        for step, child in _children(thing):
            if isinstance(child, Described | Mapping | list | tuple) and id(child) not in seen:
                seen.add(id(child))
                holder = thing if isinstance(thing, Described) else parent
                waiting.append((child, _joined(path, step), holder))
    return found


def _children(thing: Any) -> list[tuple[str, Any]]:
    """Parts of a described object, each with the step that leads to it."""
    if isinstance(thing, list | tuple):
        items = cast(list[Any], thing)
        name = items[0] if len(items) > 1 and isinstance(thing, tuple) and isinstance(items[0], str) else None
        # A pair of a name and an object, as pipelines have, is told by the name.
        return [(f"[{index}]" if name is None else f" {name[:40]!r}", item) for index, item in enumerate(items)]
    if isinstance(thing, Mapping):
        return [(_key(key), value) for key, value in thing.pairs]
    if not isinstance(thing, Described):
        return []
    parts = [(f" → {printable(name)}", value) for name, value in attributes(thing).items()]
    parts += [(f"[{index}]", value) for index, value in enumerate(thing.elements)]
    parts += [(_key(key), value) for key, value in thing.pairs]
    parts += [(f" → argument {index}", value) for index, value in enumerate(thing.arguments)]
    parts += [(" → class", thing.kind), (" → values", thing.content)]
    if not isinstance(thing.state, Mapping):
        parts.append((" → state", thing.state))
    return parts


def _key(key: Any) -> str:
    return f"[{key[:40]!r}]" if isinstance(key, str) else "[…]"


def _joined(path: str, step: str) -> str:
    joined = path + step if path else step.removeprefix(" → ")
    return joined if len(joined) <= MAX_PATH else f"…{joined[-MAX_PATH:]}"
