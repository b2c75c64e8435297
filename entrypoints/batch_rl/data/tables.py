"""From a table of logged steps to episodes: every format but the arrays themselves passes here.

A row is a step, a column has one of the names below. All faults are collected before the table is refused,
and what the table does not say is written down as an assumption. Source of the names: Coach's CSV (as its
code and as its notebook spell them) and ReAgent's table.
"""

import difflib
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import FEATURE_PREFIX, NEXT_FEATURE_PREFIX, Episodes, logged_probabilities
from batch_rl.data.validation import Problem, RowLabels, ValidationReport
from batch_rl.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

EPISODE = ("episode_id", "mdp_id")
STEP = ("step", "sequence_number")
PROBABILITIES = ("all_action_probabilities", "action_probs")
PROPENSITY = ("action_probability", "propensity")
FEATURES = "state_features"
NEXT_FEATURES = "next_state_features"
POSSIBLE_ACTIONS = "possible_actions"
PROBABILITY_SUM_TOLERANCE = 1e-3
MAX_UNLISTED_ACTIONS = 10_000  # where the log alone shows how many there are, a wild number is no action
MAX_UNLISTED_NAMES = 1000  # where it alone shows their names, a column of different texts is none of actions
SHOWN_NAMES = 20
HEAD = 10_000  # rows that show whether most texts of a column differ ...
DISTINCT_IN_HEAD = 0.1  # ... which is when parsing each different text once is slower than parsing all together

CSV_LINES = RowLabels("line", 2)  # the header is line 1
JSON_LINES = RowLabels("line", 1)
ROWS = RowLabels("row", 0)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Columns = Mapping[str, str | Sequence[str]]

TERMINATED_ASSUMED = (
    "no column 'terminated' or 'truncated' says how episodes ended; all count as terminated, so nothing is worth "
    "anything after a last row"
)


def episodes_from_frame(
    frame: "pd.DataFrame",
    *,
    source: str = "table",
    labels: RowLabels = ROWS,
    action_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    require_propensities: bool = True,
) -> Episodes:
    """Check a table and turn it into arrays; see ``check_frame``.

    Raises:
        DatasetError: there are problems. The message names the first ones; ``report`` has them all.
    """
    report, episodes = check_frame(
        frame,
        source=source,
        labels=labels,
        action_names=action_names,
        columns=columns,
        require_propensities=require_propensities,
    )
    report.raise_problems()
    if episodes is None:
        raise DatasetError(f"{source}: no episodes could be read.", report=report)
    return episodes


def check_frame(
    frame: "pd.DataFrame",
    *,
    source: str = "table",
    labels: RowLabels = ROWS,
    action_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    require_propensities: bool = True,
) -> tuple[ValidationReport, Episodes | None]:
    """Find everything that is wrong with a table, and return its episodes if nothing is.

    Args:
        source: what messages call the table.
        labels: how they count its rows.
        action_names: of actions 0, 1, ..., where they are named; if left out, the first row's
            ``possible_actions``, or the names that the table has, in the order of the alphabet.
        columns: which of the table's columns has which meaning, where it is not called by it; see
            ``rename_columns``. Problems name the table's own.
        require_propensities: whether a table without probabilities is at fault. If not, every action gets the
            same one; a caller that allows this must replace them by estimates.
    """
    check = _Check(rename_columns(frame, columns or {}, source), labels, action_names, require_propensities)
    episodes = check.run()
    own_names = {ours: theirs for theirs, ours in _renamings(columns or {}).items()}
    problems = [
        Problem(problem.fault, own_names.get(problem.column or "", problem.column), problem.rows)
        for problem in sorted(check.problems, key=lambda problem: int(problem.rows[0]) if len(problem.rows) else -1)
    ]
    report = ValidationReport(source, labels, len(frame), check.n_episodes, problems, tuple(check.assumptions))
    return report, None if problems else episodes


