"""Faults of a batch, told by column and rule."""

import numpy as np
from numpy.typing import NDArray

from app.codecs.rules import (
    BODY,
    MAX_ERRORS,
    RULES,
    WRONG_COLUMNS,
    WRONG_VALUES,
    Rule,
    fault_text,
    unknown_field,
)
from app.errors import FieldError, InvalidInput
from app.feature import Feature


class Faults:
    """Faults of a batch, counted by column and rule, each with its first row.

    Args:
        features: The columns.

    Attributes:
        noted: Calls of the `add` methods.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.noted = 0
        self._features = features
        self._columns: dict[tuple[int, Rule], tuple[int, int]] = {}
        self._rows: dict[str, tuple[int, int]] = {}
        self._unknown: dict[str, None] = {}

    def add(self, column: int, rule: Rule, row: int, count: int = 1) -> None:
        """Count `count` rows that break a rule in a column, `row` being the first of them."""
        self.noted += 1
        before, first = self._columns.get((column, rule), (0, row))
        self._columns[column, rule] = before + count, min(first, row)

    def add_bad(self, column: int, rule: Rule, bad: NDArray[np.bool_], row: int) -> None:
        """Count rows that break a rule in a column: those of bool[b], some of them, whose first is row `row`."""
        self.add(column, rule, row + int(np.argmax(bad)), int(np.count_nonzero(bad)))

    def add_row(self, text: str, row: int) -> None:
        """Count a row that cannot be split into columns."""
        self.noted += 1
        before, first = self._rows.get(text, (0, row))
        self._rows[text] = before + 1, first

    def add_unknown(self, name: str) -> None:
        """Count a name that is no feature."""
        self.noted += 1
        if len(self._unknown) < MAX_ERRORS:
            self._unknown[name] = None

    def check(self, rows: int) -> None:
        """Raise InvalidInput if a batch of that many rows has faults."""
        if not (self._columns or self._rows or self._unknown):
            return
        errors = [FieldError(BODY, f"{text} {_where(*seen)}") for text, seen in self._rows.items()]
        misnamed = bool(self._unknown)
        for index, feature in enumerate(self._features):
            broken: list[Rule] = [rule for rule in RULES if (index, rule) in self._columns]
            if not broken:
                continue
            rule = broken[0]
            count, first = self._columns[index, rule]
            of_name = rule in ("once", "given")
            misnamed |= of_name
            where = "" if of_name and count == rows else f" {_where(count, first)}"
            errors.append(FieldError(feature.name, fault_text(feature, rule) + where))
        errors += map(unknown_field, self._unknown)
        raise InvalidInput(WRONG_COLUMNS if misnamed else WRONG_VALUES, tuple(errors[:MAX_ERRORS]))


def _where(count: int, first: int) -> str:
    return f"(row {first})" if count == 1 else f"({count} rows, the first is row {first})"
