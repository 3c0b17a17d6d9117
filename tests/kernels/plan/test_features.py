"""The row-level functions at the places where formulas break."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.plan import features

NAN, INF = math.nan, math.inf

coordinates = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def unit_vector(point: tuple[float, float]) -> np.ndarray:
    latitude, longitude = np.deg2rad(point)
    return np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(6.0, 3.0, 2.0), (1.0, 0.0, INF), (1.0, -0.0, -INF), (0.0, 0.0, NAN), (NAN, 1.0, NAN), (1.0, NAN, NAN)],
)
def test_ratio_divides_as_ieee_does(numerator: float, denominator: float, expected: float) -> None:
    np.testing.assert_equal(features.ratio(numerator, denominator), expected)


@pytest.mark.parametrize(
    ("value", "offset", "expected"),
    [(math.e, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, -INF), (-0.0, 0.0, -INF), (-1.0, 1.0, -INF), (-2.0, 1.0, NAN),
     (INF, 0.0, INF), (-INF, 0.0, NAN), (NAN, 0.0, NAN), (5e-324, 0.0, math.log(5e-324))],
)  # fmt: skip
def test_log_of_zero_is_minus_infinity_and_below_it_nan(value: float, offset: float, expected: float) -> None:
    np.testing.assert_equal(features.log(value, offset), expected)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 0.5), (-3.0, 0.0), (3.0, 1.0), (INF, 1.0), (-INF, 0.0), (NAN, NAN)]
)
def test_clip_holds_infinities_and_keeps_nan(value: float, expected: float) -> None:
    np.testing.assert_equal(features.clip(value, 0.0, 1.0), expected)


@given(value=st.floats(), other=st.floats())
def test_product_and_ratio_are_ieee_arithmetic_denormals_included(value: float, other: float) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_equal(features.product(value, other), float(np.multiply(value, other)))
        np.testing.assert_equal(features.ratio(value, other), float(np.divide(value, other)))


@given(value=st.floats(), mean=st.floats(-1e300, 1e300), scale=st.floats(1e-300, 1e300))
def test_standardise_divides_once(value: float, mean: float, scale: float) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_equal(features.standardise(value, mean, scale), float(np.divide(value - mean, scale)))


@given(value=st.floats(), bounds=st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)).map(sorted))
def test_clip_is_numpy_s(value: float, bounds: list[float]) -> None:
    np.testing.assert_equal(features.clip(value, *bounds), float(np.clip(value, *bounds)))


@given(value=st.floats(-0.5, 1e300), offset=st.floats(0.5, 1e300))
def test_log_is_numpy_s(value: float, offset: float) -> None:
    with np.errstate(divide="ignore"):
        assert features.log(value, offset) == pytest.approx(np.log(value + offset), rel=1e-14, abs=1e-300)


@given(x=st.floats(-1e6, 1e6), y=st.floats(-1e6, 1e6), degrees=st.floats(-720, 720))
def test_rotation_is_the_real_part_of_a_turned_complex_number(x: float, y: float, degrees: float) -> None:
    angle = np.deg2rad(degrees)
    turned = complex(x, y) * np.exp(-1j * angle)
    assert features.rotation(x, y, math.cos(angle), math.sin(angle)) == pytest.approx(turned.real, abs=1e-8)


def test_rotation_turns_the_axes_anticlockwise() -> None:
    angle = math.radians(30)
    along = features.rotation(math.cos(angle), math.sin(angle), math.cos(angle), math.sin(angle))
    assert along == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("start", "end", "kilometres"),
    [
        ((0.0, 0.0), (0.0, 1.0), 111.195),  # a degree of the equator on this sphere
        ((90.0, 0.0), (-90.0, 0.0), 20015.115),  # pole to pole
        ((0.0, 0.0), (0.0, 180.0), 20015.115),
        ((0.0, 179.5), (0.0, -179.5), 111.195),
        ((37.7749, -122.4194), (34.0522, -118.2437), 559.121),  # San Francisco to Los Angeles
        ((51.5074, -0.1278), (48.8566, 2.3522), 343.557),  # London to Paris
        ((48.8566, 2.3522), (51.5074, -0.1278), 343.557),
        ((170.0, 0.0), (10.0, 180.0), 0.0),  # over the pole: no coordinates, and still no error
    ],
)
def test_point_distance_is_the_great_circle(start: tuple, end: tuple, kilometres: float) -> None:
    assert features.point_distance(*start, *end) == pytest.approx(kilometres, abs=2e-3)


@given(latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
def test_point_distance_to_the_antipode_is_half_the_globe(latitude: float, longitude: float) -> None:
    assert features.point_distance(latitude, longitude, -latitude, longitude + 180) == pytest.approx(20015.115, abs=1)


@given(coordinates, coordinates)
def test_point_distance_is_the_angle_between_unit_vectors(start: tuple[float, float], end: tuple[float, float]) -> None:
    u, v = unit_vector(start), unit_vector(end)
    angle = np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)
    # The haversine formula is at its worst near the antipode, where half the digits go.
    assert features.point_distance(*start, *end) == pytest.approx(6371.0088 * angle, rel=1e-7, abs=1e-8)


@given(latitude=st.floats(-1e6, 1e6), longitude=st.floats(-1e6, 1e6), point=coordinates)
def test_point_distance_is_a_number_wherever_coordinates_are(
    latitude: float, longitude: float, point: tuple[float, float]
) -> None:
    assert 0 <= features.point_distance(latitude, longitude, *point) <= 20015.2


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_point_distance_from_nowhere_is_nan(bad: float) -> None:
    for point in ((bad, 0.0), (0.0, bad)):
        assert math.isnan(features.point_distance(*point, 1.0, 1.0))
