"""Checks of the fields of steps, and the error that they raise."""

from typing import cast


class PlanError(ValueError):
    """A feature plan is not valid; the message names the step (or input) and the field."""


def as_tuple(value: object) -> tuple:
    """A list as a tuple, so that a plan written in Python equals the same plan read from JSON."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def check_name(owner: str, field: str, name: object) -> None:
    """Raise PlanError unless `name` is a non-blank string."""
    if not isinstance(name, str) or not name.strip():
        raise PlanError(f"{owner}: {field} must be a non-blank name, got {name!r}")


def check_finite(owner: str, field: str, value: object) -> float:
    """`value` as a float, zeros without a sign, so that equal plans are the same bytes.

    Raises PlanError unless it is a number that a float64 holds.
    """
    # The bound and not math.isfinite, which raises on an int too large for a float.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1.7976931348623157e308:
        raise PlanError(f"{owner}: {field} must be a finite number, got {value!r}")
    return float(value) + 0.0


def check_coordinates(owner: str, field: str, point: tuple) -> tuple[float, float]:
    """`point` as floats. Raises PlanError unless it is (latitude in -90..90, longitude in -180..180).

    The commonest mistake is the pair the wrong way round; most such pairs show in the latitude's range.
    """
    if len(point) != 2:
        raise PlanError(f"{owner}: {field} must be (latitude, longitude), got {point!r}")
    latitude = check_finite(owner, f"{field} latitude", point[0])
    longitude = check_finite(owner, f"{field} longitude", point[1])
    for name, value, bound in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        if abs(value) > bound:
            raise PlanError(f"{owner}: {field} {name} {value} is outside -{bound}..{bound} degrees")
    return latitude, longitude


def check_positive(owner: str, place: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """`values` as floats; raise PlanError unless there are none or `count`, each above zero."""
    if values and len(values) != count:
        raise PlanError(f"{owner}: {place} must be {count} numbers, got {len(values)}")
    floats = tuple(check_finite(owner, place, value) for value in values)
    if any(value <= 0 for value in floats):
        raise PlanError(f"{owner}: {place} must be above zero, got {min(floats)}")
    return floats


def check_count(owner: str, place: str, count: int, most: int) -> None:
    """Raise PlanError unless `count` is a whole number of 1 to `most`."""
    given = cast("object", count)  # from Python, it may be anything
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
        raise PlanError(f"{owner}: {place} must be 1 to {most}, got {count!r}")


def check_names(owner: str, place: str, names: tuple[str, ...], least: int, most: int) -> None:
    """Raise PlanError unless `names` are `least` to `most` distinct non-blank strings."""
    if not least <= len(names) <= most:
        raise PlanError(f"{owner}: {place} must have {least} to {most} names, got {len(names)}")
    for index, name in enumerate(names):
        check_name(owner, f"{place}[{index}]", name)
        if name in names[:index]:
            raise PlanError(f"{owner}: {place} names {name!r} twice")
