"""Rows that a model does not answer: which they are, and why."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codecs.faults import Faults
from app.codecs.rules import RULES, Rule, fault_text
from app.feature import Feature

MOST_SHOWN = 10
"""Bad rows that a report names."""

NONE = len(RULES)


def counted(count: int, what: str) -> str:
    """A number and its noun: 1 row, 2 rows."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


class BadRow(NamedTuple):
    """A row that the model does not answer. Its value is not told: it may be a person's.

    Attributes:
        row: Number of the row in the input, from 0.
        column: Column of the input, or of the output where that is not finite.
        reason: The rule that it breaks.
        file: The input, where there are several.
    """

    row: int
    column: str
    reason: str
    file: str = ""


class BadRows:
    """Counts rows, the bad ones among them, and keeps the first of these.

    Args:
        seen: Number of rows, bad or not.

    Attributes:
        seen: Number of rows, bad or not.
        rows: Number of bad rows.
        columns: Number of rows by column and reason; a row may be bad in several columns.
        first: The first `MOST_SHOWN` faults, by row.
    """

    def __init__(self, seen: int = 0) -> None:
        self.seen = seen
        self.rows = 0
        self.columns: Counter[tuple[str, str]] = Counter()
        self.first: list[BadRow] = []

    def add(self, column: str, reason: str, rows: NDArray[np.intp]) -> None:
        """Note the faults of rows intp[n]."""
        self.columns[column, reason] += len(rows)
        self.first += [BadRow(row, column, reason) for row in rows[:MOST_SHOWN].tolist()]
        self.first = sorted(self.first)[:MOST_SHOWN]

    def merge(self, other: "BadRows", file: str = "") -> None:
        """Add those of the rows that come next, or of another file, whose rows are counted from 0 again."""
        self.columns.update(other.columns)
        before = 0 if file else self.seen
        moved = [fault._replace(row=before + fault.row, file=file) for fault in other.first]
        self.first = (self.first + moved)[:MOST_SHOWN]
        self.seen += other.seen
        self.rows += other.rows

    def described(self) -> str:
        """The report: a line for each column and reason, and for each of the first rows."""
        lines = [counted(self.rows, "bad row")]
        lines += [f"  {name} {reason}: {counted(rows, 'row')}" for (name, reason), rows in self.columns.most_common()]
        for row, column, reason, file in self.first:
            lines.append(f"  {file}, row {row}: {column} {reason}" if file else f"  row {row}: {column} {reason}")
        return "\n".join(lines)


class RowFaults(Faults):
    """Faults of a batch, told by row.

    Args:
        features: The columns.
        rows: Rows of the batch.
    """

    def __init__(self, features: tuple[Feature, ...], rows: int) -> None:
        super().__init__(features)
        self._length = rows
        self._rules: dict[int, NDArray[np.int8]] = {}

    def add_bad(self, column: int, rule: Rule, bad: NDArray[np.bool_], row: int) -> None:
        """Note rows that break a rule; of the rules that a value breaks the first counts."""
        rules = self._rules.setdefault(column, np.full(self._length, NONE, np.int8))
        part = rules[row : row + len(bad)]
        part[bad] = np.minimum(part[bad], RULES.index(rule))

    def check(self, rows: int) -> None:
        """Do nothing: the rows are asked for by `noted_in`."""

    def noted_in(
        self, found: BadRows, features: tuple[Feature, ...], names: dict[str, str], good: NDArray[np.bool_]
    ) -> None:
        """Add the faults to a report, and take the rows that have some out of the good ones.

        Args:
            found: The report.
            features: The columns.
            names: The input's name of each feature.
            good: bool[B], which rows have no fault that is in the report; changed in place.
        """
        told = ~good
        for column, rules in self._rules.items():
            rules[told] = NONE
            good &= rules == NONE
            for rule in np.unique(rules[rules != NONE]).tolist():
                text = fault_text(features[column], RULES[rule])
                found.add(names[features[column].name], text, np.flatnonzero(rules == rule))
