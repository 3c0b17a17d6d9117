"""The booster of a model's file, be it native text or a Python object that holds it."""

import re
from typing import NamedTuple

from app.feature import Category
from app.models.objects.estimator import is_object, read_estimator
from app.models.refusal import ModelRefused
from kernels.forest.errors import ForestError
from kernels.forest.sections import first_iterations, plain

NAMES, CATEGORICAL = "feature_names=", "[categorical_feature: name:"
"""Starts of lines with names; the importances are lines of a name, an equals sign and a number."""

TEXT_START = re.compile(rb"(?:\xef\xbb\xbf)?tree\r?\n")


class StoredBooster(NamedTuple):
    """A booster as it is served.

    Attributes:
        text: LightGBM's native text, of the iterations that predictions use.
        labels: Label of each class, for a classifier of the scikit-learn API.
    """

    text: str
    labels: tuple[Category, ...] | None = None


def stored_booster(content: bytes) -> StoredBooster:
    """Booster of a model's file.

    Raises:
        ModelRefused: The file is none of these, or its object cannot be served.
    """
    if not is_object(content):
        return StoredBooster(_text(content))
    estimator = read_estimator(content)
    if estimator.iterations is None:
        return StoredBooster(estimator.text, estimator.labels)
    try:
        return StoredBooster(first_iterations(estimator.text, estimator.iterations), estimator.labels)
    except ForestError as error:
        raise ModelRefused(str(error)) from error


def _text(content: bytes) -> str:
    """Text of a file. LightGBM reads names in any encoding; those that are not UTF-8 are taken for Latin-1."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if not TEXT_START.match(content):
            raise ModelRefused(
                "the model's file is neither a text of LightGBM nor a Python object that is read"
            ) from error
    text = content.decode("latin-1")
    odd = [line for line in plain(text).split("\n") if not line.isascii()]
    names = {name for line in odd if line.startswith(NAMES) for name in line.removeprefix(NAMES).split(" ")}
    # A damaged byte elsewhere is none of a name.
    if not all(line.startswith((NAMES, CATEGORICAL)) or line.rpartition("=")[0] in names for line in odd):
        raise ModelRefused("the booster's text is damaged: it is not UTF-8, and not in the names of its features alone")
    return text
