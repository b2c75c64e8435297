"""Every estimate of a policy from one log, with intervals and with what they rest on."""

import dataclasses
import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from batch_rl.errors import DatasetError
from batch_rl.ope import intervals
from batch_rl.ope.blending import blend_again, magic
from batch_rl.ope.bounds import cut, possible_returns
from batch_rl.ope.direct_method import dm
from batch_rl.ope.doubly_robust import sequential_dr, wdr
from batch_rl.ope.importance_sampling import (
    UndefinedEstimateWarning,
    WeightDiagnostics,
    describe_weights,
    ips,
    pdis,
    weighted_pdis,
    wis,
)
from batch_rl.ope.intervals import Interval, KnownBounds
from batch_rl.ope.refitting import Refits, refitted_interval
from batch_rl.ope.rows import LoggedRows, check_probabilities, read_rows, weigh
from batch_rl.ope.steps import Floats, WeightedSteps
from batch_rl.ope.support import Support, measure_support

if TYPE_CHECKING:
    import pandas as pd

WEIGHTED = {intervals.IPS: ips, intervals.WIS: wis, intervals.PDIS: pdis, intervals.WEIGHTED_PDIS: weighted_pdis}
MODELLED = {intervals.DM: dm, intervals.SEQUENTIAL_DR: sequential_dr, intervals.WDR: wdr}
ESTIMATORS = (*WEIGHTED, *MODELLED, intervals.MAGIC)
FQE = "FQE"  # with networks that are refitted to resamples; the others may share its values
METHODS = ("bootstrap", "student_t", "hoeffding", "empirical_bernstein", "betting", "none")
CONCENTRATED = {
    "hoeffding": intervals.hoeffding_interval,
    "empirical_bernstein": intervals.empirical_bernstein_interval,
    "betting": intervals.betting_interval,
}
FEW_EPISODES = 10
LARGE_SHARE = 0.5
PLAUSIBLE_MEAN_WEIGHTS = (0.5, 2.0)
MAGIC_INTERVAL_LEVEL = 0.5


class FewEpisodesWarning(UserWarning):
    """An estimate rests on a handful of the logged episodes."""


class TruncationWarning(UserWarning):
    """What came after the end of truncated episodes counts as 0."""


@dataclass(frozen=True)
class EstimatedValue:
    """One estimator's answer, in discounted reward per episode.

    Args:
        value: within what rewards and discount allow.
        interval: None where the method gives none for this estimator or this log.
        note: why there is no interval.
        replicates: the bootstrap's values; empty without it.
        uncut: what the estimator says, where that is more or less than any policy can earn.
    """

    name: str
    value: float
    interval: Interval | None
    note: str = ""
    replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    uncut: float | None = None


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a log says of a policy.

    Args:
        policy: which policy was scored.
        deterministic: it gives one action all probability at every logged step.
        values: by estimator.
        weights: of whole episodes; what IPS, WIS and their kin rest on.
        episodes, rows: how many were logged.
        truncated: episodes that were cut off.
        discount: per step.
        logged_return: mean discounted return of the policy that logged; as in the estimates by weights, nothing
            follows the last row of a truncated episode.
        bounds: what no policy's value can leave, if rewards are never outside of the logged ones.
        support: None where the log has the logged actions' propensities alone.
        clipped_share: of the ratios, where clipping was asked for.
        seed: of the bootstrap.
        notes: what was assumed, and what to beware of.
    """

    policy: str
    deterministic: bool
    values: Mapping[str, EstimatedValue]
    weights: WeightDiagnostics
    episodes: int
    rows: int
    truncated: int
    discount: float
    logged_return: float
    clipped_share: float
    seed: int
    notes: tuple[str, ...]
    bounds: tuple[float, float] = (-math.inf, math.inf)
    support: Support | None = None

    def __getitem__(self, estimator: str) -> EstimatedValue:
        if estimator not in self.values:
            raise DatasetError(f"there is no estimate '{estimator}'; there are: {', '.join(self.values)}.")
        return self.values[estimator]

    def table(self) -> "pd.DataFrame":
        """Return a row for each estimator; the weights' columns are empty where it uses none."""
        import pandas as pd

        rows = []
        for estimate in self.values.values():
            weighted = estimate.name not in (intervals.DM, FQE)
            rows.append(
                {
                    "estimator": estimate.name,
                    "value": estimate.value,
                    "lower": estimate.interval.lower if estimate.interval else math.nan,
                    "upper": estimate.interval.upper if estimate.interval else math.nan,
                    "level": estimate.interval.level if estimate.interval else math.nan,
                    "interval": estimate.interval.method if estimate.interval else estimate.note,
                    "effective_sample_size": self.weights.effective_sample_size if weighted else math.nan,
                    "mean_weight": self.weights.mean_weight if weighted else math.nan,
                    "largest_share": self.weights.largest_share if weighted else math.nan,
                    "policy": self.policy,
                }
            )
        return pd.DataFrame(rows).set_index("estimator")


