"""Intervals that hold a policy's value with a stated probability, and what has to be true for it."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batch_rl.errors import DatasetError
from batch_rl.ope.blending import blend_returns
from batch_rl.ope.direct_method import dm_values
from batch_rl.ope.doubly_robust import sequential_dr_values
from batch_rl.ope.importance_sampling import ips_values, pdis_values
from batch_rl.ope.steps import Floats, WeightedSteps

IPS, WIS, PDIS, WEIGHTED_PDIS = "IPS", "WIS", "PDIS", "weighted PDIS"
DM, SEQUENTIAL_DR, WDR, MAGIC = "DM", "sequential DR", "WDR", "MAGIC"
MEANS = {IPS: ips_values, PDIS: pdis_values, DM: dm_values, SEQUENTIAL_DR: sequential_dr_values}

FEWEST_FOR_STUDENT_T = 30
FEWEST_FOR_BOOTSTRAP = 2
LARGEST_SHARE_FOR_STUDENT_T = 0.2
_CANDIDATES = 2000  # for a mean, of a betting interval
_VALUES_AT_ONCE = 256
_COUNT_VALUES = 1 << 21  # of a table of how often each episode is drawn


@dataclass(frozen=True)
class Interval:
    """Lower and upper end; ``level`` is the probability that it claims."""

    lower: float
    upper: float
    level: float
    method: str


@dataclass(frozen=True)
class KnownBounds:
    """What is known of a problem before any data, so that a concentration bound can hold.

    Args:
        ratio: the largest possible pi_e(a|s) / propensity of a step.
        reward: the smallest and the largest possible reward of a step.
        horizon: the largest possible number of steps in an episode.
    """

    ratio: float
    reward: tuple[float, float]
    horizon: int

    def __post_init__(self) -> None:
        finite = math.isfinite(self.ratio) and all(map(math.isfinite, self.reward))
        if not (finite and self.ratio >= 0 and self.horizon >= 1 and self.reward[0] <= self.reward[1]):
            raise DatasetError(f"{self} must be finite, with reward = (smallest, largest) and a horizon of at least 1.")

    def check(self, steps: WeightedSteps) -> None:
        """Compare with a log.

        Raises:
            DatasetError: the log holds something that the bounds exclude.
        """
        for name, extreme, bound in (
            ("ratio", steps.ratios.max(), self.ratio),
            ("largest reward", steps.rewards.max(), self.reward[1]),
            ("negative of the smallest reward", -steps.rewards.min(), -self.reward[0]),
            ("number of steps", steps.layout.lengths[0], self.horizon),
        ):
            if extreme > bound + 1e-9 * abs(bound):
                raise DatasetError(
                    f"the bounds exclude what the log holds: its {name} is {extreme:g}, above {bound:g}."
                )

    def range_of(self, estimator: str, discount: float) -> tuple[float, float]:
        """Return the smallest and the largest possible value of one episode, for IPS or PDIS.

        Raises:
            DatasetError: the estimator is no mean of bounded values, or a bound is out of range.
        """
        powers = np.power(discount, np.arange(self.horizon))
        # An episode may be shorter than the horizon, and a weight smaller than the largest: 0 is always possible.
        low, high = min(self.reward[0], 0.0), max(self.reward[1], 0.0)
        with np.errstate(over="ignore"):
            products = np.power(float(self.ratio), np.arange(1, self.horizon + 1))
            if estimator == IPS:
                # A policy that avoids actions of the log has ratios below 1, and short episodes weigh the most.
                factor = float(max(products[0], products[-1]) * powers.sum())
            elif estimator == PDIS:
                factor = float((products * powers).sum())
            else:
                raise DatasetError(
                    f"no concentration bound holds for {estimator}: it is not a mean of independent values that are "
                    "bounded beforehand. Use IPS or PDIS, or the bootstrap."
                )
            if not math.isfinite(factor * max(high, -low)):
                raise DatasetError(
                    f"a ratio of up to {self.ratio:g} over {self.horizon} steps has no finite bound as a product."
                )
        return factor * low, factor * high


def hoeffding_interval(values: Floats, *, low: float, high: float, level: float) -> Interval:
    """Return an interval for the mean of independent values in [low, high].

    Holds for every number of values and every distribution; does not get narrower when they vary little.

    Raises:
        DatasetError: a value is outside of the bounds, or a bound is not finite.
    Source: Hoeffding, "Probability Inequalities for Sums of Bounded Random Variables", JASA 1963.
    """
    _check_bounded(values, low, high, level)
    radius = (high - low) * math.sqrt(math.log(2 / (1 - level)) / (2 * len(values)))
    return _bounded(values, radius, low, high, level, "Hoeffding")


def empirical_bernstein_interval(values: Floats, *, low: float, high: float, level: float) -> Interval:
    """Return an interval for the mean of independent values in [low, high] that uses their variance.

    Holds for every distribution, as Hoeffding's; narrower when the values vary little beside the bounds.

    Raises:
        DatasetError: fewer than two values, a value outside of the bounds, or a bound that is not finite.
    Source: Maurer, Pontil, "Empirical Bernstein Bounds and Sample Variance Penalization", COLT 2009, theorem
        4, once to each side.
    """
    _check_bounded(values, low, high, level)
    n = len(values)
    if n < 2:
        raise DatasetError("an empirical Bernstein bound needs at least two values.")
    # Each side may fail with probability (1 - level) / 2, and the theorem's own logarithm holds another 2.
    logarithm = math.log(4 / (1 - level))
    radius = math.sqrt(2 * float(values.var(ddof=1)) * logarithm / n) + 7 * (high - low) * logarithm / (3 * (n - 1))
    return _bounded(values, radius, low, high, level, "empirical Bernstein")


def betting_interval(values: Floats, *, low: float, high: float, level: float) -> Interval:
    """Return an interval for the mean of independent values in [low, high], in the order in which they were logged.

    It is a confidence sequence: with the stated probability it holds the mean after every number of values, so that a
    log may be looked at as often as it grows. A candidate is left out as soon as a gambler who bets against it, by what
    was seen before, has become 1 / (1 - level) times as rich.

    Raises:
        DatasetError: a value is outside of the bounds, or a bound is not finite.
    Source: Waudby-Smith, Ramdas, "Estimating Means of Bounded Random Variables by Betting", JRSS B 2024, the hedged
        capital process with predictable plug-in bets.
    """
    _check_bounded(values, low, high, level)
    if low == high:
        return Interval(low, high, level, "betting")
    shares = np.clip((values - low) / (high - low), 0.0, 1.0)
    bets = _bets(shares, level)
    candidates = np.linspace(0.0, 1.0, _CANDIDATES + 1)
    with np.errstate(divide="ignore"):
        most = 0.5 / candidates, 0.5 / (1 - candidates)  # no bet may cost more than half of what there is
    wealth, richest = np.zeros((2, len(candidates))), np.full(len(candidates), -np.inf)
    for start in range(0, len(shares), _VALUES_AT_ONCE):
        chunk = slice(start, start + _VALUES_AT_ONCE)
        gains = shares[chunk, None] - candidates
        for side, sign in enumerate((1.0, -1.0)):
            stakes = np.minimum(bets[chunk, None], most[side])
            logs = wealth[side] + np.cumsum(np.log1p(sign * stakes * gains), axis=0)
            wealth[side] = logs[-1]
            richest = np.maximum(richest, logs.max(axis=0) - math.log(2))
    left = np.flatnonzero(richest < math.log(1 / (1 - level)))
    # Between two candidates none was tried: the ends go one further.
    ends = (max(left[0] - 1, 0), min(left[-1] + 1, _CANDIDATES)) if len(left) else (0, _CANDIDATES)
    lower, upper = (low + (high - low) * float(candidates[end]) for end in ends)
    return Interval(lower, upper, level, "betting")


def _bets(shares: Floats, level: float) -> Floats:
    """Return how much to bet on each value in [0, 1], by the mean and the variance of those before it."""
    counts = np.arange(1, len(shares) + 1)
    means = (0.5 + np.cumsum(shares)) / (counts + 1)
    variances = (0.25 + np.cumsum(np.square(shares - means))) / (counts + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets: Floats = np.sqrt(2 * math.log(2 / (1 - level)) / (before * counts * np.log1p(counts)))
    return bets


def student_t_interval(values: Floats, *, level: float) -> Interval:
    """Return an interval for the mean of independent values that would hold if their mean were normal.

    Weighted returns are skewed, so two conditions are checked: at least 30 values, and none of them with
    more than a fifth of the sum of squared deviations, which would be the variance of a single episode.

    Raises:
        DatasetError: a condition does not hold.
    Source: Student, "The Probable Error of a Mean", Biometrika 1908.
    """
    _check_level(level)
    n = len(values)
    if n < FEWEST_FOR_STUDENT_T:
        raise DatasetError(f"Student's t needs at least {FEWEST_FOR_STUDENT_T} episodes; there are {n}.")
    if not np.isfinite(values).all():
        raise DatasetError("Student's t needs finite values.")
    mean = float(values.mean())
    squares = np.square(values - mean)
    total = float(squares.sum())
    if squares.max() > LARGEST_SHARE_FOR_STUDENT_T * total:
        raise DatasetError(
            f"one episode of {n} makes {squares.max() / total:.0%} of the variance; Student's t would not hold. "
            "Use the bootstrap or a concentration bound, or a policy nearer to the one that logged."
        )
    radius = student_t_quantile((1 + level) / 2, n - 1) * math.sqrt(total / (n - 1) / n)
    return Interval(mean - radius, mean + radius, level, "Student t")


def percentile_interval(replicates: Floats, *, level: float, effective_size: float = math.inf) -> Interval:
    """Return the middle ``level`` of bootstrap replicates, or more of them where few episodes are in effect.

    A bootstrap of n values varies too little, by the factor that Student's t makes up for, and n are here the
    episodes in effect: it takes the tails that a normal distribution has beyond t * sqrt(n / (n - 1)). It stays
    off to one side where what was logged is: the log is all that it can draw.

    Args:
        effective_size: of the weights behind the estimate, in episodes.
    Raises:
        DatasetError: so many replicates are undefined (all weights 0) that an end would be, or fewer than two
            episodes are in effect.
    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 2015, section 5
        (expanded percentiles); Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    _check_level(level)
    tail = (1 - level) / 2
    if effective_size < FEWEST_FOR_BOOTSTRAP:
        raise DatasetError(
            f"the estimate rests on {effective_size:.1f} episodes in effect, and an interval on at least "
            f"{FEWEST_FOR_BOOTSTRAP}."
        )
    if math.isfinite(effective_size):
        t = student_t_quantile(1 - tail, effective_size - 1)
        tail = math.erfc(t * math.sqrt(effective_size / (effective_size - 1)) / math.sqrt(2)) / 2
    finite = replicates[np.isfinite(replicates)]
    if len(replicates) - len(finite) > tail * len(replicates):
        raise DatasetError(
            f"{len(replicates) - len(finite)} of {len(replicates)} bootstrap samples have no estimate: "
            "too few episodes have a weight."
        )
    lower, upper = np.quantile(finite, [tail, 1 - tail])
    return Interval(float(lower), float(upper), level, "bootstrap")


