"""Warnings of a model in service about rows unlike its training rows."""

import re
from pathlib import Path

import numpy as np

from app.codecs.rules import span
from app.models.registry.embedded import BUNDLED
from kernels.engine import Evaluation
from tests.models.support import SavedModel, serve


def test_values_outside_training_ranges_are_warned_of_by_row_and_feature() -> None:
    model = serve(BUNDLED / "model")
    rows = np.repeat(model.artifact.sample(), 4, axis=0)
    names = [feature.name for feature in model.artifact.features]
    income, age = model.artifact.features[names.index("MedInc")], model.artifact.features[names.index("HouseAge")]
    assert income.training_range
    assert age.training_range
    rows[1, names.index("MedInc")] = np.nextafter(income.training_range[1], np.inf)
    rows[2, names.index("MedInc")] = income.training_range[1]
    rows[3, names.index("MedInc")] = 0.0
    rows[3, names.index("HouseAge")] = 400.0
    assert model.warnings(rows, Evaluation(np.zeros(len(rows)))) == [
        [],
        [f"MedInc is outside the training range {span(income.training_range)}"],
        [],
        [
            f"MedInc is outside the training range {span(income.training_range)}",
            f"HouseAge is outside the training range {span(age.training_range)}",
        ],
    ]


def test_a_model_without_training_ranges_warns_of_nothing(saved: SavedModel) -> None:
    model, rows = serve(saved.directory), saved.rows * 1e9
    assert model.warnings(rows, model.engine.evaluate(rows)) == [[] for _ in rows]


def test_a_row_too_far_from_the_stored_rows_is_warned_of(referring: Path) -> None:
    model = serve(referring)
    at_limit = np.float32(model.engine.outside_distance)
    distance = np.array([0.0, at_limit, np.nextafter(at_limit, np.float32(9)), 123.456, np.nan], np.float32)
    rows = np.zeros((5, 3))
    rows[2, 0] = 6.0
    told = model.warnings(rows, Evaluation(np.zeros(5), None, distance))
    assert [len(texts) for texts in told] == [0, 0, 2, 1, 0]
    assert told[2][0] == "income is outside the training range -5 to 5"
    just_beyond = re.fullmatch(r"outside_reference: .* is (\S+) away, and beyond (\S+) a row .*", told[2][1])
    assert just_beyond is not None
    assert float(just_beyond[1]) > float(just_beyond[2])
    assert told[3] == [
        "outside_reference: the nearest row of the model's references is 123.5 away, "
        "and beyond 1.5 a row is unlike all of them"
    ]
