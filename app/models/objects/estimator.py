"""LightGBM models of the scikit-learn API, and boosters, as the objects that hold them are stored.

LightGBM's `LGBMModel` keeps its booster as `_Booster`, and a `Booster` its native text as `_handle` (as `handle` before
version 4), with all iterations: `best_iteration` beside it says how many of them `predict` uses (lightgbm/basic.py,
lightgbm/sklearn.py). Only what such an object would predict by default is described here.
"""

import re
from typing import Any

import msgspec

from app.feature import Category
from app.models.directory import MAX_BOOSTER_BYTES
from app.models.objects.array import UnreadableArray, values
from app.models.objects.compression import method_of, unpack
from app.models.objects.description import (
    attributes,
    class_name,
    dict_of,
    printable,
)
from app.models.objects.holder import refuse
from app.models.objects.lineage import BOOSTER, lightgbm_class
from app.models.objects.pickle_stream import read_pickle
from app.models.objects.skops_archive import MAGIC, read_skops
from app.models.refusal import ModelRefused
from kernels.forest.header import MAX_OUTPUTS

PICKLE_START = re.compile(rb"\x80|c[\w.]{1,100}\n[\w.]{1,100}\n")
"""Start of a pickle: its protocol from version 2 on, and the name of a function or class before."""

PANDAS_LINE = "\npandas_categorical:"

EARLY_STOP = "pred_early_stop"
"""Parameter by which a wrapper's predictions stop before the last tree; a booster's text does not hold it."""


class Estimator(msgspec.Struct, frozen=True, kw_only=True):
    """A booster, and what the object around it adds.

    Attributes:
        text: LightGBM's native text, of all iterations.
        iterations: Number of iterations that predictions use; None for all.
        labels: Label of each class, for a classifier.
        class_name: Class of the object, with its module.
    """

    text: str
    iterations: int | None
    labels: tuple[Category, ...] | None
    class_name: str


def is_object(content: bytes) -> bool:
    """Whether a file is a pickle, a file of joblib or one of skops, by its first bytes."""
    return content.startswith(MAGIC) or PICKLE_START.match(content) is not None or method_of(content) is not None


def read_estimator(content: bytes) -> Estimator:
    """Read a model that is stored as a Python object. Nothing that the file names is imported or called.

    Raises:
        ModelRefused: The file is damaged or beyond a bound, or its object is none whose predictions the text of one
            booster gives; the message says what it is.
    """
    return estimator_of(read_description(content))


def read_description(content: bytes) -> Any:
    """Description of the object in a file of pickle, joblib or skops.

    Raises:
        ModelRefused: The file is damaged or beyond a bound.
    """
    if content.startswith(MAGIC):
        return read_skops(content, MAX_BOOSTER_BYTES)
    unpacked = unpack(content, MAX_BOOSTER_BYTES)
    if unpacked.startswith(b"tree"):
        raise ModelRefused("the model's file is a compressed text, and LightGBM itself reads none: unpack it")
    return read_pickle(unpacked)


def estimator_of(root: Any) -> Estimator:
    """See `read_estimator`; the argument is the description of the object."""
    name = class_name(root)
    if name == BOOSTER:
        return _estimator(root, name, labels=None)
    found = attributes(root)
    booster = found.get("_Booster")
    if lightgbm_class(root) is None or (booster is not None and class_name(booster) != BOOSTER):
        refuse(root)
    if booster is None:
        raise ModelRefused(f"the model is a {printable(name)} that has not been fitted")
    if dict_of(found.get("_other_params")).get(EARLY_STOP) not in (None, False):
        raise ModelRefused(f"the model's parameter {EARLY_STOP} ends predictions early, which is not served")
    # Any objective but a name is a function, or an object that can be called.
    custom = not isinstance(found.get("_objective"), str | None)
    labels = None if custom or found.get("_classes") is None else _labels(found["_classes"])
    return _estimator(booster, name, labels)


def _estimator(booster: Any, name: str, labels: tuple[Category, ...] | None) -> Estimator:
    state = attributes(booster)
    text = state.get("_handle", state.get("handle"))
    if not isinstance(text, str):
        raise ModelRefused(f"the model is a {printable(name)} whose booster holds no text")
    best = state.get("best_iteration")
    return Estimator(
        text=_with_categories(text, state.get("pandas_categorical")),
        iterations=best if type(best) is int and best > 0 else None,
        labels=labels,
        class_name=name,
    )


def _with_categories(text: str, categories: Any) -> str:
    """Text of a booster with its line of pandas categories, which LightGBM 2.0 kept beside the text only."""
    if categories is None or PANDAS_LINE in text[text.rfind("end of trees") :]:
        return text
    try:
        plain = [values(column, MAX_BOOSTER_BYTES) for column in categories]
    except (UnreadableArray, TypeError) as error:
        raise ModelRefused("the booster's pandas categories are not texts, numbers or booleans") from error
    return f"{text}{PANDAS_LINE}{msgspec.json.encode(plain).decode()}\n"


def _labels(classes: Any) -> tuple[Category, ...]:
    try:
        return tuple(values(classes, MAX_OUTPUTS))
    except UnreadableArray as error:
        raise ModelRefused(f"the class labels in the model's object {error}") from error