def evaluate(
    rows: "pd.DataFrame | Mapping[str, ArrayLike] | LoggedRows",
    target_probabilities: ArrayLike,
    q_hat: ArrayLike | None = None,
    *,
    discount: float,
    policy: str = "",
    estimators: Collection[str] | None = None,
    interval: str = "bootstrap",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    bounds: KnownBounds | None = None,
    values_after_truncation: ArrayLike | None = None,
    largest_ratio: float | None = None,
    behavior_probabilities: ArrayLike | None = None,
    refits: Refits | None = None,
) -> PolicyEvaluation:
    """Estimate a policy's value from a log, by every estimator that the arguments allow, or by some.

    IPS, WIS, PDIS, weighted PDIS and the logged return count what was logged, and nothing after the last row of a
    truncated episode; the estimators with a model count what it says of that. Every value and interval is cut at what
    rewards and discount allow.

    Args:
        rows: a table for ``read_rows``, or what it returned.
        target_probabilities: the policy's, in the order of the table, (rows, n_actions).
        q_hat: its action values there, from a model that was not fitted to this log, (rows, n_actions).
            Without it there are IPS, WIS, PDIS and weighted PDIS; with it DM, sequential DR, WDR and MAGIC too.
        discount: in [0, 1], per step.
        policy: what to call the policy, such as "softmax(Q / 0.2)"; else it is only said whether it is
            deterministic.
        estimators: names in ``ESTIMATORS``, the only ones to compute; None: all that the arguments allow.
        interval: ``bootstrap`` over episodes, ``student_t``, ``hoeffding``, ``empirical_bernstein``,
            ``betting`` or ``none``. An estimator for which the method does not hold gets none and says why.
        level: probability with which an interval should hold the value.
        resamples, seed: of the bootstrap. MAGIC needs it, whatever ``interval`` is.
        bounds: what ``hoeffding``, ``empirical_bernstein`` and ``betting`` need.
        values_after_truncation: (rows,), read on the last rows of truncated episodes; else what came after
            them counts as 0, with TruncationWarning.
        largest_ratio: clip ratios at it; makes every estimate biased.
        behavior_probabilities: of the policy that logged, (rows, n_actions), where ``rows`` has propensities alone:
            they tell how much of the policy the log has never tried, and where that is much, no interval is stated.
        refits: of this policy on these rows, for the estimate FQE; give their ``q_hat`` and ``values_after`` too.
    Raises:
        DatasetError: naming the column and the row of the first fault.
    """
    log = rows if isinstance(rows, LoggedRows) else read_rows(rows)
    steps, clipped = weigh(
        log,
        target_probabilities,
        discount=discount,
        q_hat=q_hat,
        values_after_truncation=values_after_truncation,
        largest_ratio=largest_ratio,
    )
    _check_method(interval, level, resamples, bounds)
    if bounds is not None:
        bounds.check(steps)
    wanted = _wanted(estimators, q_hat is not None, refits is not None)
    logged = steps if values_after_truncation is None else dataclasses.replace(steps, rewards=log.rewards)
    values = {name: estimator(logged) for name, estimator in WEIGHTED.items() if name in wanted}
    values |= {name: estimator(steps) for name, estimator in MODELLED.items() if name in wanted}
    replicates: dict[str, Floats] = {}
    names = [name for name, value in values.items() if math.isfinite(value)] if interval == "bootstrap" else []
    if intervals.MAGIC in wanted:
        values[intervals.MAGIC] = math.nan
    blending = intervals.MAGIC in wanted and math.isfinite(values.get(intervals.WDR, wdr(steps)))
    if blending:  # which rests on an interval of WDR
        names = [*dict.fromkeys([*names, intervals.WDR]), *([intervals.MAGIC] if interval == "bootstrap" else [])]
    by_steps = {id(logged): logged, id(steps): steps}
    for number, some in by_steps.items():  # one pass where they are the same
        own = [name for name in names if number == (id(logged) if name in WEIGHTED else id(steps))]
        if own:
            replicates |= intervals.bootstrap(some, own, resamples=resamples, seed=seed)
    if blending:
        drawn = replicates[intervals.WDR]
        around = intervals.percentile_interval(drawn[np.isfinite(drawn)], level=MAGIC_INTERVAL_LEVEL)
        wdr_interval = (around.lower, around.upper)
        blend = magic(steps, wdr_interval=wdr_interval)
        values[intervals.MAGIC] = blend.value
        if intervals.MAGIC in replicates:
            replicates[intervals.MAGIC] = blend_again(blend, replicates[intervals.MAGIC], wdr_interval=wdr_interval)
    weights = describe_weights(steps) if _has_weight(steps) else WeightDiagnostics(0.0, 0.0, math.nan)
    probabilities = np.asarray(target_probabilities, dtype=np.float64)
    support = _support(log, probabilities, behavior_probabilities)
    limits = possible_returns(log.rewards, steps.layout.lengths, discount, truncated=bool(log.cut.any()))
    estimates = {}
    if refits is not None and FQE in wanted:
        ends = None if interval == "none" else refitted_interval(refits.replicates, level=level, bounds=limits)
        value = float(refits.replicates.mean())
        estimates[FQE] = EstimatedValue(FQE, value, ends, "" if ends else "not asked for", refits.replicates)
    for name, value in values.items():
        ends, note = _interval(
            logged if name in WEIGHTED else steps, name, value, interval, level, replicates, weights, bounds
        )
        estimates[name] = EstimatedValue(name, value, ends, note, replicates.get(name, np.empty(0)))
    estimates = {name: _within(estimate, limits, support) for name, estimate in estimates.items()}
    deterministic = bool((probabilities.max(axis=1) == 1).all())
    return PolicyEvaluation(
        policy=policy or ("a deterministic policy" if deterministic else "a stochastic policy"),
        deterministic=deterministic,
        values=estimates,
        weights=weights,
        episodes=len(steps),
        rows=len(log),
        truncated=int(log.cut.sum()),
        discount=discount,
        # The logged rewards alone: the value after a truncated episode is the evaluated policy's.
        logged_return=float(steps.layout.sum_by_episode(steps.discounts * log.rewards).mean()),
        clipped_share=clipped,
        seed=seed,
        notes=(
            *_notes(log, weights, deterministic, values_after_truncation is not None, largest_ratio, clipped),
            *_limit_notes(estimates, limits, support),
        ),
        bounds=limits,
        support=support,
    )


