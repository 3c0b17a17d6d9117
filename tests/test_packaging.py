"""How Madrone is installed: what the lock holds."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> set[str]:
    """Names of the packages that the lock pins."""
    return set(re.findall(r"^([a-z0-9.-]+)==", LOCK, re.MULTILINE))


def wanted_by_every_extra() -> set[str]:
    """Names of all packages that an install on this machine brings, as far as what asks for them is installed here."""
    extras = PROJECT["optional-dependencies"]
    todo = [Requirement(text) for texts in (PROJECT["dependencies"], *extras.values()) for text in texts]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in done or not (requirement.marker is None or requirement.marker.evaluate()):
            continue
        done.add(key)
        try:
            texts = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        for asked in map(Requirement, texts):
            marker = asked.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")):
                asked.marker = None
                todo.append(asked)
    return {name for name, _ in done}


def test_the_lock_pins_whatever_any_extra_brings() -> None:
    assert wanted_by_every_extra() - locked() == set()


def test_the_lock_has_a_hash_for_each_package_and_names_no_index() -> None:
    pins = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert [pin.split(maxsplit=1)[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert re.findall(r"://|^\s*-[-if]", LOCK.replace("--hash=", ""), re.MULTILINE) == []
