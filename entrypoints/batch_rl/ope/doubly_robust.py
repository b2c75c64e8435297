"""Estimators that correct a model of the values by the weighted errors it makes on the log."""

import numpy as np
from numpy.typing import NDArray

from batch_rl.dataset import Episodes
from batch_rl.ope.direct_method import one_step_direct_method
from batch_rl.ope.importance_sampling import importance_ratios


def sequential_doubly_robust(
    episodes: Episodes, target: NDArray[np.float64], q_hat: NDArray[np.float64], *, discount: float
) -> float:
    """Estimate a policy's value from episodes that another one logged (sequential DR).

    V_t = v_t + ratio_t * (r_t + discount * V_{t+1} - q_t), where v and q come from ``q_hat`` and V is 0
    after the end; the estimate is the mean of V_0 over all episodes. Unbiased for any ``q_hat`` that was
    not fitted to these episodes, whatever policy it describes; the closer it is to the evaluated policy's
    values, the less it varies.

    Args:
        episodes: at least one; all terminated.
        target: the evaluated policy's probabilities at the logged observations, (rows, n_actions).
        q_hat: action values there, in discounted reward, (rows, n_actions).
        discount: in [0, 1], per step.
    Returns:
        The value, in discounted reward per episode.
    Raises:
        DatasetError: see ``importance_ratios``.
    Source: Jiang, Li, "Doubly Robust Off-Policy Value Evaluation for Reinforcement Learning", ICML 2016.
    """
    ratios = importance_ratios(episodes, target)
    q = np.take_along_axis(q_hat, episodes.actions[:, None], axis=1)[:, 0]
    v = (target * q_hat).sum(axis=1)
    longest_first = np.argsort(-episodes.lengths, kind="stable")
    starts, lengths = episodes.starts[longest_first], episodes.lengths[longest_first]
    running = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")  # episodes that have a step t
    value = np.zeros(len(episodes))
    for t in range(int(lengths[0]) - 1, -1, -1):
        n = running[t]
        rows = starts[:n] + t
        value[:n] = v[rows] + ratios[rows] * (episodes.rewards[rows] + discount * value[:n] - q[rows])
    return float(value.mean())


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
