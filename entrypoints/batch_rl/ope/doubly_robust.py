"""Estimators that correct a model of the values by the weighted errors it makes on the log."""

import math

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes
from batch_rl.ope.direct_method import one_step_direct_method
from batch_rl.ope.importance_sampling import defined, finite_mean
from batch_rl.ope.ratios import importance_ratios
from batch_rl.ope.steps import Floats, WeightedSteps


def one_step_doubly_robust(episodes: Episodes, target: NDArray[np.float64], reward_hat: NDArray[np.float64]) -> float:
    """Return the one-step direct method, corrected by the weighted errors of the reward model, per step.

    Coach's column ``Doubly Robust``: a policy's value only where episodes have one step.

    Args:
        target: the evaluated policy's probabilities, (rows, n_actions).
        reward_hat: predicted rewards, (rows, n_actions).
    Source: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """
    predicted = np.take_along_axis(reward_hat, episodes.actions[:, None], axis=1)[:, 0]
    errors = importance_ratios(episodes, target) * (episodes.rewards - predicted)
    return one_step_direct_method(target, reward_hat) + float(errors.mean())


def sequential_dr_values(steps: WeightedSteps) -> Floats:
    """Return each episode's sum of discount^t (w_t (r_t - q_t) + w_{t-1} v_t), (episodes,)."""
    q, v = steps.model
    weights, previous = steps.absolute_weights
    with np.errstate(invalid="ignore", over="ignore"):
        return steps.layout.sum_by_episode(steps.discounts * (weights * (steps.rewards - q) + previous * v))


def sequential_dr(steps: WeightedSteps) -> float:
    """Estimate a policy's value by the mean of ``sequential_dr_values``.

    It is V_0 of the recursion V_t = v_t + ratio_t (r_t + discount V_{t+1} - q_t). Unbiased for any ``q_hat`` that was
    not fitted to these episodes, whatever policy it describes, on one condition: the policy that logged gives every
    action that the evaluated one may take a probability above 0. What was never logged is not corrected.

    Returns:
        NaN, with UndefinedEstimateWarning, where a weight leaves the range of a float64.
    Raises:
        DatasetError: there is no model.
    Source: Thomas, Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning",
        ICML 2016; equal to Jiang and Li's recursion.
    """
    return finite_mean(sequential_dr_values(steps))


def wdr(steps: WeightedSteps) -> float:
    """Estimate as sequential DR does, with w_t and w_{t-1} divided by their sums over all episodes (WDR).

    Biased on few episodes, consistent, varies less than sequential DR. Before the first action every
    episode weighs 1/n; one that has ended keeps its last weight in the sums.

    Returns:
        NaN, with UndefinedEstimateWarning, when all weights of a step are 0.
    Raises:
        DatasetError: there is no model.
    Source: Thomas, Brunskill, "Data-Efficient Off-Policy Policy Evaluation for Reinforcement Learning",
        ICML 2016.
    """
    corrections, values = wdr_terms(steps)
    if not defined(steps.weights.totals):
        return math.nan
    return float((corrections + values).sum())


def wdr_terms(steps: WeightedSteps) -> tuple[Floats, Floats]:
    """Return both parts of WDR by step, (longest,) each.

    They are discount^t sum_i w_t (r_t - q_t) / sum_i w_t, and discount^t sum_i w_{t-1} v_t / sum_i w_{t-1}.
    NaN where a sum of weights is 0.
    """
    q, v = steps.model
    layout, weights = steps.layout, steps.weights
    errors = layout.sum_by_step(weights.relative * (steps.discounts * (steps.rewards - q)))
    values = layout.sum_by_step(weights.previous * (steps.discounts * v))
    with np.errstate(invalid="ignore", divide="ignore"):
        return errors / weights.totals, values / totals_before(steps)


def totals_before(steps: WeightedSteps) -> Floats:
    """Return sum_i w_{t-1}, (longest,), relative to the scale of t - 1; before the first step all weigh 1."""
    return np.concatenate([[float(len(steps))], steps.weights.totals[:-1]])
