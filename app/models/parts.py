"""Which files of a model directory are read, by the flavors that its MLmodel file names."""

from pathlib import Path
from typing import Any, NoReturn, cast

from app.drift.profile import MAX_PROFILE_BYTES
from app.models.directory import (
    MAX_BOOSTER_BYTES,
    MAX_INTERVALS_BYTES,
    MAX_LABELS_BYTES,
    MAX_PLAN_BYTES,
    MAX_REFERENCES_BYTES,
    native_texts,
    read_file,
)
from app.models.objects.description import printable
from app.models.objects.estimator import read_description
from app.models.objects.holder import WAY_OUT, refuse
from app.models.refusal import ModelRefused

FLAVOR = "madrone"
PYFUNC = "python_function"

PARTS = {
    "booster": MAX_BOOSTER_BYTES,
    "plan": MAX_PLAN_BYTES,
    "references": MAX_REFERENCES_BYTES,
    "difficulty": MAX_BOOSTER_BYTES,
    "intervals": MAX_INTERVALS_BYTES,
    "labels": MAX_LABELS_BYTES,
    "profile": MAX_PROFILE_BYTES,
    "reliability": MAX_INTERVALS_BYTES,
}
"""Files of a model of the madrone flavor, with the largest size of each in bytes. Only the booster is required."""

OBJECT_KEYS = {"lightgbm": "data", "sklearn": "pickled_model"}
"""Flavors of MLflow whose models are served, and the key of each that names the model's file."""


def part_names(directory: Path, flavors: dict[str, Any]) -> dict[str, str]:
    """File name of each part of a model.

    Args:
        directory: Model directory.
        flavors: Flavors of the MLmodel file.

    Raises:
        ModelRefused: No flavor is one that is served, or it does not name its files; the message says what the model
            is instead.
    """
    if isinstance(own := flavors.get(FLAVOR), dict):
        return _own(cast(dict[str, Any], own))
    for flavor, key in OBJECT_KEYS.items():
        if isinstance(found := flavors.get(flavor), dict):
            return {"booster": _booster(directory, flavor, cast(dict[str, Any], found), key)}
    _refuse_others(directory, flavors)


def other_flavors(flavors: dict[str, Any]) -> list[str]:
    """Names of the flavors that are not read, sorted."""
    return sorted(str(name) for name in flavors if name not in (FLAVOR, PYFUNC, *OBJECT_KEYS))


def about_flavor(name: str) -> str:
    """Why a model of a flavor that is not read is refused."""
    return (
        f"the model's flavor is {printable(name)}: LightGBM's models are served, of the flavors lightgbm, sklearn "
        f"and {FLAVOR}"
    )


def _own(flavor: dict[str, Any]) -> dict[str, str]:
    names = {part: flavor[part] for part in PARTS if flavor.get(part) is not None}
    if "booster" not in names or not all(isinstance(name, str) for name in names.values()):
        raise ModelRefused(f"the {FLAVOR} flavor must name its booster, and each of its files by a text")
    if ("difficulty" in names) != ("intervals" in names):
        raise ModelRefused(f"the {FLAVOR} flavor must name both difficulty and intervals, or neither")
    return names


def _booster(directory: Path, flavor: str, content: dict[str, Any], key: str) -> str:
    """Name of the file with the booster: the one text beside an object, or the file that the flavor names."""
    native = flavor == "lightgbm" and content.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster"
    name = content.get(key)
    if not native and len(texts := native_texts(directory)) == 1:
        return texts[0]
    if not isinstance(name, str):
        raise ModelRefused(f"the {flavor} flavor does not name the model's file ({key})")
    return name


def _refuse_others(directory: Path, flavors: dict[str, Any]) -> NoReturn:
    """Refuse a model that has no flavor of LightGBM, and say what it is."""
    if others := other_flavors(flavors):
        raise ModelRefused(about_flavor(others[0]))
    pyfunc = flavors.get(PYFUNC)
    if not isinstance(pyfunc, dict):
        raise ModelRefused(f"the model has none of the flavors lightgbm, sklearn and {FLAVOR}")
    pyfunc = cast(dict[str, Any], pyfunc)
    if isinstance(name := pyfunc.get("python_model"), str):
        stored = read_file(directory, name, MAX_BOOSTER_BYTES)
        refuse(read_description(stored), "a PythonModel of mlflow.pyfunc", alone=False)
    loader = pyfunc.get("loader_module")
    by = f", loaded by the module {printable(loader)}" if isinstance(loader, str) else ""
    raise ModelRefused(f"the model is a Python function{by}, and such code is not run. {WAY_OUT}")