def bootstrap(
    steps: WeightedSteps,
    estimators: Collection[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Floats]:
    """Estimate again on logs whose episodes are drawn from this one with replacement.

    The same seed draws the same episodes for every policy and estimator, so differences can be compared.
    All estimators of a resample come from one pass over the steps, for many resamples at once.

    Args:
        estimators: names such as ``"WIS"``.
        resamples: how many logs are drawn.
    Returns:
        (resamples,) by name; NaN where all weights of a resample are 0. For "MAGIC", all g^(j) to blend,
        (longest + 1, resamples).
    """
    n = len(steps)
    per_episode = {name: MEANS[name](steps) for name in estimators if name in MEANS}
    by_step = {WEIGHTED_PDIS, WDR, MAGIC}.intersection(estimators)
    columns = list(per_episode.values())
    if WIS in estimators:
        logs = steps.weights.last_logs
        largest = logs.max()
        weights = np.exp(logs - largest) if np.isfinite(largest) else np.zeros(n)
        columns += [weights, weights * steps.returns]
    table = np.stack(columns) if columns else np.empty((0, n))
    answers: dict[str, Floats] = {name: np.empty(resamples) for name in estimators}
    if MAGIC in by_step:
        answers[MAGIC] = np.empty((len(steps.layout.running) + 1, resamples))
    done = 0
    for drawn in _draw(n, resamples, seed):
        counts = drawn[steps.layout.order]
        chunk = slice(done, done + counts.shape[1])
        done = chunk.stop
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            sums = table @ counts
            for number, name in enumerate(per_episode):
                answers[name][chunk] = sums[number] / n
            if WIS in estimators:
                answers[WIS][chunk] = sums[-1] / sums[-2]
            if by_step:
                for name, values in _self_normalised(steps, counts, by_step).items():
                    answers[name][..., chunk] = values
    return answers


def _draw(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each of n episodes, by the caller's numbers, is drawn by some resamples, (n, some) each.

    What is drawn depends on the seed alone, so a policy that is judged again and again needs it drawn only once.
    """
    if n * resamples <= _COUNT_VALUES:
        yield _draw_at_once(n, resamples, seed)
        return
    generator, size = np.random.default_rng(seed), max(1, _COUNT_VALUES // n)
    for start in range(0, resamples, size):
        yield _count_draws(generator, n, min(size, resamples - start))


@lru_cache(maxsize=2)
def _draw_at_once(n: int, resamples: int, seed: int) -> Floats:
    counts = _count_draws(np.random.default_rng(seed), n, resamples)
    counts.flags.writeable = False
    return counts


def _count_draws(generator: np.random.Generator, n: int, resamples: int) -> Floats:
    draws = [np.bincount(generator.integers(0, n, size=n), minlength=n) for _ in range(resamples)]
    return np.stack(draws, axis=1).astype(np.float64)


def _self_normalised(steps: WeightedSteps, counts: Floats, estimators: Collection[str]) -> dict[str, Floats]:
    """Return the estimators that divide by sums of weights per step, on many resamples, (resamples,) each.

    Args:
        counts: (episodes, resamples), how often each episode is drawn, in the layout's order.
    """
    layout, weights = steps.layout, steps.weights
    rows = [weights.relative, weights.relative * steps.discounted_rewards]
    if WDR in estimators or MAGIC in estimators:
        q, v = steps.model
        rows += [weights.relative * (steps.discounts * (steps.rewards - q)), weights.previous * (steps.discounts * v)]
    table = np.stack(rows)
    sums = np.empty((len(rows), len(layout.running), counts.shape[1]))
    for t, (block, count) in enumerate(zip(layout.blocks, layout.running.tolist(), strict=True)):
        sums[:, t] = table[:, block] @ counts[:count]
    totals = sums[0]
    _add_ended(steps, counts, totals)
    answers = {}
    if WEIGHTED_PDIS in estimators:
        answers[WEIGHTED_PDIS] = (sums[1] / totals).sum(axis=0)
    if len(rows) > 2:
        before = np.concatenate([np.full((1, counts.shape[1]), float(len(steps))), totals[:-1]])
        corrections, values = sums[2] / totals, sums[3] / before
        if WDR in estimators:
            answers[WDR] = (corrections + values).sum(axis=0)
        if MAGIC in estimators:
            answers[MAGIC] = blend_returns(corrections, values)
    return answers


def _add_ended(steps: WeightedSteps, counts: Floats, totals: Floats) -> None:
    """Add the last weights of the episodes that have ended, in place, (longest, resamples)."""
    layout, weights = steps.layout, steps.weights
    running = [*layout.running.tolist(), 0]
    plain = not weights.scales.any()
    ended = np.zeros(counts.shape[1]) if plain else np.full(counts.shape[1], -np.inf)
    with np.errstate(divide="ignore"):
        for t in range(len(totals)):
            totals[t] += ended if plain else np.exp(ended - weights.scales[t])
            if running[t] == running[t + 1]:
                continue
            ending = slice(running[t + 1], running[t])
            block = layout.blocks[t]
            last = weights.relative[block.start + ending.start : block.stop] @ counts[ending]
            ended = ended + last if plain else np.logaddexp(ended, np.log(last) + weights.scales[t])


@lru_cache(maxsize=64)  # the estimators of one policy ask for the same one
def student_t_quantile(probability: float, degrees: float) -> float:
    """Return the quantile of Student's t distribution; ``probability`` is at least 1/2 and below 1.

    By Newton's method from 0 on: the density falls, so no step goes beyond the quantile.
    """
    constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi * degrees) / 2
    t = 0.0
    while True:
        density = math.exp(constant - (degrees + 1) / 2 * math.log1p(t * t / degrees))
        step = (probability - _student_t_cdf(t, degrees)) / density
        t += step
        if step <= 1e-9 * t:  # the next one would be about its square
            return t


def _student_t_cdf(t: float, degrees: float) -> float:
    """Return P(T <= t) for t >= 0.

    Source: Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.1 and 26.5.8.
    """
    x = degrees / (degrees + t * t)
    a, b = degrees / 2, 0.5
    if x > (a + 1) / (a + b + 2):
        return 0.5 + _incomplete_beta(1 - x, b, a) / 2
    return 1 - _incomplete_beta(x, a, b) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction, for x < (a + 1) / (a + b + 2).

    Source of the evaluation: Thompson, Barnett, "Coulomb and Bessel Functions of Complex Arguments and Order",
        Journal of Computational Physics 1986 (the modified Lentz algorithm).
    """
    if x <= 0:
        return 0.0
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    numerators, denominators = 1.0, 1 / (1 - (a + b) * x / (a + 1))  # ratios of one convergent's to the last one's
    fraction = denominators
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominators, numerators = 1 / (1 + term * denominators), 1 + term / numerators
            fraction *= denominators * numerators
        if abs(denominators * numerators - 1) < 1e-15:
            break
    return math.exp(front) / a * fraction


def _bounded(values: Floats, radius: float, low: float, high: float, level: float, method: str) -> Interval:
    mean = float(values.mean())
    return Interval(max(low, mean - radius), min(high, mean + radius), level, method)


def _check_bounded(values: Floats, low: float, high: float, level: float) -> None:
    _check_level(level)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise DatasetError(f"a concentration bound needs finite bounds of a value; they are {low:g} and {high:g}.")
    slack = 1e-9 * max(abs(low), abs(high))
    if len(values) == 0 or not ((values >= low - slack) & (values <= high + slack)).all():
        raise DatasetError(f"a concentration bound needs values within [{low:g}, {high:g}]; some are not.")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DatasetError(f"level is {level}; it must be between 0 and 1, such as 0.95.")
