"""Logged steps of many episodes, laid out so that every estimator is a few passes over flat arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import DatasetError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Between these, products of ratios are as exact as their factors; outside them logarithms are added instead.
_SMALLEST_PRODUCT, _LARGEST_PRODUCT = 1e-250, 1e250


@dataclass(frozen=True)
class Layout:
    """Where the steps of episodes stand: all first steps, then all second ones, longer episodes first.

    The episodes that have a step t are then the first ``running[t]``, and their steps are neighbours.

    Args:
        order: (episodes,) the number that the caller gave the episode at each place.
        lengths: (episodes,) steps of the episode at each place, falling.
        running: (longest,) how many episodes have a step t.
        rows: (rows,) the caller's row of each step.
    """

    order: Integers
    lengths: Integers
    running: Integers
    rows: Integers

    @classmethod
    def of(cls, lengths: Integers) -> "Layout":
        """Lay out episodes whose rows follow each other, (episodes,) lengths of at least 1.

        Raises:
            DatasetError: there is no episode, or an episode has no step.
        """
        if len(lengths) == 0 or lengths.min() < 1:
            raise DatasetError("every log needs an episode, and every episode a step.")
        order = np.argsort(-lengths, kind="stable")
        starts = (np.cumsum(lengths) - lengths)[order]
        ordered = lengths[order]
        running = np.searchsorted(-ordered, -np.arange(ordered[0]), side="left")
        rows = np.concatenate([starts[:count] + t for t, count in enumerate(running)])
        return cls(order=order, lengths=ordered, running=running, rows=rows)

    @cached_property
    def blocks(self) -> list[slice]:
        """Return where the steps t are, for every t."""
        ends = np.cumsum(self.running)
        return [
            slice(int(end - count), int(end)) for count, end in zip(self.running.tolist(), ends.tolist(), strict=True)
        ]

    @cached_property
    def last(self) -> Integers:
        """Return the place of each episode's last step, (episodes,)."""
        starts = np.cumsum(self.running) - self.running
        places: Integers = starts[self.lengths - 1] + np.arange(len(self.lengths))
        return places

    @cached_property
    def _episodes(self) -> Integers:
        """Return the place of each step's episode, (rows,)."""
        return np.concatenate([np.arange(count) for count in self.running.tolist()])

    def sum_by_episode(self, steps: Floats) -> Floats:
        """Add up what the steps of an episode hold, (rows,) -> (episodes,)."""
        return np.bincount(self._episodes, weights=steps, minlength=len(self.lengths)).astype(np.float64, copy=False)

    def sum_by_step(self, steps: Floats) -> Floats:
        """Add up what all steps t hold, (rows,) -> (longest,)."""
        sums: Floats = np.add.reduceat(steps, np.cumsum(self.running) - self.running)
        return sums

    def discounts(self, discount: float) -> Floats:
        """Return discount ** t for every step, (rows,)."""
        powers: Floats = np.repeat(np.power(discount, np.arange(len(self.running))), self.running)
        return powers


@dataclass(frozen=True)
class StepWeights:
    """Products of ratios up to each step, w_t, as ``relative * exp(scales[t])``.

    Args:
        relative: (rows,) in the layout's order.
        previous: (rows,) w_{t-1} of the same episode, relative to the scale of t - 1; 1 at first steps.
        totals: (longest,) sum of w_t over all episodes relative to the scale of t; one that has ended
            stays in it with its last weight.
        scales: (longest,) logarithms.
        last_logs: (episodes,) logarithm of each episode's last weight; -inf where it is 0.
    """

    relative: Floats
    previous: Floats
    totals: Floats
    scales: Floats
    last_logs: Floats


