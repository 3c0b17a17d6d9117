"""Row-level feature functions: one row's scalars in, one float64 out, written once for both targets.

The CPU kernel calls them as compiled functions; the CUDA kernel compiles the same source for the device. All
arithmetic is float64 without fast-math, division follows IEEE 754 (error_model="numpy"), and no function raises: a row
can be anything. LightGBM takes NaN as missing, so NaN goes in and NaN comes out of every function, on both targets
alike.

CPU and GPU differ by last digits, for the GPU contracts to fused multiply-adds and has its own libm. The launchers
therefore round every feature to float32, in training too, before it meets a threshold.

On the CPU they are called in loops over rows, which are vectorised once all is inlined: the long ones by LLVM, by
force; the short ones by numba already, which saves compiling each on its own.
"""

import math

from numba import njit

from kernels.plan.haversine import angle, cosine, haversine
from kernels.plan.opcodes import (
    CLIP,
    LOG,
    POINT_DISTANCE,
    POLYLINE_DISTANCE,
    PRODUCT,
    RATIO,
    ROTATION,
    STANDARDISE,
)

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 = (2a + b) / 3 of the WGS 84 ellipsoid (IUGG), in km."""

KM_PER_DEGREE = EARTH_RADIUS_KM * math.pi / 180.0


@njit(cache=True, error_model="numpy", inline="always")
def ratio(numerator, denominator):
    """Divide as IEEE 754 does: x/0 is an infinity with the sign of x and of the zero, 0/0 is NaN."""
    return numerator / denominator


@njit(cache=True, error_model="numpy", inline="always")
def product(left, right):
    """Multiply; 0 * infinity is NaN."""
    return left * right


@njit(cache=True, error_model="numpy", inline="always")
def log(value, offset):
    """ln(value + offset); -infinity where the sum is zero, NaN where it is below.

    The two cases are spelt out, since what a libm does there besides (errno, traps) is its own affair.
    """
    total = value + offset
    if total > 0.0:
        return math.log(total)
    if total == 0.0:
        return -math.inf
    return math.nan


@njit(cache=True, error_model="numpy", inline="always")
def clip(value, lower, upper):
    """The value within lower..upper. Infinities are clipped; NaN fails both comparisons and stays."""
    if value < lower:
        return lower
    if value > upper:
        return upper
    return value


@njit(cache=True, error_model="numpy", inline="always")
def standardise(value, mean, scale):
    """(value - mean) / scale. A division and not a product with 1/scale, which would round twice."""
    return (value - mean) / scale


@njit(cache=True, error_model="numpy", inline="always")
def rotation(x, y, cosine, sine):
    """The first coordinate of (x, y) on axes turned anticlockwise: x cos + y sin."""
    return x * cosine + y * sine


@njit(cache=True, error_model="numpy", forceinline=True)
def point_distance(latitude, longitude, point_latitude, point_longitude):
    """Great-circle distance in km between two points given in degrees, by the haversine formula.

    R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984): well conditioned at small distances, where
    the law of cosines is not. NaN when a coordinate is NaN or infinite.
    """
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    cosines = cosine(latitude) * cosine(point_latitude)
    share = haversine(point_latitude - latitude) + cosines * haversine(point_longitude - longitude)
    # Rounding can lift the haversine of near-antipodes above one, which no angle has; and, of latitudes beyond the
    # poles, below zero.
    return EARTH_RADIUS_KM * angle(min(1.0, max(0.0, share)))


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


@njit(cache=True, error_model="numpy")
def evaluate(op, a, b, constants, offset, length):
    """One step on one row.

    Args:
        op: int32, which function (`kernels.plan.opcodes`); an unknown one gives NaN.
        a: float64, the first operand.
        b: float64, the second; whatever it is, a step of one operand does not read it.
        constants: float64[C], the program's pool.
        offset: int32, where the step's constants start.
        length: int32, how many it has.

    Returns float64.
    """
    if op == RATIO:
        return ratio(a, b)
    if op == PRODUCT:
        return product(a, b)
    if op == LOG:
        return log(a, constants[offset])
    if op == CLIP:
        return clip(a, constants[offset], constants[offset + 1])
    if op == STANDARDISE:
        return standardise(a, constants[offset], constants[offset + 1])
    if op == ROTATION:
        return rotation(a, b, constants[offset], constants[offset + 1])
    if op == POINT_DISTANCE:
        return point_distance(a, b, constants[offset], constants[offset + 1])
    if op == POLYLINE_DISTANCE:
        return polyline_distance(a, b, constants, offset, length)
    return math.nan