def rename_columns(frame: "pd.DataFrame", columns: Columns, source: str = "table") -> "pd.DataFrame":
    """Return a table with the names that this library knows.

    Args:
        columns: this library's name -> the table's; of ``state_features`` and ``next_state_features`` also a list of
            columns, a feature each. A column that has one of these names already and means something else is dropped.
    Raises:
        DatasetError: the table lacks some of its columns.
    """
    new_names = _renamings(columns)
    present = [str(name) for name in frame.columns]
    if missing := [name for name in new_names if name not in present]:
        listed = ", ".join(f"'{name}'" for name in missing)
        raise DatasetError(
            f"{source}: data.columns names {listed}, which the table does not have; it has: {', '.join(present[:20])}."
        )
    in_the_way = [name for name in present if name in new_names.values() and name not in new_names]
    return frame.drop(columns=in_the_way).rename(columns=new_names) if new_names else frame


def _renamings(columns: Columns) -> dict[str, str]:
    """Return this library's name for each of a table's."""
    new_names = {}
    for ours, theirs in columns.items():
        if isinstance(theirs, str):
            new_names[theirs] = ours
        else:
            new_names |= {name: f"{ours.removesuffix('s')}_{number}" for number, name in enumerate(theirs)}
    return new_names


def read_csv_frame(path: Path) -> "pd.DataFrame":
    """Read a CSV without interpreting its columns.

    Raises:
        DatasetError: it cannot be read, or is no table.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            try:
                frame = pd.read_csv(path, skip_blank_lines=False)
            except pd.errors.DtypeWarning:
                # Read in pieces, a column of numbers and texts has some of either; as a whole, texts alone.
                frame = pd.read_csv(path, skip_blank_lines=False, low_memory=False)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a CSV table: {str(error).strip()}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DatasetError(f"{path}: rows hold more values than the header has names.")
    return frame


class _Check:
    """One pass over a table, which collects its faults in ``problems``."""

    def __init__(
        self,
        frame: "pd.DataFrame",
        labels: RowLabels,
        action_names: Sequence[str] | None,
        require_propensities: bool,
    ) -> None:
        self.frame = frame
        self.labels = labels
        self.action_names = None if action_names is None else [str(name) for name in action_names]
        self.require_propensities = require_propensities
        self.problems: list[Problem] = []
        self.assumptions: list[str] = []
        self.n_episodes = 0

    def run(self) -> Episodes | None:
        """Return the episodes, or None where columns are missing; they count only without problems."""
        names = self._find_columns()
        if self.problems:
            return None
        if self.frame.empty:
            self.problems.append(Problem("a header and no rows"))
            return None
        rewards = self._numbers("reward")
        observations = self._features(FEATURES, FEATURE_PREFIX)
        self._name_actions(names.get(PROBABILITIES))
        probabilities, n_actions = self._behavior(names)
        actions = self._actions(n_actions)
        if probabilities is not None:
            self._check_logged_actions(names, probabilities, actions)
        else:
            probabilities = self._spread(names, actions, n_actions)
        codes = self._episode_codes(names[EPISODE])
        if codes is None or observations is None:
            return None
        order, lengths = self._order(codes, names.get(STEP))
        in_order = bool((order[1:] > order[:-1]).all())
        as_stored = slice(None) if in_order else order  # a slice copies nothing
        last = np.cumsum(lengths) - 1
        truncated, finals = self._ends(order, lengths, observations.shape[1])
        episodes = Episodes(
            observations=observations[as_stored],
            actions=actions[as_stored],
            rewards=rewards[as_stored],
            probabilities=probabilities[as_stored],
            lengths=lengths,
            truncated=truncated,
            final_observations=finals,
            assumptions=tuple(self.assumptions),
            action_names=tuple(self.action_names or ()),
        )
        if "cumulative_rewards" in self.frame:
            self._check_returns(episodes, order, last)
        return episodes

    def _find_columns(self) -> dict[tuple[str, ...], str]:
        """Return the spelling in use of each meaning."""
        columns: dict[tuple[str, ...], str] = {}
        meanings: tuple[tuple[str, ...], ...] = (EPISODE, STEP, PROBABILITIES, PROPENSITY)
        for spellings in meanings:
            present = [name for name in spellings if name in self.frame]
            if len(present) > 1:
                self.problems.append(
                    Problem(f"columns '{present[0]}' and '{present[1]}' have the same meaning; keep one")
                )
            if present:
                columns[spellings] = present[0]
        required: list[tuple[str, ...]] = [("action",), EPISODE, ("reward",)]
        if self.require_propensities:
            required.insert(1, PROBABILITIES + PROPENSITY)
        missing = [spellings[0] for spellings in required if not any(name in self.frame for name in spellings)]
        if not any(str(name).startswith(FEATURES.removesuffix("s")) for name in self.frame.columns):
            missing.append(FEATURES)
        if missing:
            self._report_missing(missing)
        return columns

    def _report_missing(self, names: Sequence[str]) -> None:
        """Report all columns that are missing at once, with what may be meant or may do instead."""
        present = [str(column) for column in self.frame.columns]
        nearest = {name: difflib.get_close_matches(name, present, n=1) for name in names}
        by = "" if len(names) == 1 else " by '{}'"
        meant = [f"is '{near[0]}' meant{by.format(name)}?" for name, near in nearest.items() if near]
        texts = [*meant, f"the table has: {', '.join(present[:12])}{', ...' if len(present) > 12 else ''}"]
        if len(meant) < len(names):
            texts.append("data.columns of the preset says which column is which")
        if PROBABILITIES[0] in names and not nearest[PROBABILITIES[0]]:
            texts.append(
                f"for '{PROBABILITIES[0]}', '{PROPENSITY[1]}' alone will do, the probability of the logged action; "
                "without any, data.behavior_policy=estimate (of launcher ope: --behavior-policy estimate) estimates "
                "the policy that acted"
            )
        if FEATURES in names:
            texts.append(f"'{FEATURES}' is a list, or a column for each feature: '{FEATURE_PREFIX}0', ...")
        listed = ", ".join(f"'{name}'" for name in names)
        words = f"column {listed} is missing" if len(names) == 1 else f"columns {listed} are missing"
        self.problems.append(Problem("; ".join([words, *texts])))

    def _report(self, column: str, bad: Mask, fault: str, *, show_value: bool = True) -> None:
        if bad.any():
            rows = np.flatnonzero(bad)
            value = f"{_shown(self.frame[column].iloc[int(rows[0])])} " if show_value else ""
            self.problems.append(Problem(f"{value}{fault}", column, rows))

    def _numbers(self, column: str) -> Floats:
        """Return finite numbers; 0 where there is none, which is reported."""
        return self._numbers_as_stored(column).astype(np.float64, copy=False)

    def _numbers_as_stored(self, column: str) -> NDArray[Any]:
        """Return finite numbers, in whatever type a column of numbers has; the others as float64."""
        import pandas as pd

        values = self.frame[column]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iu":
            return values.to_numpy()
        if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
            numbers = values.to_numpy()
        else:
            numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(numbers)
        if finite.all():
            return numbers
        self._report(column, ~finite, "is not a finite number")
        return np.where(finite, numbers, 0.0)

    # Observations

    def _features(self, list_column: str, prefix: str) -> NDArray[np.float32] | None:
        numbered = [name for name in self.frame.columns if str(name).startswith(prefix) and name != list_column]
        if list_column in self.frame:
            values = self._lists(list_column, "features")
            if values is None:
                return None
            with np.errstate(over="ignore"):
                narrow = values[0][values[1]].astype(np.float32)
            self._check_width([list_column], narrow)
            return narrow
        if not numbered:
            self.problems.append(Problem(f"no column '{prefix}0' and no '{list_column}'; the observation is missing"))
            return None
        expected = [f"{prefix}{i}" for i in range(len(numbered))]
        if absent := [name for name in expected if name not in numbered]:
            self.problems.append(Problem(f"column '{absent[0]}' is missing; features are numbered from 0 without gaps"))
            return None
        narrow = np.empty((len(self.frame), len(expected)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for number, name in enumerate(expected):
                narrow[:, number] = self._numbers_as_stored(name)
        self._check_width(expected, narrow)
        return narrow

    def _check_width(self, columns: Sequence[str], narrow: NDArray[np.float32]) -> None:
        """Report values that float32 cannot hold; ``columns`` is one that has them all, or one for each."""
        finite = np.isfinite(narrow)
        if not finite.all():
            for number, name in enumerate(columns):
                own: Mask = finite[:, number] if len(columns) > 1 else np.all(finite, axis=1)
                self._report(name, np.logical_not(own), "is too large for float32")

    def _lists(self, column: str, noun: str) -> tuple[Floats, NDArray[np.int64] | slice] | None:
        """Read lists, texts of lists, or maps.

        Returns:
            The different lists, (lists, width), with 0 in those at fault, and which of them each row has.
        """
        if (values := _parse_together(self.frame[column])) is not None:
            return values, slice(None)
        codes, cells = _distinct(self.frame[column])
        parsed, faults = _parse_each(cells, noun)
        by_fault: dict[str, list[int]] = {}
        for cell, fault in faults.items():
            by_fault.setdefault(fault, []).append(cell)
        all_codes = np.arange(len(cells)) if codes is None else codes
        for fault, at in by_fault.items():
            missing = fault == "is missing"
            self._report(column, np.isin(all_codes, at), fault, show_value=not missing)
        width = next((len(values) for values in parsed if values is not None), None)
        if width is None:
            return None
        table = np.array([[0.0] * width if values is None else values for values in parsed], dtype=np.float64)
        return table, all_codes

    # Actions and probabilities

    def _name_actions(self, probabilities: str | None) -> None:
        """Take the actions' names from ``possible_actions`` or from the log, unless they are simply numbers.

        Args:
            probabilities: the column that has all of them, if there is one.
        """
        if self.action_names is None and POSSIBLE_ACTIONS in self.frame:
            for cell in self.frame[POSSIBLE_ACTIONS]:
                names = [str(name) for name in _items(cell)]
                if names:
                    self.action_names = names
                    break
        elif self.action_names is None:
            self._number_names(probabilities)
        if self.action_names is not None and self.action_names == [str(i) for i in range(len(self.action_names))]:
            self._numbered_actions: int | None = len(self.action_names)
            self.action_names = None
        else:
            self._numbered_actions = None if self.action_names is None else len(self.action_names)

    def _number_names(self, probabilities: str | None) -> None:
        """Number actions that are texts in the order of the alphabet, or of the names that probabilities have."""
        actions = self.frame["action"]
        if actions.dtype.kind in "biuf" or not all(isinstance(cell, str) for cell in actions):
            return
        different = sorted(set(actions))
        if any(_is_number(name) for name in different) or len(different) > MAX_UNLISTED_NAMES:
            return
        if probabilities is not None:
            cell = _from_json(self.frame[probabilities].iloc[0])
            if not isinstance(cell, Mapping):
                self.problems.append(
                    Problem(
                        f"actions have names, and '{probabilities}' does not say which of them its numbers belong to; "
                        "list them in that order as data.action_names of the preset"
                    )
                )
                self.action_names = different
                return
            different = sorted_features(str(name) for name in cell)
        self.action_names = different
        shown = [f"{number} is '{name}'" for number, name in enumerate(different[:SHOWN_NAMES])]
        rest = ["..."] if len(different) > SHOWN_NAMES else []
        self.assumptions.append(f"actions are numbered by their names: {', '.join([*shown, *rest])}")

    def _behavior(self, names: Mapping[tuple[str, ...], str]) -> tuple[Floats | None, int | None]:
        """Return all actions' probabilities, if the table has them, and the number of actions, if it is known."""
        column = names.get(PROBABILITIES)
        if column is None:
            return None, self._numbered_actions
        lists = self._lists(column, "probabilities")
        if lists is None:
            return None, self._numbered_actions
        # What holds for a list holds for all of its rows; the lists at fault are known, and hold zeros.
        table, codes = lists
        sums = np.einsum("ij->i", table)  # three times as fast as sum(axis=1) on rows this short
        # Row by row only where something is wrong; a NaN compares as false.
        if table.min() >= 0 and table.max() <= 1 and np.abs(sums - 1).max() <= PROBABILITY_SUM_TOLERANCE:
            return table[codes], table.shape[1]
        parsed = np.asarray(table.any(axis=1), dtype=np.bool_)
        outside = np.logical_and(parsed, ~((table >= 0) & (table <= 1)).all(axis=1))  # NaN is neither
        off = np.logical_and(parsed & ~outside, np.abs(sums - 1) > PROBABILITY_SUM_TOLERANCE)
        if outside.any():
            self._report(column, outside[codes], "has a probability outside [0, 1]")
        if off.any():
            wrong = off[codes]
            self._report(column, wrong, f"sums to {sums[codes][int(wrong.argmax())]:.6g}, not 1")
        return table[codes], table.shape[1]

    def _rows_at_fault(self, column: str) -> NDArray[np.int64]:
        faulty = [problem.rows for problem in self.problems if problem.column == column]
        return np.concatenate(faulty) if faulty else np.zeros(0, dtype=np.int64)

    def _actions(self, n_actions: int | None) -> NDArray[np.int64]:
        """Return action numbers; 0 where there is none, which is reported."""
        if self.action_names is not None:
            number = {name: float(i) for i, name in enumerate(self.action_names)}
            numbers = self.frame["action"].astype(str).map(number).to_numpy(dtype=np.float64)
            self._report("action", np.isnan(numbers), f"is not an action; they are: {', '.join(self.action_names)}")
            return np.nan_to_num(numbers).astype(np.int64)
        numbers = self._numbers("action")
        is_action = (numbers >= 0) & (numbers == np.floor(numbers))
        is_action &= numbers < (MAX_UNLISTED_ACTIONS if n_actions is None else n_actions)
        limit = "from 0" if n_actions is None else f"0 to {n_actions - 1}"
        self._report("action", ~is_action, f"is not an action; they are numbered {limit}")
        return np.where(is_action, numbers, 0).astype(np.int64)

    def _check_logged_actions(
        self, names: Mapping[tuple[str, ...], str], probabilities: Floats, actions: NDArray[np.int64]
    ) -> None:
        column = names[PROBABILITIES]
        propensities = logged_probabilities(probabilities, actions)
        zero = propensities == 0
        if zero.any():
            zero[np.concatenate([self._rows_at_fault(column), self._rows_at_fault("action")])] = False
        self._report(column, zero, "gives the logged action probability 0, so the row cannot come from that policy")
        if PROPENSITY in names:
            stated = self._propensities(names[PROPENSITY])
            differs = np.abs(stated - propensities) > PROBABILITY_SUM_TOLERANCE
            differs[self._rows_at_fault(names[PROPENSITY])] = False
            self._report(names[PROPENSITY], differs, f"is not what '{column}' gives the logged action")

    def _propensities(self, column: str) -> Floats:
        import pandas as pd

        values = pd.to_numeric(self.frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        missing = self.frame[column].isna().to_numpy()
        self._report(column, missing, "is missing", show_value=False)
        self._report(column, ~missing & ~np.isfinite(values), "is not a finite number")
        self._report(column, values == 0, "is zero, so the row cannot come from that policy")
        self._report(column, np.isfinite(values) & (values < 0), "is negative")
        self._report(column, np.isfinite(values) & (values > 1), "is above 1")
        return values

    def _spread(
        self, names: Mapping[tuple[str, ...], str], actions: NDArray[np.int64], n_actions: int | None
    ) -> Floats:
        """Fill in the probabilities of the actions that were not taken; no estimate uses them."""
        count = n_actions
        if count is None:
            count = max(int(actions.max()) + 1, 2)
            self.assumptions.append(f"the table does not list the actions; they are 0 to {count - 1}, as logged")
        table = np.full((len(actions), count), 1.0 / count)
        if PROPENSITY in names:
            propensities = self._propensities(names[PROPENSITY])
            if count > 1:
                table[:] = ((1 - propensities) / (count - 1))[:, None]
            table[np.arange(len(actions)), actions] = propensities
            if count > 2:
                self.assumptions.append(
                    f"'{names[PROPENSITY]}' is known of the logged action alone; the others share the rest evenly, "
                    "and no estimate uses them"
                )
        return table

    # Episodes and their ends

    def _episode_codes(self, column: str) -> NDArray[np.int64] | None:
        ids = self.frame[column]
        missing = ids.isna().to_numpy()
        if missing.any():
            self._report(column, missing, f"{_shown(ids[missing].iloc[0])} is missing", show_value=False)
            return None
        if ids.dtype == object:
            strange = ~ids.map(lambda cell: isinstance(cell, str | int | float | np.generic)).to_numpy(dtype=np.bool_)
            if strange.any():
                self._report(column, strange, "is neither a number nor a text")
                return None
        codes: NDArray[np.int64]
        if isinstance(ids.dtype, np.dtype) and ids.dtype.kind in "iu" and ids.is_monotonic_increasing:
            numbers = ids.to_numpy()
            codes = np.cumsum(np.concatenate([[False], numbers[1:] != numbers[:-1]]), dtype=np.int64)
        else:
            codes = np.asarray(ids.factorize()[0], dtype=np.int64)
        self.n_episodes = int(codes.max()) + 1
        return codes

    def _order(self, codes: NDArray[np.int64], column: str | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take interleaved episodes apart: by step where there is one, else in the order of the rows."""
        lengths = np.bincount(codes).astype(np.int64)
        rising = (codes[1:] >= codes[:-1]).all()
        if column is None:
            if rising:
                return np.arange(len(codes)), lengths
            return np.argsort(codes, kind="stable"), lengths
        steps = self._numbers(column)
        starts = np.cumsum(lengths) - lengths
        one_more = steps[1:] - steps[:-1] == 1
        one_more[starts[1:] - 1] = True
        if steps[0] == np.floor(steps[0]) and (steps[starts] == steps[0]).all() and one_more.all() and rising:
            return np.arange(len(codes)), lengths  # nothing is wrong
        self._report(column, steps != np.floor(steps), "is not a whole number")
        same = codes[1:] == codes[:-1]
        in_order = ((codes[1:] > codes[:-1]) | (same & (steps[1:] > steps[:-1]))).all()
        order = np.arange(len(codes)) if in_order else np.lexsort((steps, codes))
        sorted_steps = steps[order]
        increments = np.diff(sorted_steps, prepend=sorted_steps[0])
        first = np.zeros(len(codes), dtype=np.bool_)
        first[starts] = True
        self._report_rows(column, order[~first & (increments == 0)], "stands twice in its episode")
        if column == STEP[0]:  # ReAgent's sequence_number may have gaps
            self._report_rows(column, order[~first & (increments > 1)], "follows a gap: steps are missing before it")
            begin = sorted_steps[starts].min()
            late = starts[sorted_steps[starts] != begin]
            self._report_rows(column, order[late], f"begins an episode, though others begin at {begin:g}")
        return order, lengths

    def _report_rows(self, column: str, rows: NDArray[np.int64], fault: str, *, show_value: bool = True) -> None:
        bad = np.zeros(len(self.frame), dtype=np.bool_)
        bad[rows] = True
        self._report(column, bad, fault, show_value=show_value)

    def _flags(self, column: str) -> Mask | None:
        if column not in self.frame:
            return None
        values = self.frame[column]
        if values.dtype == bool:
            return values.to_numpy()
        texts = values.astype(str).str.lower().str.removesuffix(".0")
        flags = texts.isin(["1", "true"]).to_numpy()
        self._report(column, ~flags & ~texts.isin(["0", "false"]).to_numpy(), "is not 0, 1, false or true")
        return np.asarray(flags, dtype=np.bool_)

    def _ends(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64], width: int
    ) -> tuple[Mask, NDArray[np.float32] | None]:
        """Return which episodes were truncated, and what they led to, as far as the table says it."""
        last_rows = order[np.cumsum(lengths) - 1]
        is_last = np.zeros(len(order), dtype=np.bool_)
        is_last[last_rows] = True
        terminated, truncated = self._flags("terminated"), self._flags("truncated")
        for column, flags in (("terminated", terminated), ("truncated", truncated)):
            if flags is not None:
                self._report(column, flags & ~is_last, "ends the episode, yet later rows belong to it")
        if terminated is not None and truncated is not None:
            endless = is_last & ~terminated & ~truncated
            self._report("terminated", endless, "neither terminated nor truncated: the episode has no end",
                         show_value=False)  # fmt: skip
        if terminated is not None:
            cut = ~terminated[last_rows]
            if truncated is None and cut.any():
                self.assumptions.append(
                    f"there is no column 'truncated'; {int(cut.sum())} episodes that did not terminate count as such"
                )
        elif truncated is not None:
            cut = truncated[last_rows]
            self.assumptions.append("there is no column 'terminated'; episodes that were not truncated count as such")
        else:
            cut = self._cut_by_possible_actions(last_rows)
        finals = self._final_observations(last_rows, cut, width) if cut.any() else None
        return cut, finals

    def _cut_by_possible_actions(self, last_rows: NDArray[np.int64]) -> Mask:
        """ReAgent leaves ``possible_actions`` empty on a terminal row; where none is, it did not log ends."""
        cut = np.zeros(len(last_rows), dtype=np.bool_)
        if POSSIBLE_ACTIONS in self.frame:
            cells = self.frame[POSSIBLE_ACTIONS].iloc[last_rows]
            going_on = np.array([len(_items(cell)) > 0 for cell in cells], dtype=np.bool_)
            if not going_on.all():
                if going_on.any():
                    self.assumptions.append(
                        f"{int(going_on.sum())} episodes whose last row still has possible actions count as truncated"
                    )
                return going_on
        self.assumptions.append(TERMINATED_ASSUMED)
        return cut

    def _final_observations(self, last_rows: NDArray[np.int64], cut: Mask, width: int) -> NDArray[np.float32] | None:
        columns = [name for name in self.frame.columns if str(name).startswith(NEXT_FEATURE_PREFIX)]
        if not columns:
            self.assumptions.append(
                f"what {int(cut.sum())} truncated episodes led to is not logged; their last rows are not learned "
                "from, and estimates count nothing after them"
            )
            return None
        inner = _Check(self.frame.iloc[last_rows[cut]], self.labels, None, require_propensities=False)
        features = inner._features(NEXT_FEATURES, NEXT_FEATURE_PREFIX)
        rows = last_rows[cut]
        self.problems += [Problem(p.fault, p.column, np.sort(rows[p.rows])) for p in inner.problems]
        finals = np.full((len(last_rows), width), np.nan, dtype=np.float32)
        if features is None:
            return None
        if features.shape[1] != width:
            self.problems.append(
                Problem(f"the next observation has {features.shape[1]} features, the observation has {width}")
            )
            return None
        finals[cut] = features
        return finals

    def _check_returns(self, episodes: Episodes, order: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        """A stated return that is not the sum of the rewards shows that rows are missing or in another order."""
        column = "cumulative_rewards"
        stated = self._numbers(column)[order][last]
        sums = episodes.returns(discount=1.0)
        rows = order[last]
        wrong = ~np.isclose(stated, sums, rtol=1e-6, atol=1e-6)
        wrong &= ~np.isin(rows, np.concatenate([self._rows_at_fault(column), self._rows_at_fault("reward")]))
        if wrong.any():
            at = np.flatnonzero(wrong)
            at = at[np.argsort(rows[at])]
            name = next(name for name in EPISODE if name in self.frame)
            fault = (
                f"episode {self.frame[name].iloc[int(rows[at[0]])]} ends with {stated[at[0]]:g}, but its rewards "
                f"add up to {sums[at[0]]:g}; rows are missing or out of order"
            )
            self.problems.append(Problem(fault, column, rows[at]))


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_json(cell: Any) -> Any:
    """Return what a text of JSON stands for, and anything else as it is."""
    if isinstance(cell, str):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _items(cell: Any) -> list[Any]:
    """Return the items of a list, an array or a JSON text of a list; none of any other value."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            return []
    return list(cell) if isinstance(cell, list | tuple | np.ndarray) else []


def _distinct(column: "pd.Series[Any]") -> tuple[NDArray[np.int64] | None, list[Any]]:
    """Return cells, and which of them each row has; None when every row has its own."""
    import pandas as pd

    if isinstance(column.dtype, pd.ArrowDtype) or column.dtype.kind in "biuf":
        return None, column.tolist()
    if column.dtype == object:
        cells = column.tolist()
        if not all(isinstance(cell, str) for cell in cells):
            return None, cells
    codes, texts = column.factorize(use_na_sentinel=False)
    return np.asarray(codes, dtype=np.int64), list(texts)


def _parse_each(cells: Sequence[Any], noun: str) -> tuple[list[list[float] | None], dict[int, str]]:
    """Return each cell's numbers, or None, and the faults of those that have none."""
    parsed: list[list[float] | None] = []
    faults: dict[int, str] = {}
    width: int | None = None
    keys: list[str] | None = None
    for number, cell in enumerate(cells):
        values, fault = _parse_cell(cell)
        if isinstance(values, dict):
            keys = sorted_features(values) if keys is None else keys
            if sorted(keys) != sorted(values):
                apart = sorted(set(keys) ^ set(values))
                fault = f"has other features than earlier rows: {', '.join(apart[:3])}"
                values = None
            else:
                values = [values[key] for key in keys]
        if values is not None and width not in (None, len(values)):
            fault = f"has {len(values)} {noun} where earlier rows have {width}"
            values = None
        if values is not None and noun == "features" and not np.isfinite(values).all():
            fault = "holds a value that is not a finite number"
            values = None
        if values is not None:
            width = len(values)
        else:
            faults[number] = fault
        parsed.append(values)
    return parsed, faults


def _parse_cell(cell: Any) -> tuple[list[float] | dict[str, float] | None, str]:
    """Return a cell's numbers, or those of a map by key, or None and the fault."""
    fault = "is not a list of numbers, as [0.5, 0.5]"
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None, "is missing"
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            if re.search(r"np\.float", cell):
                fault = "is how NumPy 2 prints arrays; write plain numbers, by .tolist()"
            return None, fault
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, list | tuple) and cell and isinstance(cell[0], tuple):  # a map of Arrow: (key, value) pairs
        cell = dict(cell)
    values = cell.values() if isinstance(cell, dict) else cell
    if not isinstance(cell, list | tuple | dict) or not cell:
        return None, fault
    if not all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values):
        return None, fault
    if isinstance(cell, dict):
        return {str(key): float(value) for key, value in cell.items()}, ""
    return [float(v) for v in values], ""