@dataclass(frozen=True)
class WeightedSteps:
    """Input of the estimators: a policy's ratios beside the logged rewards. All (rows,) in the layout's order.

    Args:
        layout: of the episodes.
        ratios: pi_e(a_t|s_t) / propensity_t.
        rewards: where an episode was truncated and a value of what followed is known, discount times
            that value is part of its last reward.
        discount: in [0, 1], per step.
        q: q_hat(s_t, a_t), where there is a model.
        v: sum over actions of pi_e(a|s_t) q_hat(s_t, a), where there is a model.
    """

    layout: Layout
    ratios: Floats
    rewards: Floats
    discount: float
    q: Floats | None = None
    v: Floats | None = None

    @classmethod
    def from_arrays(
        cls,
        lengths: Integers,
        ratios: Floats,
        rewards: Floats,
        *,
        discount: float,
        q: Floats | None = None,
        v: Floats | None = None,
    ) -> "WeightedSteps":
        """Build from arrays of (rows,) in which the rows of an episode follow each other, by ``lengths``."""
        layout = Layout.of(np.asarray(lengths, dtype=np.int64))
        arrays = {"ratios": ratios, "rewards": rewards, "q": q, "v": v}
        taken = {}
        for name, values in arrays.items():
            if values is not None:
                if np.shape(values) != (len(layout.rows),):
                    raise DatasetError(
                        f"'{name}' has shape {np.shape(values)}; the lengths add up to {len(layout.rows)} rows."
                    )
                taken[name] = np.asarray(values, dtype=np.float64)[layout.rows]
                if not np.isfinite(taken[name]).all():
                    raise DatasetError(f"'{name}' holds a value that is not finite.")
        if (taken["ratios"] < 0).any():
            raise DatasetError("'ratios' holds a negative value.")
        return cls(layout=layout, discount=discount, **taken)

    def __len__(self) -> int:
        return len(self.layout.lengths)

    @cached_property
    def discounts(self) -> Floats:
        """Return discount ** t, (rows,)."""
        return self.layout.discounts(self.discount)

    @cached_property
    def discounted_rewards(self) -> Floats:
        """Return discount ** t * r_t, (rows,)."""
        return self.discounts * self.rewards

    @cached_property
    def returns(self) -> Floats:
        """Return each episode's discounted sum of rewards, (episodes,)."""
        return self.layout.sum_by_episode(self.discounted_rewards)

    @cached_property
    def model(self) -> tuple[Floats, Floats]:
        """Return q and v, (rows,) each.

        Raises:
            DatasetError: there is no model.
        """
        if self.q is None or self.v is None:
            raise DatasetError("this estimator needs q_hat, a model of the evaluated policy's action values.")
        return self.q, self.v

    @cached_property
    def weights(self) -> StepWeights:
        """Return the products of ratios up to each step."""
        return _multiply(self) or _add_logarithms(self)

    @cached_property
    def absolute_weights(self) -> tuple[Floats, Floats]:
        """Return w_t and w_{t-1}, (rows,) each; inf where one leaves the range of a float64."""
        weights = self.weights
        if not weights.scales.any():
            return weights.relative, weights.previous
        with np.errstate(over="ignore", under="ignore"):
            factors = np.exp(weights.scales)
            before = np.concatenate([[1.0], factors[:-1]])
            running = self.layout.running
            # 0 * inf: a weight of 0 beside one that is out of range.
            now = np.where(weights.relative > 0, weights.relative * np.repeat(factors, running), 0.0)
            return now, np.where(weights.previous > 0, weights.previous * np.repeat(before, running), 0.0)


def _running_blocks(layout: Layout) -> Iterator[tuple[slice, int, int]]:
    """Yield (block, episodes in it, episodes in the next) for every step."""
    counts = [*layout.running.tolist(), 0]
    for t, block in enumerate(layout.blocks):
        yield block, counts[t], counts[t + 1]


def _multiply(steps: WeightedSteps) -> StepWeights | None:
    """Return plain products, or None where one might leave the range in which they are exact."""
    layout, ratios = steps.layout, steps.ratios
    products, previous = np.empty_like(ratios), np.empty_like(ratios)
    totals = np.empty(len(layout.running))
    before, ended = np.ones(len(steps)), 0.0
    with np.errstate(over="ignore", under="ignore"):
        for t, (block, count, following) in enumerate(_running_blocks(layout)):
            previous[block] = before[:count]
            np.multiply(ratios[block], before[:count], out=products[block])
            before = products[block]
            totals[t] = before.sum() + ended
            ended += before[following:].sum()
    # Written so that a NaN, from 0 * inf, is out of range as well.
    if not products.max() < _LARGEST_PRODUCT:
        return None
    if not products.min() > _SMALLEST_PRODUCT:
        # A product that is 0 because a ratio is 0 is exact.
        positive = ratios[ratios > 0]
        if len(positive) and len(layout.running) * np.log(positive.min()) < np.log(_SMALLEST_PRODUCT):
            return None
    with np.errstate(divide="ignore"):
        last_logs = np.log(products[layout.last])
    return StepWeights(products, previous, totals, np.zeros(len(totals)), last_logs)


def _add_logarithms(steps: WeightedSteps) -> StepWeights:
    """Return products relative to the largest of their step: a thousand ratios leave the range of a float64."""
    layout = steps.layout
    with np.errstate(divide="ignore"):
        logs = np.log(steps.ratios)
    totals, scales = np.empty(len(layout.running)), np.empty(len(layout.running))
    relative, previous = np.empty_like(logs), np.empty_like(logs)
    before, relative_before, ended = np.zeros(len(steps)), np.ones(len(steps)), -np.inf
    for t, (block, count, following) in enumerate(_running_blocks(layout)):
        logs[block] += before[:count]
        before = logs[block]
        largest = max(float(before.max()), ended)
        scales[t] = largest if np.isfinite(largest) else 0.0
        with np.errstate(under="ignore"):
            np.exp(before - scales[t], out=relative[block])
            totals[t] = relative[block].sum() + np.exp(ended - scales[t])
            previous[block] = relative_before[:count]
            relative_before = relative[block]
            # Each one's own scale: relative to a later and larger maximum, what has ended might vanish for good.
            if count > following:
                ended = float(np.logaddexp(ended, _log_sum(before[following:])))
    return StepWeights(relative, previous, totals, scales, logs[layout.last])


def _log_sum(logs: Floats) -> float:
    largest = float(logs.max())
    if not np.isfinite(largest):
        return largest
    return largest + float(np.log(np.exp(logs - largest).sum()))
