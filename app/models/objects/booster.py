"""The booster of a model's file, be it native text or a Python object that holds it."""

from typing import NamedTuple

from app.feature import Category
from app.models.objects.estimator import is_object, read_estimator
from app.models.refusal import ModelRefused
from kernels.forest.errors import ForestError
from kernels.forest.sections import first_iterations


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
        try:
            return StoredBooster(content.decode())
        except UnicodeDecodeError as error:
            raise ModelRefused(
                "the model's file is neither text in UTF-8 nor a pickle, a joblib or a skops file"
            ) from error
    estimator = read_estimator(content)
    if estimator.iterations is None:
        return StoredBooster(estimator.text, estimator.labels)
    try:
        return StoredBooster(first_iterations(estimator.text, estimator.iterations), estimator.labels)
    except ForestError as error:
        raise ModelRefused(str(error)) from error
