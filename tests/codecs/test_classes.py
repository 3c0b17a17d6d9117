"""Classes: labels and probabilities from predictions, for one row and for many."""

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.classes import as_numbers, class_indices, label_of_one, probabilities, probabilities_of_one

shares = st.floats(0, 1)
rows = st.lists(shares, min_size=1, max_size=20) | st.integers(2, 5).flatmap(
    lambda classes: st.lists(st.lists(shares, min_size=classes, max_size=classes), min_size=1, max_size=20)
)


@given(rows)
def test_one_row_is_answered_like_many(given: list[float] | list[list[float]]) -> None:
    prediction = np.array(given)
    labels = tuple("abcde"[: prediction.shape[1] if prediction.ndim == 2 else 2])
    assert [probabilities_of_one(row) for row in prediction.tolist()] == probabilities(prediction).tolist()
    found = [labels[index] for index in class_indices(prediction, labels).tolist()]
    assert [label_of_one(row, labels) for row in prediction.tolist()] == found


@given(st.lists(shares | st.floats(0.5 - 1e-15, 0.5 + 1e-15), min_size=1, max_size=50))
def test_the_quicker_way_for_two_classes_finds_the_same(given: list[float]) -> None:
    prediction = np.array(given)
    assert class_indices(prediction, ("no", "yes")).tolist() == probabilities(prediction).argmax(axis=1).tolist()


def test_the_first_of_equally_probable_classes_is_taken() -> None:
    assert class_indices(np.array([0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0)]), ("a", "b")).tolist() == [0, 1, 0]
    assert class_indices(np.array([[0.25, 0.5, 0.5], [0.4, 0.2, 0.4]]), ("a", "b", "c")).tolist() == [1, 0]
    assert label_of_one([0.25, 0.5, 0.5], ("a", "b", "c")) == "b"


def test_a_classifier_of_one_class_always_gives_its_label() -> None:
    features = np.arange(40.0).reshape(20, 2)
    own = lgb.LGBMClassifier(n_estimators=1, verbosity=-1, n_jobs=1).fit(features, ["only"] * 20)
    labels = tuple(own.classes_.tolist())
    prediction = own.booster_.predict(features)
    assert isinstance(prediction, np.ndarray)
    assert [labels[index] for index in class_indices(prediction, labels)] == own.predict(features).tolist()
    assert probabilities(prediction).tolist() == own.predict_proba(features).tolist()
    assert label_of_one(1.0, labels) == "only"


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ((False, True), [0.0, 1.0]),
        ((-1, 2**53), [-1.0, 2.0**53]),
        ((0.5, 2), [0.5, 2.0]),
        (("1", "2"), None),
        ((0, 2**53 + 1), None),
        ((0, "1"), None),
    ],
)
def test_labels_are_numbers_if_float64_holds_them(labels: tuple[object, ...], numbers: list[float] | None) -> None:
    found = as_numbers(labels)  # type: ignore[arg-type]
    assert numbers == (None if found is None else found.tolist())
