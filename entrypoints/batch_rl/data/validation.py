"""The report on a table of logged steps: every fault, with its column and all of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import DatasetError

SHOWN_ROWS = 5
NAMED_PROBLEMS = 3


@dataclass(frozen=True)
class RowLabels:
    """How a person counts the rows of a source: the first row is ``word first``."""

    word: str
    first: int

    def name(self, row: int) -> str:
        """Return what a row, counted from 0, is called."""
        return f"{self.word} {row + self.first}"


@dataclass(frozen=True)
class Problem:
    """One kind of fault.

    Attributes:
        fault: what is wrong, with the value of the first row.
        column: None when it is no column's.
        rows: all rows with the fault, counted from 0, rising; none when it is the table's.
    """

    fault: str
    column: str | None = None
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def describe(self, labels: RowLabels, *, shown_rows: int = 1) -> str:
        """Return it as one line; where there are more than ``shown_rows`` rows, with their number."""
        parts = []
        if len(self.rows):
            parts.append(labels.name(int(self.rows[0])))
        if self.column is not None:
            parts.append(f"column '{self.column}'")
        text = f"{', '.join(parts)}: {self.fault}" if parts else self.fault
        if len(self.rows) > 1:
            listed = ", ".join(str(row + labels.first) for row in self.rows[:shown_rows].tolist())
            ellipsis = ", ..." if len(self.rows) > shown_rows else ""
            text += f" ({len(self.rows)} such rows{f': {listed}{ellipsis}' if shown_rows > 1 else ''})"
        return text


@dataclass(frozen=True)
class ValidationReport:
    """What a check of a table found; ``str()`` gives a line per problem.

    Attributes:
        source: the file, or what else the table is called.
        n_rows, n_episodes: how many the table holds, as far as they could be told apart.
        problems: none when the table is good; in the order of their first rows.
        assumptions: what was supposed because the table does not say it.
    """

    source: str
    labels: RowLabels
    n_rows: int
    n_episodes: int
    problems: Sequence[Problem]
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.source}: {self.n_rows} rows, {self.n_episodes} episodes, {count} problem{'s'[: count != 1]}"
        lines = [problem.describe(self.labels, shown_rows=SHOWN_ROWS) for problem in self.problems]
        return "\n  ".join([head, *lines])

    def raise_problems(self) -> None:
        """Refuse the table.

        Raises:
            DatasetError: there are problems; in one line, the first ones in words and the rest as a number.
        """
        count = len(self.problems)
        named = [problem.describe(self.labels) for problem in self.problems[:NAMED_PROBLEMS]]
        if count == 1:
            separator = ", " if len(self.problems[0].rows) or self.problems[0].column else ": "
            raise DatasetError(f"{self.source}{separator}{named[0]}.", report=self)
        if count:
            rest = f"; and {count - NAMED_PROBLEMS} more" if count > NAMED_PROBLEMS else ""
            raise DatasetError(f"{self.source}: {count} problems: {'; '.join(named)}{rest}.", report=self)
