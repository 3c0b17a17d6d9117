"""What the reference steps of a feature plan share, as data: names, and checks of their fields."""

from typing import ClassVar, cast

import msgspec

from kernels.plan.steps import PlanError, as_tuple, check_finite, check_name

MAX_NEIGHBOURS = 64
"""Of one search; a CUDA thread keeps its row's in local memory."""


class ReferenceStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """What reference steps share: a name that its columns begin with.

    Raises PlanError on construction when a field's value cannot be computed with.
    """

    tuples: ClassVar[tuple[str, ...]] = ()
    """Fields that hold tuples; JSON and callers may give lists."""

    output: str

    def __post_init__(self) -> None:
        check_name(f"reference step ({self.op})", "output", self.output)
        for field in self.tuples:
            msgspec.structs.force_setattr(self, field, as_tuple(getattr(self, field)))
        self._check()

    @property
    def op(self) -> str:
        """The tag of this kind of step in JSON."""
        return str(self.__struct_config__.tag)

    @property
    def title(self) -> str:
        """How messages name this step."""
        return f"reference step {self.output!r} ({self.op})"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the columns that the step can give, in the order in which its function writes them."""
        raise NotImplementedError

    def operand_names(self) -> tuple[str, ...]:
        """The inputs and outputs of stateless steps that are compared with the table's columns of the same name."""
        raise NotImplementedError

    def table_names(self) -> tuple[str, ...]:
        """The columns of the table that the step reads, its operands' among them."""
        raise NotImplementedError

    def _check(self) -> None:
        """Raise PlanError if a parameter is out of its domain."""

    def unfitted(self) -> str | None:
        """The first field that is still to be fitted; a plan has none such."""
        return None

    def _positive(self, field: str, count: int) -> None:
        msgspec.structs.force_setattr(self, field, self._check_positive(field, getattr(self, field), count))

    def _counts(self, field: str) -> None:
        counts = getattr(self, field)
        for index, count in enumerate(counts):
            self._check_count(f"{field}[{index}]", count)
            if index and count <= counts[index - 1]:
                raise PlanError(f"{self.title}: {field} must ascend, got {counts!r}")

    def _names(self, field: str, least: int, most: int) -> None:
        self._check_names(field, getattr(self, field), least, most)

    def _check_positive(self, place: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
        """`values` as floats; raise PlanError unless there are none or `count`, each above zero."""
        if values and len(values) != count:
            raise PlanError(f"{self.title}: {place} must be {count} numbers, got {len(values)}")
        floats = tuple(check_finite(self.title, place, value) for value in values)
        if any(value <= 0 for value in floats):
            raise PlanError(f"{self.title}: {place} must be above zero, got {min(floats)}")
        return floats

    def _check_count(self, place: str, count: int) -> None:
        given = cast("object", count)  # from Python, it may be anything
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_NEIGHBOURS:
            raise PlanError(f"{self.title}: {place} must be 1 to {MAX_NEIGHBOURS}, got {count!r}")

    def _check_names(self, place: str, names: tuple[str, ...], least: int, most: int) -> None:
        if not least <= len(names) <= most:
            raise PlanError(f"{self.title}: {place} must have {least} to {most} names, got {len(names)}")
        for index, name in enumerate(names):
            check_name(self.title, f"{place}[{index}]", name)
            if name in names[:index]:
                raise PlanError(f"{self.title}: {place} names {name!r} twice")