def _wanted(estimators: Collection[str] | None, with_model: bool, with_refits: bool) -> tuple[str, ...]:
    refitted = (FQE,) if with_refits else ()
    if estimators is None:
        return (*refitted, *ESTIMATORS) if with_model else (*refitted, *WEIGHTED)
    for name in estimators:
        if name == FQE and not with_refits:
            raise DatasetError(f"'{FQE}' needs refits, as refit_values makes them.")
        if name not in (FQE, *ESTIMATORS):
            raise DatasetError(f"there is no estimator '{name}'; there are: {', '.join((FQE, *ESTIMATORS))}.")
        if name in (*MODELLED, intervals.MAGIC) and not with_model:
            raise DatasetError(f"'{name}' needs q_hat, a model of the evaluated policy's action values.")
    return tuple(name for name in (FQE, *ESTIMATORS) if name in estimators)


def _support(log: LoggedRows, target: Floats, given: ArrayLike | None) -> Support | None:
    behavior = log.probabilities
    if given is not None:
        behavior = check_probabilities("behavior_probabilities", given, len(log))[log.layout.rows]
    if behavior is None:
        return None
    if behavior.shape != target.shape:
        raise DatasetError(f"behavior_probabilities has shape {behavior.shape}; target_probabilities {target.shape}.")
    return measure_support(log.layout, behavior, target[log.layout.rows])


def _within(estimate: EstimatedValue, limits: tuple[float, float], support: Support | None) -> EstimatedValue:
    """Cut an estimate at the possible values, and remove its interval where the log lacks the policy's actions."""
    value, interval, note = cut(estimate.value, limits), estimate.interval, estimate.note
    uncut = estimate.value if value != estimate.value and not math.isnan(value) else None
    if interval is not None and support is not None and not support.enough:
        interval, note = None, "the log has not tried what the policy does: no interval would hold"
    elif interval is not None and (interval.lower > limits[1] or interval.upper < limits[0]):
        interval, note = None, "all of it is beyond what any policy can earn"
    elif interval is not None:
        ends = cut(interval.lower, limits), cut(interval.upper, limits)
        interval = dataclasses.replace(interval, lower=ends[0], upper=ends[1])
    return dataclasses.replace(estimate, value=value, interval=interval, note=note, uncut=uncut)


def _limit_notes(
    estimates: Mapping[str, EstimatedValue], limits: tuple[float, float], support: Support | None
) -> list[str]:
    notes = []
    if support is not None and not support.enough:
        notes.append(f"the log cannot tell what this policy is worth: {support}. No estimate below can be trusted")
    elif support is not None and support.rare > 0:
        notes.append(f"{support}")
    uncut = [estimate for estimate in estimates.values() if estimate.uncut is not None]
    beyond = [f"{estimate.name} says {estimate.uncut:.4g}" for estimate in uncut]
    if beyond:
        notes.append(
            f"with the logged rewards and this discount no policy earns less than {limits[0]:.4g} or more than "
            f"{limits[1]:.4g}: values are cut there ({', '.join(beyond)})"
        )
    return notes


