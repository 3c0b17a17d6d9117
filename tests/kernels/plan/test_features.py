"""The row-level functions at the places where formulas break."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.plan import features, opcodes
from kernels.plan.steps import PolylineDistance

NAN, INF = math.nan, math.inf

coordinates = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def unit_vector(point: tuple[float, float]) -> np.ndarray:
    latitude, longitude = np.deg2rad(point)
    return np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])


def to_segment(point: tuple[float, float], start: tuple[float, float], end: tuple[float, float]) -> float:
    """Distance in km to a segment, the short way round the globe, in complex numbers about the point."""
    ahead = end[1] - start[1]
    ahead -= 360 * ((ahead > 180) - (ahead < -180))
    east = np.mod(start[1] - point[1] + 180, 360) - 180
    shrink = np.cos(np.deg2rad(point[0]))
    first, along = complex(east * shrink, start[0] - point[0]), complex(ahead * shrink, end[0] - start[0])
    share = -(first * along.conjugate()).real / abs(along) ** 2 if abs(along) > 1e-150 else 0.0
    return abs(first + min(1.0, max(0.0, share)) * along) * np.deg2rad(1.0) * 6371.0088


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


def distance(point: tuple, *vertices: tuple) -> float:
    constants = np.array(vertices, dtype=np.float64).ravel()
    return features.polyline_distance(*point, constants, 0, len(constants))


@given(point=coordinates, line=st.lists(coordinates, min_size=2, max_size=4))
def test_polyline_distance_is_that_of_a_plane_about_the_point(
    point: tuple[float, float], line: list[tuple[float, float]]
) -> None:
    step = PolylineDistance(output="d", latitude="a", longitude="b", vertices=tuple(line))
    expected = min(to_segment(point, *ends) for ends in itertools.pairwise(line))
    constants = np.array(step.constants())
    assert features.polyline_distance(*point, constants, 0, len(constants)) == pytest.approx(expected, abs=1e-6)


def test_a_coast_over_the_antimeridian_is_near_from_both_sides() -> None:
    step = PolylineDistance(output="d", latitude="a", longitude="b", vertices=((0.0, 179.0), (0.0, -179.0)))
    constants = np.array(step.constants())
    for longitude in (179.5, 180.0, -180.0, -179.5):
        assert features.polyline_distance(1.0, longitude, constants, 0, 4) == pytest.approx(features.KM_PER_DEGREE)
    assert features.polyline_distance(0.0, -178.0, constants, 0, 4) == pytest.approx(features.KM_PER_DEGREE)
    assert features.polyline_distance(0.0, 178.0, constants, 0, 4) == pytest.approx(features.KM_PER_DEGREE)


def test_polyline_distance_is_perpendicular_within_a_segment_and_to_the_vertex_beyond_it() -> None:
    degree = features.KM_PER_DEGREE
    assert distance((1.0, 5.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(degree)
    assert distance((0.0, 12.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(2 * degree)
    assert distance((0.0, 5.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(0.0, abs=1e-9)


def test_polyline_distance_takes_the_nearest_segment() -> None:
    line = ((0.0, 0.0), (0.0, 10.0), (5.0, 10.0), (5.0, 0.0))
    assert distance((4.0, 5.0), *line) == pytest.approx(features.KM_PER_DEGREE)


def test_polyline_distance_shrinks_degrees_of_longitude_by_the_latitude_of_the_point() -> None:
    assert distance((60.0, 1.0), (50.0, 0.0), (70.0, 0.0)) == pytest.approx(features.KM_PER_DEGREE / 2)


def test_polyline_distance_survives_a_repeated_vertex() -> None:
    assert distance((1.0, 0.0), (0.0, 0.0), (0.0, 0.0)) == pytest.approx(features.KM_PER_DEGREE)


@pytest.mark.parametrize("longitude", [179.0, -181.0, 539.0])
def test_polyline_distance_is_the_same_a_turn_further(longitude: float) -> None:
    assert distance((0.5, longitude), (0.0, 178.0), (0.0, 182.0)) == pytest.approx(features.KM_PER_DEGREE / 2)


def test_a_segment_on_the_far_side_of_the_globe_is_far() -> None:
    assert distance((0.0, 0.0), (0.0, 179.0), (0.0, 181.0)) > 19_000


@given(
    point=st.tuples(st.floats(32, 42), st.floats(-125, -114)),
    line=st.lists(st.tuples(st.floats(32, 42), st.floats(-125, -114)), min_size=2, max_size=6),
)
def test_no_vertex_is_nearer_than_the_polyline(point: tuple, line: list[tuple]) -> None:
    nearest = min(distance(point, vertex, vertex) for vertex in line)
    assert 0 <= distance(point, *line) <= nearest * (1 + 1e-12)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_distances_from_nowhere_are_nan(bad: float) -> None:
    for point in ((bad, 0.0), (0.0, bad)):
        assert math.isnan(features.point_distance(*point, 1.0, 1.0))
        assert math.isnan(distance(point, (0.0, 0.0), (1.0, 1.0)))


def test_evaluate_reads_a_step_s_own_stretch_of_the_pool() -> None:
    pool = np.array([9.0, 9.0, 3.0, 2.0, 9.0])
    assert features.evaluate(opcodes.STANDARDISE, 7.0, NAN, pool, 2, 2) == 2.0


def test_evaluate_of_an_unknown_operation_is_nan() -> None:
    assert math.isnan(features.evaluate(99, 1.0, 1.0, np.zeros(1), 0, 0))
