"""Row-level feature functions: one row's scalars in, one float64 out, written once for both targets.

The CPU kernel calls them as compiled functions; the CUDA kernel compiles the same source for the device. All
arithmetic is float64 without fast-math, division follows IEEE 754 (error_model="numpy"), and no function raises: a row
can be anything. LightGBM takes NaN as missing, so every function of NaN is NaN, on both targets.

CPU and GPU differ by last digits, for the GPU contracts to fused multiply-adds and has its own libm. The launchers
therefore round every feature to float32, in training too, before it meets a threshold.

On the CPU they are called in loops over rows, which are vectorised once the function is inlined. Long functions are
inlined by LLVM (`forceinline`), short ones by numba, which saves compiling each on its own.
"""

import math

from numba import njit

from kernels.plan.haversine import EARTH_RADIUS_KM, angle, cosine, haversine


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