def _has_weight(steps: WeightedSteps) -> bool:
    return bool((steps.weights.last_logs > -np.inf).any())


def _interval(
    steps: WeightedSteps,
    name: str,
    value: float,
    method: str,
    level: float,
    replicates: Mapping[str, Floats],
    weights: WeightDiagnostics,
    bounds: KnownBounds | None,
) -> tuple[Interval | None, str]:
    if method == "none":
        return None, "not asked for"
    if not math.isfinite(value):
        return None, "the estimate is undefined"
    if name == intervals.DM:
        return None, "only FQE covers a model's error"
    try:
        if method == "bootstrap":
            size = weights.effective_sample_size
            return intervals.percentile_interval(replicates[name], level=level, effective_size=size), ""
        if method == "student_t":
            if name not in intervals.MEANS:
                raise DatasetError(f"Student's t does not hold for {name}, which is no mean over episodes.")
            return intervals.student_t_interval(intervals.MEANS[name](steps), level=level), ""
        if bounds is None:
            raise DatasetError("a concentration bound needs bounds that are known beforehand.")
        low, high = bounds.range_of(name, steps.discount)
        values = np.empty(len(steps))
        values[steps.layout.order] = intervals.MEANS[name](steps)  # as they were logged, which betting depends on
        return CONCENTRATED[method](values, low=low, high=high, level=level), ""
    except DatasetError as refusal:
        return None, str(refusal)


def _check_method(interval: str, level: float, resamples: int, bounds: KnownBounds | None) -> None:
    if interval not in METHODS:
        raise DatasetError(f"interval is '{interval}'; it is one of {', '.join(METHODS)}.")
    if not 0 < level < 1:
        raise DatasetError(f"level is {level}; it must be between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise DatasetError(f"resamples is {resamples}; it must be at least 1.")
    if interval in CONCENTRATED and bounds is None:
        raise DatasetError(
            f"interval '{interval}' needs bounds=KnownBounds(ratio=..., reward=(smallest, largest), horizon=...): "
            "the largest value that was seen is not the largest that is possible."
        )


def _notes(
    log: LoggedRows,
    weights: WeightDiagnostics,
    deterministic: bool,
    bootstrapped: bool,
    largest_ratio: float | None,
    clipped: float,
) -> tuple[str, ...]:
    """Return what a reader must know; warn of what may make the numbers worthless."""
    notes = []
    if log.assumed_terminated:
        notes.append("the table does not say how episodes ended: all were taken to have terminated")
    truncated = int(log.cut.sum())
    if truncated and not bootstrapped:
        notes.append(
            f"{truncated} of {len(log.cut)} episodes are truncated: what would have followed counts as 0 in the "
            "logged return and in the estimates by weights"
        )
        warnings.warn(notes[-1], TruncationWarning, stacklevel=3)
    elif truncated:
        notes.append(
            f"{truncated} of {len(log.cut)} episodes are truncated: the logged return and the estimates by weights "
            "alone count nothing after their last rows; the estimates with a model count what it says of that"
        )
    if largest_ratio is not None:
        notes.append(f"{clipped:.2%} of the ratios were clipped at {largest_ratio:g}: every estimate is biased")
    if weights.effective_sample_size == 0:  # the estimators have warned already
        notes.append(
            "the policy gives every logged episode probability 0: importance sampling says nothing of it"
            + "; it is deterministic: score a softmax of it, or log with a policy nearer to it" * deterministic
        )
    elif weights.effective_sample_size < FEW_EPISODES or weights.largest_share > LARGE_SHARE:
        notes.append(
            f"the estimates by weights rest on a handful of episodes: {weights.effective_sample_size:.1f} of "
            f"{len(log.cut)} in effect, the largest with {weights.largest_share:.0%} of all weight"
            + (
                "; the policy is deterministic: score a softmax of it, or log with a policy nearer to it"
                * deterministic
            )
        )
        warnings.warn(notes[-1], FewEpisodesWarning, stacklevel=3)
    least, most = PLAUSIBLE_MEAN_WEIGHTS
    if 0 < weights.mean_weight < least or weights.mean_weight > most:
        notes.append(
            f"the mean weight is {weights.mean_weight:.2g} where 1 is expected: the log lacks episodes as the policy "
            "would have them, and estimates by weights are of those that it has"
        )
    return tuple(notes)


__all__ = [
    "ESTIMATORS",
    "EstimatedValue",
    "FewEpisodesWarning",
    "PolicyEvaluation",
    "TruncationWarning",
    "UndefinedEstimateWarning",
    "evaluate",
]