def sorted_features(names: Iterable[str]) -> list[str]:
    """Return the different names of features in the order of their ids: as numbers where all are, else as texts."""
    different = set(names)
    return sorted(different, key=int if all(name.lstrip("-").isdigit() for name in different) else None)


def _parse_together(column: "pd.Series[Any]") -> Floats | None:
    """Parse a column of mostly different lists, or their texts, at once.

    None where few differ, or where anything is unusual: then each is looked at singly.
    """
    import pandas as pd

    if isinstance(column.dtype, pd.ArrowDtype):
        return _flatten_arrow_lists(column)
    head = column.iloc[:HEAD]
    if head.dtype == object and isinstance(head.iloc[0], list | tuple | np.ndarray):
        try:
            values = np.array(column.tolist(), dtype=np.float64)
        except (TypeError, ValueError):
            return None
        return values if values.ndim == 2 and np.isfinite(values).all() else None
    texts_alone = pd.api.types.infer_dtype(head, skipna=False) == "string"
    if not texts_alone or head.nunique() < DISTINCT_IN_HEAD * len(head) or len(head) < HEAD:
        return None
    try:
        return _parse_texts_by_arrow(column)
    except ModuleNotFoundError:
        texts = column.tolist()
        try:
            values = np.array(json.loads(f"[{','.join(texts)}]"), dtype=np.float64)
        except (ValueError, TypeError):
            return None
        return values if values.shape[:1] == (len(texts),) and values.ndim == 2 and np.isfinite(values).all() else None


