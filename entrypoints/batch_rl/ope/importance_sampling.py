"""Estimators that weigh logged rewards by how much likelier the evaluated policy makes the logged actions."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch_rl.dataset import Episodes
from batch_rl.errors import DatasetError


class UndefinedEstimateWarning(UserWarning):
    """An estimate is NaN because the evaluated policy gives every logged episode probability 0."""


@dataclass(frozen=True)
class Estimate:
    """The value of a policy, in discounted reward per episode, and what it rests on.

    ``effective_sample_size`` is how many equally weighted episodes would carry as much information.
    """

    value: float
    effective_sample_size: float


@dataclass(frozen=True)
class WeightDiagnostics:
    """How far weights can be trusted: a mean far from 1, or few effective episodes, says not far."""

    effective_sample_size: float  # in episodes
    mean_weight: float  # 1 in expectation
    largest_share: float  # of the sum of weights, in [0, 1]


def importance_ratios(episodes: Episodes, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pi_e(a|s) / propensity of every logged step, (rows,).

    Args:
        target: the evaluated policy's probabilities at the logged observations, (rows, n_actions).
    Raises:
        DatasetError: a propensity is not in (0, 1], or ``target`` has another shape or rows that do not
            sum to 1.
    """
    if target.shape != episodes.probabilities.shape:
        raise DatasetError(f"target probabilities have shape {target.shape}, not {episodes.probabilities.shape}.")
    if not ((target >= 0).all() and np.allclose(target.sum(axis=1), 1, rtol=0, atol=1e-6)):
        raise DatasetError("target probabilities must be at least 0 and sum to 1 in every row.")
    propensities = episodes.propensities
    if not ((propensities > 0) & (propensities <= 1)).all():
        row = int(np.argmin((propensities > 0) & (propensities <= 1)))
        raise DatasetError(f"row {row}: the propensity is {propensities[row]}; it must be in (0, 1].")
    ratios: NDArray[np.float64] = np.take_along_axis(target, episodes.actions[:, None], axis=1)[:, 0] / propensities
    return ratios


def log_weights(episodes: Episodes, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of each episode's product of ratios, (episodes,); -inf where the product is 0."""
    with np.errstate(divide="ignore"):
        # Logarithms are added, because products of a thousand ratios leave the range of a float64.
        return np.add.reduceat(np.log(importance_ratios(episodes, target)), episodes.starts)


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


def weight_diagnostics(episodes: Episodes, target: NDArray[np.float64]) -> WeightDiagnostics:
    """Describe the weights of whole episodes.

    Source of the effective sample size: Kong, "A Note on Importance Sampling using Standardized Weights",
    1992.
    """
    logs = log_weights(episodes, target)
    weights = _relative_weights(logs)
    if weights is None:
        return WeightDiagnostics(effective_sample_size=0.0, mean_weight=0.0, largest_share=math.nan)
    return WeightDiagnostics(
        effective_sample_size=float(weights.sum() ** 2 / np.square(weights).sum()),
        mean_weight=float(np.exp(logs.max() + np.log(weights.mean()))),
        largest_share=float(1 / weights.sum()),
    )


def weighted_importance_sampling(episodes: Episodes, target: NDArray[np.float64], *, discount: float) -> Estimate:
    """Estimate a policy's value from episodes that another one logged (WIS).

    Each return counts by its share of all weights: biased on few episodes, never outside the logged returns.

    Args:
        episodes: at least one.
        target: the evaluated policy's probabilities at the logged observations, (rows, n_actions).
        discount: in [0, 1], per step.
    Returns:
        NaN, with UndefinedEstimateWarning, when every weight is 0.
    Raises:
        DatasetError: see ``importance_ratios``.
    Source: Precup, Sutton, Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000.
    """
    weights = _relative_weights(log_weights(episodes, target))
    if weights is None:
        return Estimate(value=math.nan, effective_sample_size=0.0)
    return Estimate(
        value=float(weights @ episodes.returns(discount) / weights.sum()),
        effective_sample_size=float(weights.sum() ** 2 / np.square(weights).sum()),
    )


def one_step_importance_sampling(episodes: Episodes, target: NDArray[np.float64]) -> float:
    """Return the mean of ratio times reward over all steps, in reward per step.

    Coach's column ``Inverse Propensity Score``. It takes every step for a problem of its own, so it is a
    policy's value only where episodes have one step.

    Source: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """
    return float(np.mean(importance_ratios(episodes, target) * episodes.rewards))
