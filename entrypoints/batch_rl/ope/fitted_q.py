"""Fitted Q evaluation: action values of a policy, learned from steps that another one logged."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl.errors import DatasetError, TrainingError
from batch_rl.networks import Parameters, fit, forward, initial_parameters
from batch_rl.ope.steps import Floats, Integers

_WORST_CONDITION = 1e13


def fit_tabular_q(
    states: Integers,
    actions: Integers,
    rewards: Floats,
    next_states: Integers,
    terminated: NDArray[np.bool_],
    target: Floats,
    *,
    discount: float,
) -> Floats:
    """Solve for a policy's values in the model that the counts of the log make: certainty equivalence.

    Fitted Q evaluation with a table ends there, whatever it starts from.

    Args:
        states, actions, rewards: (steps,); states and actions are numbered from 0.
        next_states: (steps,); not read where a step terminated.
        terminated: (steps,). Leave out the last step of a truncated episode: what followed is not known.
        target: the evaluated policy's probabilities in every state, (n_states, n_actions).
        discount: in [0, 1]; at 1 every state must lead to an end.
    Returns:
        (n_states, n_actions) in discounted reward; 0 for what the log does not hold.
    Raises:
        DatasetError: an index that is out of range, or values without a bound.
    Source: Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019.
    """
    n_states, n_actions = target.shape
    following = np.where(terminated, 0, next_states)
    for name, numbers, bound in (
        ("states", states, n_states),
        ("actions", actions, n_actions),
        ("next_states", following, n_states),
    ):
        if len(numbers) != len(states) or (numbers < 0).any() or (numbers >= bound).any():
            raise DatasetError(f"'{name}' must hold {len(states)} numbers from 0 to {bound - 1}.")
    pairs = states * n_actions + actions
    size = n_states * n_actions
    counts = np.bincount(pairs, minlength=size)
    seen = np.maximum(counts, 1)
    reward = np.bincount(pairs, weights=rewards, minlength=size) / seen
    onward = np.bincount(pairs * n_states + following, weights=~terminated, minlength=size * n_states)
    moves = onward.reshape(size, n_states) / seen[:, None]
    # Q = reward + discount * moves @ V with V = sum over actions of target * Q: fewer unknowns in V than in Q
    reward_of_policy = (target * reward.reshape(target.shape)).sum(axis=1)
    moves_of_policy = np.einsum("sa,san->sn", target, moves.reshape(n_states, n_actions, n_states))
    v = _solve(np.eye(n_states) - discount * moves_of_policy, reward_of_policy)
    q: Floats = (reward + discount * moves @ v).reshape(target.shape)
    return q


def fit_linear_q(features: Floats, next_features: Floats, rewards: Floats, *, discount: float) -> Floats:
    """Solve for weights of features that are a fixed point of fitting by least squares (LSTD-Q).

    Where fitted Q evaluation with these features settles, it settles there; unlike it, this does not diverge.

    Args:
        features: of the observation and action of each step, (steps, d).
        next_features: sum over actions of pi_e(a|s') times the features of (s', a), (steps, d); zeros where
            a step terminated.
        rewards: (steps,).
        discount: in [0, 1].
    Returns:
        (d,); q_hat is features @ weights.
    Raises:
        DatasetError: the shapes differ, or the log does not determine the weights.
    Source: Lagoudakis, Parr, "Least-Squares Policy Iteration", JMLR 2003.
    """
    if features.shape != next_features.shape or len(rewards) != len(features):
        raise DatasetError(
            f"features {features.shape}, next_features {next_features.shape} and rewards {np.shape(rewards)} "
            "must have a row for every step, and the first two the same columns."
        )
    return _solve(features.T @ (features - discount * next_features), features.T @ rewards)


def _solve(matrix: Floats, right: Floats) -> Floats:
    # A matrix that is singular but for rounding would give numbers that mean nothing.
    if not np.isfinite(matrix).all() or np.linalg.cond(matrix, 1) > _WORST_CONDITION:
        raise DatasetError(
            "the action values are not determined: features depend on each other, or, without discounting, "
            "an episode may last forever. Drop features, log more, or lower the discount."
        )
    return np.linalg.solve(matrix, right).astype(np.float64, copy=False)


def fit_network_q(
    inputs: Tensor,
    actions: Tensor,
    rewards: Tensor,
    next_inputs: Tensor,
    next_target: Tensor,
    terminated: Tensor,
    *,
    discount: float,
    hidden_sizes: Sequence[int],
    iterations: int,
    generator: torch.Generator,
    epochs_per_iteration: int = 5,
    learning_rate: float = 1e-3,
) -> Parameters:
    """Learn a policy's action values by regression on what the last regression said of the next step (FQE).

    The targets stay fixed within an iteration, and each one goes on from the last one's weights. After k
    iterations the values look about k steps ahead.

    Args:
        inputs, next_inputs: (steps, in) float32, standardised; the latter are not read where terminated.
        actions: (steps,) int64.
        rewards: (steps,) float32.
        next_target: the evaluated policy's probabilities at the next observations, (steps, n_actions).
        terminated: (steps,) bool. Leave out the last step of a truncated episode, or give what it led to.
    Returns:
        A network with an output per action: ``forward(parameters, inputs[None])[0]`` is q_hat.
    Raises:
        TrainingError: the values diverged.
    Source: Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019.
    """
    n_actions = next_target.shape[1]
    parameters = initial_parameters((inputs.shape[1], *hidden_sizes, n_actions), 1, generator)
    onward = discount * (~terminated).float()
    # A next input is not read where a step terminated, and must not turn 0 times it into NaN.
    following = torch.where(terminated[:, None], torch.zeros_like(next_inputs), next_inputs)
    for iteration in range(iterations):
        with torch.no_grad():
            # The first iteration fits rewards alone: an untrained network knows nothing of what follows.
            values = (next_target * forward(parameters, following[None])[0]).sum(dim=1) if iteration else 0.0
            goals = rewards + onward * values
        if not bool(goals.isfinite().all()):
            raise TrainingError("fitted Q evaluation diverged: lower the learning rate, or the discount.")

        def loss(outputs: Tensor, rows: Tensor, goals: Tensor = goals) -> Tensor:
            return nn.functional.mse_loss(outputs.gather(1, actions[rows, None]).squeeze(1), goals[rows])

        fit(
            parameters,
            inputs,
            loss,
            epochs=epochs_per_iteration,
            generator=generator,
            learning_rate=learning_rate,
        )
    return parameters
