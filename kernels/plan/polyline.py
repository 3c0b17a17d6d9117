"""The distance to a polyline: the row-level function, and the same work in the order that a CPU's vectors need.

All give the same bits for the same row.
"""

import math

from numba import njit

from kernels.plan.haversine import EARTH_RADIUS_KM

KM_PER_DEGREE = EARTH_RADIUS_KM * math.pi / 180.0


@njit(cache=True, error_model="numpy")
def polyline_distance(latitude, longitude, constants, offset, length):
    """Distance in km from a point to the nearest point of a polyline, all in degrees.

    `constants[offset : offset + length]` holds (latitude, longitude) of each vertex in turn, longitudes unrolled. The
    vertices are projected equirectangularly about the point (Snyder, "Map Projections: A Working Manual", USGS
    Professional Paper 1395, chapter 12, with the point's latitude as standard parallel), so the point is the origin;
    the answer is the least distance from the origin to a segment. Fit for distances of some hundred km; beyond, the
    plane is not the sphere. NaN when a coordinate is NaN or infinite.
    """
    scale = longitude_scale(latitude)
    best = math.inf
    for start in range(offset, offset + length - 2, 2):
        squared = squared_to_segment(
            latitude, longitude, scale,
            constants[start], constants[start + 1], constants[start + 2], constants[start + 3],
        )  # fmt: skip
        best = min(best, squared)
    return kilometres(latitude, longitude, best)


@njit(cache=True, error_model="numpy", inline="always")
def longitude_scale(latitude):
    """How long a degree of longitude is in the plane about a point, in degrees of latitude."""
    return math.cos(math.radians(latitude))


@njit(cache=True, error_model="numpy", forceinline=True)
def squared_to_segment(latitude, longitude, scale, start_latitude, start_longitude, end_latitude, end_longitude):
    """Squared distance from a point to a segment in the plane about the point, in degrees of latitude."""
    start_longitude -= longitude
    # A whole number of turns, the same for both ends, brings the segment's start within half a turn of the point.
    turn = 360.0 * math.floor((start_longitude + 180.0) / 360.0)
    start_x = (start_longitude - turn) * scale
    start_y = start_latitude - latitude
    along_x = (end_longitude - longitude - turn) * scale - start_x
    along_y = end_latitude - latitude - start_y
    squared = along_x * along_x + along_y * along_y
    share = 0.0
    if squared > 0.0:
        share = -(start_x * along_x + start_y * along_y) / squared
        share = min(1.0, max(0.0, share))
    x = start_x + share * along_x
    y = start_y + share * along_y
    return x * x + y * y


@njit(cache=True, error_model="numpy", inline="always")
def kilometres(latitude, longitude, squared):
    """What a point's least squared distance is in km; NaN when a coordinate is NaN or infinite."""
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    return KM_PER_DEGREE * math.sqrt(squared)


@njit(cache=True, error_model="numpy", inline="always")
def polyline_distance_of_row(latitude, longitude, vertices, squared, result):
    """`polyline_distance`, with all segments' distances before the least of them is looked for."""
    n_segments = len(vertices) // 2 - 1
    scale = longitude_scale(latitude)
    for segment in range(n_segments):
        squared[segment] = squared_to_segment(
            latitude, longitude, scale,
            vertices[2 * segment], vertices[2 * segment + 1], vertices[2 * segment + 2], vertices[2 * segment + 3],
        )  # fmt: skip
    least = math.inf
    for segment in range(n_segments):
        least = min(least, squared[segment])
    result[0] = kilometres(latitude, longitude, least)


@njit(cache=True, error_model="numpy", inline="always")
def polyline_distances_of_rows(latitudes, longitudes, vertices, scales, distances):
    """`polyline_distance` with the loop over segments outside, since the one over rows is the one to be vectorised."""
    for row in range(len(distances)):
        scales[row] = longitude_scale(latitudes[row])
        distances[row] = math.inf
    for start in range(0, len(vertices) - 2, 2):
        latitude, longitude = vertices[start], vertices[start + 1]
        next_latitude, next_longitude = vertices[start + 2], vertices[start + 3]
        for row in range(len(distances)):
            squared = squared_to_segment(
                latitudes[row], longitudes[row], scales[row], latitude, longitude, next_latitude, next_longitude
            )
            distances[row] = min(distances[row], squared)
    for row in range(len(distances)):
        distances[row] = kilometres(latitudes[row], longitudes[row], distances[row])