def _flatten_arrow_lists(column: "pd.Series[Any]") -> Floats | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pa.array(column, from_pandas=True)
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    is_list = hasattr(lists, "flatten") and not pa.types.is_struct(lists.type)
    if not is_list or lists.null_count or not len(lists) or not pa.types.is_floating(lists.type.value_type):
        return None
    widths = pc.min_max(pc.list_value_length(lists)).as_py()
    flat = lists.flatten()
    if widths["min"] != widths["max"] or widths["min"] == 0 or flat.null_count:
        return None
    values = flat.to_numpy().astype(np.float64, copy=False).reshape(len(lists), widths["min"])
    return values if np.isfinite(values).all() else None


def _parse_texts_by_arrow(column: "pd.Series[Any]") -> Floats | None:
    """Turn the texts, which lie one after the other in memory, into a CSV: each ``]`` ends a line."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    texts = pa.array(column, type=pa.large_string(), from_pandas=True)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if texts.null_count or not pc.all(pc.and_(pc.starts_with(texts, "["), pc.ends_with(texts, "]"))).as_py():
        return None
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    joined = memoryview(texts.buffers()[2])[offsets[0] : offsets[-1]].tobytes()
    if joined.count(b"[") != len(texts) or joined.count(b"]") != len(texts) or b"\n" in joined:
        return None
    names = [str(i) for i in range(column.iloc[0].count(",") + 1)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(joined.translate(bytes.maketrans(b"[]", b" \n"))),
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    return values if len(values) == len(texts) and np.isfinite(values).all() else None
