"""The distance to a polyline, against a plane about the point and where coordinates break."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.plan.polyline import KM_PER_DEGREE, polyline_distance
from kernels.plan.steps import PolylineDistance

coordinates = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def to_segment(point: tuple[float, float], start: tuple[float, float], end: tuple[float, float]) -> float:
    """Distance in km to a segment, the short way round the globe, in complex numbers about the point."""
    ahead = end[1] - start[1]
    ahead -= 360 * ((ahead > 180) - (ahead < -180))
    east = np.mod(start[1] - point[1] + 180, 360) - 180
    shrink = np.cos(np.deg2rad(point[0]))
    first, along = complex(east * shrink, start[0] - point[0]), complex(ahead * shrink, end[0] - start[0])
    share = -(first * along.conjugate()).real / abs(along) ** 2 if abs(along) > 1e-150 else 0.0
    return abs(first + min(1.0, max(0.0, share)) * along) * np.deg2rad(1.0) * 6371.0088


def distance(point: tuple, *vertices: tuple) -> float:
    constants = np.array(vertices, dtype=np.float64).ravel()
    return polyline_distance(*point, constants, 0, len(constants))


@given(point=coordinates, line=st.lists(coordinates, min_size=2, max_size=4))
def test_polyline_distance_is_that_of_a_plane_about_the_point(
    point: tuple[float, float], line: list[tuple[float, float]]
) -> None:
    step = PolylineDistance(output="d", latitude="a", longitude="b", vertices=tuple(line))
    expected = min(to_segment(point, *ends) for ends in itertools.pairwise(line))
    constants = np.array(step.constants())
    assert polyline_distance(*point, constants, 0, len(constants)) == pytest.approx(expected, abs=1e-6)


def test_a_coast_over_the_antimeridian_is_near_from_both_sides() -> None:
    step = PolylineDistance(output="d", latitude="a", longitude="b", vertices=((0.0, 179.0), (0.0, -179.0)))
    constants = np.array(step.constants())
    for longitude in (179.5, 180.0, -180.0, -179.5):
        assert polyline_distance(1.0, longitude, constants, 0, 4) == pytest.approx(KM_PER_DEGREE)
    assert polyline_distance(0.0, -178.0, constants, 0, 4) == pytest.approx(KM_PER_DEGREE)
    assert polyline_distance(0.0, 178.0, constants, 0, 4) == pytest.approx(KM_PER_DEGREE)


def test_polyline_distance_is_perpendicular_or_to_the_nearest_vertex() -> None:
    degree = KM_PER_DEGREE
    assert distance((1.0, 5.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(degree)
    assert distance((0.0, 12.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(2 * degree)
    assert distance((0.0, 5.0), (0.0, 0.0), (0.0, 10.0)) == pytest.approx(0.0, abs=1e-9)


def test_polyline_distance_takes_the_nearest_segment() -> None:
    line = ((0.0, 0.0), (0.0, 10.0), (5.0, 10.0), (5.0, 0.0))
    assert distance((4.0, 5.0), *line) == pytest.approx(KM_PER_DEGREE)


def test_polyline_distance_shrinks_longitude_by_the_points_latitude() -> None:
    assert distance((60.0, 1.0), (50.0, 0.0), (70.0, 0.0)) == pytest.approx(KM_PER_DEGREE / 2)


def test_polyline_distance_survives_a_repeated_vertex() -> None:
    assert distance((1.0, 0.0), (0.0, 0.0), (0.0, 0.0)) == pytest.approx(KM_PER_DEGREE)


@pytest.mark.parametrize("longitude", [179.0, -181.0, 539.0])
def test_polyline_distance_is_the_same_a_turn_further(longitude: float) -> None:
    assert distance((0.5, longitude), (0.0, 178.0), (0.0, 182.0)) == pytest.approx(KM_PER_DEGREE / 2)


def test_a_segment_on_the_far_side_of_the_globe_is_far() -> None:
    assert distance((0.0, 0.0), (0.0, 179.0), (0.0, 181.0)) > 19_000


@given(
    point=st.tuples(st.floats(32, 42), st.floats(-125, -114)),
    line=st.lists(st.tuples(st.floats(32, 42), st.floats(-125, -114)), min_size=2, max_size=6),
)
def test_no_vertex_is_nearer_than_the_polyline(point: tuple, line: list[tuple]) -> None:
    nearest = min(distance(point, vertex, vertex) for vertex in line)
    assert 0 <= distance(point, *line) <= nearest * (1 + 1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_polyline_distance_from_nowhere_is_nan(bad: float) -> None:
    for point in ((bad, 0.0), (0.0, bad)):
        assert math.isnan(distance(point, (0.0, 0.0), (1.0, 1.0)))
