"""Rows that somebody else logged: checked, sorted, and laid out for the estimators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batch_rl.data.episodes import Episodes
from batch_rl.data.tables import PROBABILITY_SUM_TOLERANCE
from batch_rl.errors import DatasetError
from batch_rl.ope.steps import Floats, Integers, Layout, WeightedSteps

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("episode", "t", "action", "reward", "propensity")
ENDS = ("terminated", "truncated")


@dataclass(frozen=True)
class LoggedRows:
    """A log that passed every check. Arrays are (rows,) in the layout's order unless they say otherwise.

    Args:
        layout: its ``rows`` are the rows of the table that was given, whatever their order there.
        actions, rewards, propensities: what was logged.
        cut: (episodes,) in the layout's order: truncated, and not terminated by the same step.
        assumed_terminated: the table does not say how episodes ended.
        probabilities: (rows, n_actions), of the policy that logged, where they are logged.
    """

    layout: Layout
    actions: Integers
    rewards: Floats
    propensities: Floats
    cut: NDArray[np.bool_]
    assumed_terminated: bool
    probabilities: Floats | None = None

    @classmethod
    def of(cls, episodes: Episodes) -> "LoggedRows":
        """Lay out episodes that were checked when they were loaded."""
        layout = Layout.of(episodes.lengths)
        return cls(
            layout=layout,
            actions=episodes.actions[layout.rows],
            rewards=episodes.rewards[layout.rows],
            propensities=episodes.propensities[layout.rows],
            cut=episodes.truncated[layout.order],
            assumed_terminated=False,
            probabilities=episodes.probabilities[layout.rows],
        )

    def __len__(self) -> int:
        return len(self.rewards)


def read_rows(rows: "pd.DataFrame | Mapping[str, ArrayLike]") -> LoggedRows:
    """Check a table of logged steps and lay it out; do it once to score several policies on one log.

    Args:
        rows: columns ``episode`` (any label), ``t`` (consecutive whole numbers, the same first one in every
            episode), ``action`` (from 0), ``reward``, ``propensity`` (in (0, 1]), ``terminated`` and
            ``truncated`` (how the episode ended, on its last row). In any order.
    Raises:
        DatasetError: naming the column and the row, counted from 0, of the first fault.
    """
    import pandas as pd

    names = list(rows.keys())
    for name in COLUMNS:
        if name not in names:
            raise DatasetError(f"column '{name}' is missing; there are: {', '.join(map(str, names))}.")
    lengths = {name: len(np.asarray(rows[name])) for name in (*COLUMNS, *ENDS) if name in names}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"columns differ in length: {lengths}.")
    if lengths["episode"] == 0:
        raise DatasetError("the table holds no rows.")
    labels = np.asarray(rows["episode"])
    codes, _ = pd.factorize(labels)
    _refuse_first("episode", labels, codes < 0, "is missing")
    t = _whole_numbers(rows, "t")
    actions = _whole_numbers(rows, "action")
    _refuse_first("action", actions, actions < 0, "is not an action; they are numbered from 0")
    rewards = _numbers(rows, "reward")
    propensities = _numbers(rows, "propensity")
    _refuse_first("propensity", propensities, (propensities <= 0) | (propensities > 1), "is outside (0, 1]")
    ends = {name: _flags(rows, name) if name in names else np.zeros(len(t), dtype=np.bool_) for name in ENDS}
    assumed = not any(name in names for name in ENDS)

    order = _sorted_order(codes, t)
    codes, sorted_t = codes[order], t[order]
    last = np.append(codes[1:] != codes[:-1], True)
    first = np.roll(last, 1)
    _check_steps(labels, order, sorted_t, first)
    ending, truncated = ends["terminated"][order], ends["truncated"][order]
    if assumed:
        ending = last
    _refuse_sorted("terminated", labels, order, ending & ~last, "is set before its last row")
    _refuse_sorted("truncated", labels, order, truncated & ~last, "is set before its last row")
    _refuse_sorted(
        "terminated",
        labels,
        order,
        last & ~(ending | truncated),
        "ends there with neither terminated nor truncated; set truncated where the log was cut off",
    )
    ends_at = np.flatnonzero(last)
    layout = Layout.of(np.diff(ends_at, prepend=-1))
    cut = (truncated & ~ending)[ends_at][layout.order]
    places = order[layout.rows]
    return LoggedRows(
        layout=Layout(order=layout.order, lengths=layout.lengths, running=layout.running, rows=places),
        actions=actions[places],
        rewards=rewards[places],
        propensities=propensities[places],
        cut=cut,
        assumed_terminated=assumed,
    )


def weigh(
    log: LoggedRows,
    target: ArrayLike,
    *,
    discount: float,
    q_hat: ArrayLike | None = None,
    values_after_truncation: ArrayLike | None = None,
    largest_ratio: float | None = None,
) -> tuple[WeightedSteps, float]:
    """Put a policy beside a log.

    Args:
        target: the policy's probabilities, (rows, n_actions), as ``q_hat`` in the order of the given table.
        values_after_truncation: (rows,), the policy's value of the observation that followed; read on the
            last rows of truncated episodes.
        largest_ratio: ratios above it are set to it.
    Returns:
        The steps, and the share of ratios that were clipped.
    Raises:
        DatasetError: naming the argument and the row of the first fault.
    """
    if not 0 <= discount <= 1:
        raise DatasetError(f"discount is {discount}; it must be in [0, 1].")
    probabilities = check_probabilities("target_probabilities", target, len(log))
    n_actions = probabilities.shape[1]
    unknown = np.zeros(len(log), dtype=np.bool_)
    unknown[log.layout.rows] = log.actions >= n_actions
    if unknown.any():
        row = int(unknown.argmax())
        action = log.actions[np.flatnonzero(log.layout.rows == row)[0]]
        raise DatasetError(
            f"row {row}, column 'action': {action} is not an action; target_probabilities has columns "
            f"0 to {n_actions - 1}."
        )
    taken = log.layout.rows * n_actions + log.actions
    ratios = np.take(probabilities, taken) / log.propensities
    clipped = 0.0
    if largest_ratio is not None:
        if not largest_ratio > 0:
            raise DatasetError(f"largest_ratio is {largest_ratio}; it must be above 0.")
        clipped = float((ratios > largest_ratio).mean())
        ratios = np.minimum(ratios, largest_ratio)
    rewards = log.rewards
    if values_after_truncation is not None:
        after = np.asarray(values_after_truncation, dtype=np.float64)
        if after.shape != (len(log),):
            raise DatasetError(f"values_after_truncation has shape {after.shape}, not ({len(log)},).")
        places = log.layout.last[log.cut]
        values = after[log.layout.rows[places]]
        if not np.isfinite(values).all():
            row = int(log.layout.rows[places][int(np.argmin(np.isfinite(values)))])
            raise DatasetError(f"row {row} of values_after_truncation is not finite, and its episode is truncated.")
        rewards = rewards.copy()
        rewards[places] += discount * values
    q, v = None, None
    if q_hat is not None:
        table = np.ascontiguousarray(q_hat, dtype=np.float64)
        if table.shape != probabilities.shape:
            raise DatasetError(f"q_hat has shape {table.shape}; target_probabilities has {probabilities.shape}.")
        _check_finite("q_hat", table)
        q = np.take(table, taken)
        v = np.einsum("ra,ra->r", probabilities, table)[log.layout.rows]
    return WeightedSteps(log.layout, ratios, rewards, discount, q, v), clipped


def check_probabilities(name: str, values: ArrayLike, rows: int) -> Floats:
    """Return (rows, n_actions) probabilities.

    Raises:
        DatasetError: another shape, or a row that is no distribution.
    """
    try:
        table = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name} is no table of numbers: {error}.") from error
    if table.ndim != 2 or len(table) != rows or table.shape[1] == 0:
        raise DatasetError(f"{name} has shape {table.shape}; it needs a row for each of the {rows} logged steps.")
    _check_finite(name, table)
    for column in range(table.shape[1]):
        _refuse_first(f"{name}[:, {column}]", table[:, column], table[:, column] < 0, "is below 0")
    sums = table @ np.ones(table.shape[1])
    _refuse_first(name, sums, np.abs(sums - 1) > PROBABILITY_SUM_TOLERANCE, "is what the row sums to, not 1")
    return table


def _check_finite(name: str, table: Floats) -> None:
    # A sum over all tells at once that nothing is wrong, which is nearly always so.
    if not np.isfinite(table.sum()):
        bad = ~np.isfinite(table).all(axis=1)
        if bad.any():
            raise DatasetError(f"row {int(bad.argmax())} of {name} holds a value that is not finite.")


def _refuse_first(column: str, values: NDArray[Any], bad: NDArray[np.bool_], fault: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        count = int(bad.sum())
        count_text = f" ({count} such rows)" if count > 1 else ""
        raise DatasetError(f"row {row}, column '{column}': {values[row]} {fault}{count_text}.")


def _refuse_sorted(column: str, labels: NDArray[Any], order: Integers, bad: NDArray[np.bool_], fault: str) -> None:
    if bad.any():
        row = int(order[bad].min())
        raise DatasetError(f"row {row}, column '{column}': episode {labels[row]} {fault}.")


def _numbers(rows: Any, column: str) -> Floats:
    import pandas as pd

    given = np.asarray(rows[column])
    numbers = np.asarray(pd.to_numeric(pd.Series(given), errors="coerce"), dtype=np.float64)
    if numbers.shape != given.shape:
        raise DatasetError(f"column '{column}' has shape {given.shape}; it needs one value a row.")
    _refuse_first(column, given, ~np.isfinite(numbers), "is not a finite number")
    return numbers


def _whole_numbers(rows: Any, column: str) -> Integers:
    given = np.asarray(rows[column])
    if given.dtype.kind in "iu" and given.ndim == 1:
        return given.astype(np.int64)
    numbers = _numbers(rows, column)
    _refuse_first(column, given, numbers != np.floor(numbers), "is not a whole number")
    return numbers.astype(np.int64)


def _flags(rows: Any, column: str) -> NDArray[np.bool_]:
    given = np.asarray(rows[column])
    if given.dtype == np.bool_:
        return given
    numbers = _numbers(rows, column)
    _refuse_first(column, given, (numbers != 0) & (numbers != 1), "is neither true nor false")
    flags: NDArray[np.bool_] = numbers == 1
    return flags


def _sorted_order(codes: NDArray[np.intp], t: Integers) -> Integers:
    same = codes[1:] == codes[:-1]
    if (np.where(same, t[1:] > t[:-1], codes[1:] > codes[:-1])).all():
        return np.arange(len(codes))
    return np.lexsort((t, codes))


def _check_steps(labels: NDArray[Any], order: Integers, t: Integers, first: NDArray[np.bool_]) -> None:
    """Refuse steps that are doubled or missing."""
    steps = np.diff(t, prepend=t[0])
    begin = int(t[first].min())
    bad = np.where(first, t != begin, steps != 1)
    if not bad.any():
        return
    # The first fault in the table, not in the sorted order.
    place = int(np.flatnonzero(bad)[order[bad].argmin()])
    row, episode = int(order[place]), labels[order[place]]
    if first[place]:
        fault = f"begins at t = {t[place]}, where others begin at {begin}; its first rows are missing"
    elif steps[place] == 0:
        fault = f"has t = {t[place]} twice, also in row {int(order[place - 1])}"
    else:
        fault = f"goes from t = {t[place - 1]} to {t[place]}; rows between them are missing"
    raise DatasetError(f"row {row}, column 't': episode {episode} {fault}.")
