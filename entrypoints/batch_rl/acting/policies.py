"""Policies as functions from observations to action probabilities, and drawing actions from them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import PresetError

# A network's last digits change with the size of the batch, so with the number of environments played together.
PROBABILITY_DECIMALS = 9

# observations (batch, obs_dim) float32 -> probabilities (batch, n_actions) float64, rows sum to 1
ActionProbabilities = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def uniform_policy(n_actions: int) -> ActionProbabilities:
    """Return the policy that gives every action the same probability everywhere."""

    def probabilities(observations: NDArray[np.float32]) -> NDArray[np.float64]:
        equal = np.empty((len(observations), n_actions))
        equal.fill(1.0 / n_actions)  # np.full takes three times as long for a few rows
        return equal

    return probabilities


def fixed_policy(probabilities: Sequence[float], n_actions: int) -> ActionProbabilities:
    """Return the policy that gives the actions these probabilities everywhere.

    Raises:
        PresetError: they are not one per action, or do not sum to 1.
    """
    row = np.array(probabilities, dtype=np.float64)
    if row.shape != (n_actions,) or not (row >= 0).all() or abs(row.sum() - 1) > 1e-6:
        raise PresetError(
            f"collection.action_probabilities: {list(probabilities)} must be {n_actions} numbers from 0 to 1, one per "
            "action, that sum to 1."
        )
    return lambda observations: np.tile(row, (len(observations), 1))


def epsilon_greedy_policy(
    values: Callable[[NDArray[np.float32]], NDArray[np.floating]], epsilon: float
) -> ActionProbabilities:
    """Return the policy that takes the action of highest value, except for a share ``epsilon`` of uniform draws.

    The best action's probability is ``1 - epsilon + epsilon / n_actions``: the uniform draw may choose it too.
    """
    greedy = greedy_policy(values)

    def probabilities(observations: NDArray[np.float32]) -> NDArray[np.float64]:
        one_hot = greedy(observations)
        mixed: NDArray[np.float64] = one_hot * (1 - epsilon) + epsilon / one_hot.shape[1]
        return mixed

    return probabilities


def softmax_policy(
    values: Callable[[NDArray[np.float32]], NDArray[np.floating]], temperature: float
) -> ActionProbabilities:
    """Return the policy softmax(values / temperature), rounded to ``PROBABILITY_DECIMALS``."""

    def probabilities(observations: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled = np.asarray(values(observations), dtype=np.float64) / temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        rounded: NDArray[np.float64] = np.round(
            exponentials / exponentials.sum(axis=1, keepdims=True), PROBABILITY_DECIMALS
        )
        return rounded

    return probabilities


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
    first, *others = probabilities.T  # a few long columns: much faster than many short rows
    cumulative = [first]
    for column in others:
        cumulative.append(cumulative[-1] + column)
    # Rounding can end a row below 1: compare with its own end, so that the last action is not missed.
    drawn = uniforms * cumulative.pop()
    actions = np.zeros(len(drawn), dtype=np.int64)
    for passed in cumulative:
        actions += drawn >= passed
    return actions
