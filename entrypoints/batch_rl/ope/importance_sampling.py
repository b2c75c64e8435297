"""Estimators that weigh logged rewards by how much likelier the evaluated policy makes the logged actions."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes
from batch_rl.ope.ratios import importance_ratios
from batch_rl.ope.steps import Floats, WeightedSteps


class UndefinedEstimateWarning(UserWarning):
    """An estimate is NaN because the evaluated policy gives every logged episode probability 0."""


@dataclass(frozen=True)
class WeightDiagnostics:
    """How far weights can be trusted: a mean far from 1, or few effective episodes, says not far."""

    effective_sample_size: float  # in episodes
    mean_weight: float  # 1 in expectation
    largest_share: float  # of the sum of weights, in [0, 1]


def _relative_weights(logs: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return weights scaled to a maximum of 1, or None, with a warning, where all are 0."""
    if np.isneginf(logs).all():
        warnings.warn(
            "the evaluated policy gives every logged episode probability 0: importance sampling says nothing",
            UndefinedEstimateWarning,
            stacklevel=3,
        )
        return None
    weights: NDArray[np.float64] = np.exp(logs - logs.max())
    return weights


def one_step_importance_sampling(episodes: Episodes, target: NDArray[np.float64]) -> float:
    """Return the mean of ratio times reward over all steps, in reward per step.

    Coach's column ``Inverse Propensity Score``. It treats every step as a separate problem, so it is a
    policy's value only where episodes have one step.

    Source: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """
    return float(np.mean(importance_ratios(episodes, target) * episodes.rewards))


def ips_values(steps: WeightedSteps) -> Floats:
    """Return each episode's weight times its return, (episodes,); their mean is IPS."""
    weights = steps.absolute_weights[0][steps.layout.last]
    return _product(weights, steps.returns)


def ips(steps: WeightedSteps) -> float:
    """Estimate a policy's value by the mean of w_{T-1} * return: ordinary importance sampling (IPS).

    Unbiased. The weights' variance grows exponentially with the length of the episodes.

    Returns:
        Discounted reward per episode; NaN, with UndefinedEstimateWarning, where a weight leaves the range
        of a float64.
    Source: Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000.
    """
    return finite_mean(ips_values(steps))


def wis(steps: WeightedSteps) -> float:
    """Estimate a policy's value by the mean return, each by its share of all weights (WIS).

    Biased on few episodes, consistent, never outside the logged returns.

    Returns:
        NaN, with UndefinedEstimateWarning, when every weight is 0.
    Source: Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000.
    """
    weights = _relative_weights(steps.weights.last_logs)
    return math.nan if weights is None else float(weights @ steps.returns / weights.sum())


def pdis_values(steps: WeightedSteps) -> Floats:
    """Return each episode's sum of discount^t w_t r_t, (episodes,); their mean is PDIS."""
    return steps.layout.sum_by_episode(_product(steps.absolute_weights[0], steps.discounted_rewards))


def pdis(steps: WeightedSteps) -> float:
    """Estimate a policy's value by the mean of sum_t discount^t w_t r_t (per-decision IS, PDIS).

    Unbiased: a reward is weighed only by the actions before it, so it varies less than IPS.

    Returns:
        NaN, with UndefinedEstimateWarning, where a weight leaves the range of a float64.
    Source: Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000.
    """
    return finite_mean(pdis_values(steps))


def weighted_pdis(steps: WeightedSteps) -> float:
    """Estimate a policy's value by sum_t discount^t (sum_i w_t r_t) / (sum_i w_t) (CWPDIS).

    An episode that has ended keeps its last weight in the denominators: without it, the ones that still run
    would stand for all. Biased on few episodes, consistent.

    Returns:
        NaN, with UndefinedEstimateWarning, when all weights of a step are 0.
    Source: Thomas, "Safe Reinforcement Learning", PhD thesis, University of Massachusetts, 2015.
    """
    weights = steps.weights
    if not defined(weights.totals):
        return math.nan
    numerators = steps.layout.sum_by_step(weights.relative * steps.discounted_rewards)
    return float((numerators / weights.totals).sum())


def describe_weights(steps: WeightedSteps) -> WeightDiagnostics:
    """Describe the weights of whole episodes.

    Source of the effective sample size: Kong, "A Note on Importance Sampling using Standardized Weights",
    1992.
    """
    logs = steps.weights.last_logs
    weights = _relative_weights(logs)
    if weights is None:
        return WeightDiagnostics(effective_sample_size=0.0, mean_weight=0.0, largest_share=math.nan)
    with np.errstate(over="ignore"):
        mean_weight = float(np.exp(logs.max() + np.log(weights.mean())))
    return WeightDiagnostics(
        effective_sample_size=float(weights.sum() ** 2 / np.square(weights).sum()),
        mean_weight=mean_weight,
        largest_share=float(1 / weights.sum()),
    )


def defined(totals: Floats) -> bool:
    """Whether no sum of weights is 0; else warn."""
    if (totals > 0).all():
        return True
    warnings.warn(
        f"all weights are 0 from step {int(np.argmin(totals > 0))} on: no logged episode does there what the "
        "evaluated policy may do, and a self-normalised estimate is undefined",
        UndefinedEstimateWarning,
        stacklevel=3,
    )
    return False


def finite_mean(values: Floats) -> float:
    """Return the mean, or NaN, with a warning, where it is not finite."""
    mean = float(values.mean())
    if math.isfinite(mean):
        return mean
    warnings.warn(
        "a product of ratios leaves the range of a float64: the unnormalised estimate is undefined",
        UndefinedEstimateWarning,
        stacklevel=3,
    )
    return math.nan


def _product(weights: Floats, values: Floats) -> Floats:
    """Multiply; a weight that is out of range makes NaN, also beside a 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        return weights * values
