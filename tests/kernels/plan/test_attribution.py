"""Contributions of derived features are shared out among the raw features that they are made of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from kernels.plan.attribution import Attribution, FeatureGroup, attribute
from kernels.plan.plan import Input, Log, Neighbours, Plan, Product, Ratio, References, Regression
from tests.kernels.plan.plans import EVERY_STEP
from tests.support import ROOT

BUNDLED_PLAN = ROOT / "app" / "models" / "registry" / "bundled" / "model" / "plan.json"
PLACE = FeatureGroup("place", ("lat", "lon"))


def inputs(*names: str) -> tuple[Input, ...]:
    return tuple(Input(name=name) for name in names)


def shares(plan: Plan, output: str) -> Mapping[str, float]:
    """What groups get of an output's contribution, those that get nothing left out."""
    found = attribute(plan)
    row = found.shares[plan.outputs.index(output)]
    return {group.name: float(share) for group, share in zip(found.groups, row, strict=True) if share}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("lat", {"place": 1.0}),
        ("coast", {"place": 1.0}),
        ("rotated", {"place": 1.0}),
        ("ratio", {"rooms": 0.5, "people": 0.5}),
        ("product", {"rooms": 0.5, "people": 0.5}),  # of the ratio and rooms again: each counts once
        ("clip", {"rooms": 0.5, "people": 0.5}),
        ("standard", {"people": 1.0}),
    ],
)
def test_a_derived_feature_is_split_equally_among_the_raw_ones(output: str, expected: dict[str, float]) -> None:
    assert shares(EVERY_STEP, output) == expected


def test_groups_are_in_the_order_of_the_inputs() -> None:
    assert attribute(EVERY_STEP).groups == (
        PLACE,
        FeatureGroup("rooms", ("rooms",)),
        FeatureGroup("people", ("people",)),
    )


def near(**more: object) -> Neighbours:
    return Neighbours(output="near", inputs=("lat", "lon"), scales=(1.0, 1.0), **more)  # pyright: ignore[reportArgumentType]


def test_what_near_rows_say_is_of_the_place_and_what_they_are_compared_with_is_not() -> None:
    step = near(
        counts=(4,),
        contrasts=("rooms",),
        contrast_counts=(4,),
        regressions=(Regression(output="fit", inputs=("people",), scales=(1.0,), count=4),),
    )
    outputs = (
        "near_mean_4",
        "near_nearest",
        "near_contrast_rooms_4",
        *(f"near_{name}" for name in ("fit_local", "fit_slope_people")),
    )
    columns = ("lat", "lon", "rooms", "people", "target")
    plan = Plan(
        inputs=inputs("rooms", "lat", "lon", "people"),
        references=References(rows=9, columns=columns, steps=(step,)),
        outputs=outputs,
    )
    assert [shares(plan, output) for output in outputs] == [
        {"place": 1.0},
        {"place": 1.0},
        {"rooms": 0.5, "place": 0.5},
        {"place": 0.5, "people": 0.5},
        {"place": 1.0},
    ]
    assert attribute(plan).groups[1] == PLACE


def test_a_plan_without_coordinates_has_no_place() -> None:
    plan = Plan(
        inputs=inputs("a", "b", "unused"),
        steps=(Log(output="log", input="a"), Ratio(output="ratio", numerator="log", denominator="b")),
        outputs=("ratio", "log"),
    )
    found = attribute(plan)
    assert [group.name for group in found.groups] == ["a", "b", "unused"]
    assert found.shares.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]


def test_an_input_named_place_keeps_its_name() -> None:
    plan = Plan(
        inputs=inputs("place", "lat", "lon"),
        steps=(Product(output="product", left="place", right="lat"),),
        references=References(rows=9, columns=("lat", "lon", "target"), steps=(near(counts=(1,)),)),
        outputs=("product", "near_mean_1"),
    )
    assert [group.name for group in attribute(plan).groups] == ["place", "lat and lon"]


@pytest.mark.parametrize("path", [BUNDLED_PLAN], ids=["bundled"])
def test_the_bundled_plan_has_a_place_and_keeps_sums(path: Path) -> None:
    found: Attribution = attribute(Plan.from_json(path.read_bytes()))
    assert FeatureGroup("place", ("Latitude", "Longitude")) in found.groups
    assert len(found.groups) == 7
    np.testing.assert_allclose(found.shares.sum(axis=1), 1.0, rtol=1e-15)
