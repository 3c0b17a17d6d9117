"""The trigonometry of distances is numpy's to the last places, over the whole of its domain."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.plan import haversine

DENSE = np.concatenate([np.linspace(0, 1, 20_001), np.geomspace(1e-300, 1, 5_001)])


def places(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How many units in the last place two arrays are apart."""
    return np.abs(got - expected) / np.spacing(np.abs(expected))


def test_sine_is_numpy_s_within_two_last_places() -> None:
    degrees = 90 * np.concatenate([DENSE, -DENSE])
    got = np.array([haversine.sine(angle) for angle in degrees])
    assert places(got, np.sin(np.deg2rad(degrees))).max() <= 2


def test_angle_is_numpy_s_within_two_last_places() -> None:
    got = np.array([haversine.angle(share) for share in DENSE])
    expected = 2 * np.arcsin(np.sqrt(DENSE))
    assert places(got, expected).max() <= 2


def test_cosine_is_right_to_the_rounding_of_a_right_angle() -> None:
    degrees = 180 * np.concatenate([DENSE, -DENSE])
    got = np.array([haversine.cosine(angle) for angle in degrees])
    # In extended precision, since float64 radians are off by as much as is asked for.
    expected = np.cos(degrees.astype(np.longdouble) * np.arccos(np.longdouble(-1)) / 180)
    np.testing.assert_allclose(got, expected.astype(np.float64), rtol=0, atol=3e-16)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0.0, 1.0), (90.0, 0.0), (-90.0, 0.0), (270.0, 0.0), (180.0, -1.0), (-540.0, -1.0)]
)
def test_cosine_is_exact_at_quarter_turns(degrees: float, expected: float) -> None:
    assert haversine.cosine(degrees) == expected


@given(degrees=st.floats(-1e15, 1e15))
def test_an_angle_is_brought_within_half_a_turn_without_rounding(degrees: float) -> None:
    # Of 180 and -180 either: both mean the same, and the one turns into the other by the last digit of a quotient.
    exact = abs(math.remainder(degrees, 360.0))
    got = haversine.within_half_turn(degrees)
    assert -180 <= got <= 180
    assert abs(got) == exact or abs(degrees) * 2**-52 >= 180 - exact
    assert abs(got) == 180 or math.copysign(1, got) == math.copysign(1, math.remainder(degrees, 360.0)) or exact == 0


@given(degrees=st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_of_degrees_has_a_cosine_and_a_haversine(degrees: float) -> None:
    assert -1 <= haversine.cosine(degrees) <= 1
    assert 0 <= haversine.haversine(degrees) <= 1


@given(share=st.floats(0, 1))
def test_an_angle_s_haversine_leads_back_to_it(share: float) -> None:
    angle = haversine.angle(share)
    assert 0 <= angle <= math.pi
    assert haversine.haversine(math.degrees(angle)) == pytest.approx(share, rel=1e-14, abs=1e-300)


def test_nan_comes_out_where_nan_goes_in() -> None:
    for function in (haversine.sine, haversine.cosine, haversine.haversine, haversine.angle):
        assert math.isnan(function(math.nan))
