"""Trigonometry of distances on a sphere, written once for both targets.

libm's functions are calls, which keep a loop from being vectorised. These are arithmetic alone, float64 without
fast-math, with no branches but choices between two numbers. They are inlined by force, since LLVM finds them too
large to inline of its own accord. NaN in, NaN out; no function raises.
"""

import math

from numba import njit

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 = (2a + b) / 3 of the WGS 84 ellipsoid (IUGG), in km."""

_RADIANS_PER_DEGREE = math.pi / 180.0
_TURNS_PER_DEGREE = 1.0 / 360.0
_WHOLE = 2.0**52

# sin x = x + x^3 (S0 + S1 x^2 + ... + S9 x^18), Taylor's series: at a right angle the next term is 2e-18.
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9 = ((-1) ** k / math.factorial(2 * k + 1) for k in range(1, 11))

# asin x = x + x^3 (A0 + A1 x^2 + ... + A12 x^24), interpolated in rational numbers at the Chebyshev nodes of x^2 in
# 0..1/4, to an error of 6e-18: Taylor's series would need nearly twice the terms.
_A0, _A1, _A2, _A3 = 0.16666666666666669, 0.07499999999998433, 0.04464285714635543, 0.030381944138531247
_A4, _A5, _A6, _A7 = 0.02237217294214989, 0.017352392720869973, 0.013971212973552933, 0.011479177415184906
_A8, _A9, _A10, _A11 = 0.01032281435018578, 0.005457506718640358, 0.01740087944269402, -0.014851887071247204
_A12 = 0.028757851367421563


@njit(cache=True, error_model="numpy", forceinline=True)
def within_half_turn(degrees):
    """The same angle in -180..180 degrees.

    Exact, except that an angle that rounding leaves beyond half a turn is clipped to it; so are angles above 1e17
    degrees, whose last digit is worth more than a turn.
    """
    turns = degrees * _TURNS_PER_DEGREE
    # Rounds to a whole number: from here on a float64 has no fractions. (On the GPU there is no rint in numba.)
    shift = _WHOLE if turns > 0.0 else -_WHOLE
    whole = (turns + shift) - shift if abs(turns) < _WHOLE else turns
    return min(max(degrees - 360.0 * whole, -180.0), 180.0)


@njit(cache=True, error_model="numpy", forceinline=True)
def sine(degrees):
    """The sine of an angle in -90..90 degrees, within 2 units in the last place of that of its rounded radians."""
    x = degrees * _RADIANS_PER_DEGREE
    z = x * x
    high = _S4 + z * (_S5 + z * (_S6 + z * (_S7 + z * (_S8 + z * _S9))))
    return x + x * (z * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * high)))))


@njit(cache=True, error_model="numpy", forceinline=True)
def cosine(degrees):
    """The cosine of any angle in degrees: the sine of its complement, hence 0 at the poles. Error below 3e-16."""
    return sine(90.0 - abs(within_half_turn(degrees)))


@njit(cache=True, error_model="numpy", forceinline=True)
def haversine(degrees):
    """sin^2 of half of any angle in degrees."""
    half_chord = sine(0.5 * within_half_turn(degrees))
    return half_chord * half_chord


@njit(cache=True, error_model="numpy", forceinline=True)
def angle(share):
    """The angle in radians, 0..pi, that has this haversine, 0..1: 2 asin(sqrt(share)).

    Within 2 units in the last place of the arc sine of the rounded root; near pi that arc sine is ill conditioned.
    For x above 1/2, asin x = pi/2 - 2 asin(sqrt((1 - x) / 2)): the polynomial only takes numbers up to 1/2 (W. J.
    Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapter 10).
    """
    half_chord = math.sqrt(share)
    far = half_chord > 0.5
    z = 0.5 * (1.0 - half_chord) if far else share
    x = math.sqrt(z)
    high = _A6 + z * (_A7 + z * (_A8 + z * (_A9 + z * (_A10 + z * (_A11 + z * _A12)))))
    x = x + x * (z * (_A0 + z * (_A1 + z * (_A2 + z * (_A3 + z * (_A4 + z * (_A5 + z * high)))))))
    return math.pi - 4.0 * x if far else 2.0 * x
