"""Row-level feature functions: one row's scalars in, one float64 out, written once for both targets.

The CPU kernel calls them as compiled functions; the CUDA kernel compiles the same source for the device. All
arithmetic is float64 without fast-math, division follows IEEE 754 (error_model="numpy"), and no function raises: a row
can be anything. LightGBM takes NaN as missing, so NaN goes in and NaN comes out of every function, on both targets
alike.

CPU and GPU differ by last digits, for the GPU contracts to fused multiply-adds and has its own libm. The launchers
therefore round every feature to float32, in training too, before it meets a threshold.
"""

import math

from numba import njit

from kernels.opcodes import CLIP, LOG, POINT_DISTANCE, POLYLINE_DISTANCE, PRODUCT, RATIO, ROTATION, STANDARDISE

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 = (2a + b) / 3 of the WGS 84 ellipsoid (IUGG), in km."""

KM_PER_DEGREE = EARTH_RADIUS_KM * math.pi / 180.0


@njit(cache=True, error_model="numpy")
def ratio(numerator, denominator):
    """Divide as IEEE 754 does: x/0 is an infinity with the sign of x and of the zero, 0/0 is NaN."""
    return numerator / denominator


@njit(cache=True, error_model="numpy")
def product(left, right):
    """Multiply; 0 * infinity is NaN."""
    return left * right


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def clip(value, lower, upper):
    """The value within lower..upper. Infinities are clipped; NaN fails both comparisons and stays."""
    if value < lower:
        return lower
    if value > upper:
        return upper
    return value


@njit(cache=True, error_model="numpy")
def standardise(value, mean, scale):
    """(value - mean) / scale. A division and not a product with 1/scale, which would round twice."""
    return (value - mean) / scale


@njit(cache=True, error_model="numpy")
def rotation(x, y, cosine, sine):
    """The first coordinate of (x, y) on axes turned anticlockwise: x cos + y sin."""
    return x * cosine + y * sine


@njit(cache=True, error_model="numpy")
def point_distance(latitude, longitude, point_latitude, point_longitude):
    """Great-circle distance in km between two points given in degrees, by the haversine formula.

    R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984): well conditioned at small distances, where
    the law of cosines is not. NaN when a coordinate is NaN or infinite.
    """
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    half_latitude = math.sin(math.radians(point_latitude - latitude) * 0.5)
    half_longitude = math.sin(math.radians(point_longitude - longitude) * 0.5)
    cosines = math.cos(math.radians(latitude)) * math.cos(math.radians(point_latitude))
    haversine = half_latitude * half_latitude + cosines * half_longitude * half_longitude
    # Rounding can lift the haversine of near-antipodes above one, where asin has no value; and, of latitudes beyond the
    # poles, below zero.
    return 2.0 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, max(0.0, haversine))))


@njit(cache=True, error_model="numpy")
def polyline_distance(latitude, longitude, constants, offset, length):
    """Distance in km from a point to the nearest point of a polyline, all in degrees.

    `constants[offset : offset + length]` holds (latitude, longitude) of each vertex in turn, longitudes unrolled. The
    vertices are projected equirectangularly about the point (Snyder, "Map Projections: A Working Manual", USGS
    Professional Paper 1395, chapter 12, with the point's latitude as standard parallel), so the point is the origin;
    the answer is the least distance from the origin to a segment. Fit for distances of some hundred km; beyond, the
    plane is not the sphere. NaN when a coordinate is NaN or infinite.
    """
    if not (math.isfinite(latitude) and math.isfinite(longitude)):
        return math.nan
    scale = math.cos(math.radians(latitude))
    best = math.inf
    for start in range(offset, offset + length - 2, 2):
        start_longitude = constants[start + 1] - longitude
        # A whole number of turns, the same for both ends, brings the segment's start within half a turn of the point.
        turn = 360.0 * math.floor((start_longitude + 180.0) / 360.0)
        start_x = (start_longitude - turn) * scale
        start_y = constants[start] - latitude
        along_x = (constants[start + 3] - longitude - turn) * scale - start_x
        along_y = constants[start + 2] - latitude - start_y
        squared = along_x * along_x + along_y * along_y
        share = 0.0
        if squared > 0.0:
            share = -(start_x * along_x + start_y * along_y) / squared
            share = min(1.0, max(0.0, share))
        x = start_x + share * along_x
        y = start_y + share * along_y
        best = min(best, x * x + y * y)
    return KM_PER_DEGREE * math.sqrt(best)


@njit(cache=True, error_model="numpy")
def evaluate(op, a, b, constants, offset, length):
    """One step on one row.

    Args:
        op: int32, which function (`kernels.opcodes`); an unknown one gives NaN.
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
