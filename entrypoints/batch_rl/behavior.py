"""Policies as functions from observations to action probabilities, and drawing actions from them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# observations (batch, obs_dim) float32 -> probabilities (batch, n_actions) float64, rows sum to 1
ActionProbabilities = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def uniform_policy(n_actions: int) -> ActionProbabilities:
    """Return the policy that gives every action the same probability everywhere."""
    return lambda observations: np.full((len(observations), n_actions), 1.0 / n_actions)


def greedy_policy(values: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> ActionProbabilities:
    """Return the policy that always takes the action of highest value, the first one of equals.

    Args:
        values: observations (batch, obs_dim) -> action values (batch, n_actions).
    """

    def probabilities(observations: NDArray[np.float32]) -> NDArray[np.float64]:
        action_values = values(observations)
        one_hot: NDArray[np.float64] = np.eye(action_values.shape[1])[action_values.argmax(axis=1)]
        return one_hot

    return probabilities


def draw_actions(probabilities: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Turn a uniform number in [0, 1) per row into an action, by the inverse cumulative distribution.

    Args:
        probabilities: (batch, n_actions), rows sum to 1.
        uniforms: (batch,).
    Returns:
        Actions (batch,), never one of probability 0.
    """
    cumulative = probabilities.cumsum(axis=1)
    # Rounding can end a row below 1: compare with its own end, so that the last action is not missed.
    actions: NDArray[np.int64] = (uniforms[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    return actions
