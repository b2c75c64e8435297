"""Which of several policies is best, by what a log says, and how far that choice can be trusted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from batch_rl.errors import DatasetError
from batch_rl.ope.evaluation import FQE, PolicyEvaluation
from batch_rl.ope.refitting import refitted_interval
from batch_rl.ope.steps import Floats

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """Policies by falling estimate.

    Args:
        estimator: by which they are ranked.
        ranking: names, the best first; policies whose estimate is undefined come last.
        estimates: by name.
        probability_best: share of bootstrap samples, the same episodes for all policies, in which a policy
            has the largest estimate; empty without a bootstrap.
        undecided: policies that the log cannot tell from the first: an interval of the difference, by the same
            resamples, holds 0. None without a bootstrap.
        truths: by name, where they were given, as the next three.
        rank_correlation: Spearman's, of estimates and truths; NaN where either has no order.
        regret: by k, the best truth of all less the best truth among the first k.
        mean_squared_error: of the estimates.
    """

    estimator: str
    ranking: tuple[str, ...]
    estimates: Mapping[str, float]
    probability_best: Mapping[str, float]
    undecided: tuple[str, ...] | None
    truths: Mapping[str, float]
    rank_correlation: float
    regret: Mapping[int, float]
    mean_squared_error: float

    def table(self) -> "pd.DataFrame":
        """Return a row for each policy, the best first."""
        import pandas as pd

        rows = [
            {
                "policy": name,
                "estimate": self.estimates[name],
                "probability_best": self.probability_best.get(name, math.nan),
                "truth": self.truths.get(name, math.nan),
            }
            for name in self.ranking
        ]
        return pd.DataFrame(rows).set_index("policy")


def compare(
    evaluations: Mapping[str, PolicyEvaluation], estimator: str, *, truths: Mapping[str, float] | None = None
) -> Comparison:
    """Rank policies that were evaluated on one log.

    Args:
        evaluations: by name, at least one, all with the same log, discount, seed and resamples.
        estimator: such as "WDR".
        truths: their real values, by name, where they are known.
    Raises:
        DatasetError: the evaluations cannot be compared, or the truths are not those of the policies.
    Source of the measures: Kiyohara et al., "Towards Assessing and Benchmarking Risk-Return Tradeoff of
        Off-Policy Evaluation", ICLR 2024.
    """
    if not evaluations:
        raise DatasetError("there is no policy to compare.")
    logs = {
        (evaluation.episodes, evaluation.rows, evaluation.discount, evaluation.logged_return)
        for evaluation in evaluations.values()
    }
    if len(logs) > 1:
        raise DatasetError("the policies were not evaluated on the same log with the same discount.")
    names = list(evaluations)
    values = np.array([evaluations[name][estimator].value for name in names])
    order = np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")
    regret: dict[int, float] = {}
    correlation, error = math.nan, math.nan
    if truths is not None:
        if set(truths) != set(names) or not all(map(math.isfinite, truths.values())):
            raise DatasetError(f"truths must hold a finite value for each of: {', '.join(names)}.")
        true = np.array([truths[name] for name in names])
        best = np.maximum.accumulate(true[order])
        regret = {k: float(true.max() - best[k - 1]) for k in range(1, len(names) + 1)}
        if not np.isnan(values).any():
            correlation = rank_correlation(values, true)
            error = float(np.square(values - true).mean())
    return Comparison(
        estimator=estimator,
        ranking=tuple(names[i] for i in order),
        estimates=dict(zip(names, values.tolist(), strict=True)),
        probability_best=_probability_best(evaluations, estimator),
        undecided=_undecided(evaluations, estimator, [names[i] for i in order]),
        truths=dict(truths or {}),
        rank_correlation=correlation,
        regret=regret,
        mean_squared_error=error,
    )


def difference_interval(first: PolicyEvaluation, second: PolicyEvaluation, estimator: str) -> tuple[float, float]:
    """Return an interval of how much more the first policy is worth, by estimates on the same resamples.

    NaN where one of the policies has no replicates or no interval: a log that lacks what one of them does cannot
    compare them.
    """
    estimate, other = first[estimator], second[estimator]
    if estimate.interval is None or other.interval is None or len(estimate.replicates) == 0:
        return math.nan, math.nan
    differences = estimate.replicates - other.replicates
    if estimator == FQE:
        interval = refitted_interval(differences, level=estimate.interval.level)
        return interval.lower, interval.upper
    if not np.isfinite(differences).all():
        return math.nan, math.nan
    tail = (1 - estimate.interval.level) / 2
    lower, upper = np.quantile(differences, [tail, 1 - tail])
    return float(lower), float(upper)


def _undecided(
    evaluations: Mapping[str, PolicyEvaluation], estimator: str, ranking: list[str]
) -> tuple[str, ...] | None:
    if any(len(evaluation[estimator].replicates) == 0 for evaluation in evaluations.values()):
        return None
    first = evaluations[ranking[0]]
    lowers = {name: difference_interval(first, evaluations[name], estimator)[0] for name in ranking[1:]}
    return tuple(name for name, lower in lowers.items() if not lower > 0)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks. NaN where all are equal."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    deviations = [rank - rank.mean() for rank in ranks]
    size = math.sqrt(float(np.square(deviations[0]).sum() * np.square(deviations[1]).sum()))
    return float(deviations[0] @ deviations[1]) / size if size else math.nan


def _ranks(values: Floats) -> Floats:
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    return ranks


def _probability_best(evaluations: Mapping[str, PolicyEvaluation], estimator: str) -> dict[str, float]:
    replicates = [evaluation[estimator].replicates for evaluation in evaluations.values()]
    if len({len(values) for values in replicates}) > 1 or len({log.seed for log in evaluations.values()}) > 1:
        raise DatasetError(
            "the policies were evaluated with different bootstraps; use one seed and number of resamples."
        )
    if len(replicates[0]) == 0:
        return {}
    table = np.nan_to_num(np.stack(replicates), nan=-np.inf)
    shares = np.bincount(table.argmax(axis=0), minlength=len(replicates)) / table.shape[1]
    return dict(zip(evaluations, shares.tolist(), strict=True))
