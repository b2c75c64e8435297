"""Fitted Q evaluation: action values of a policy, learned from steps that another one logged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl.errors import DatasetError, TrainingError
from batch_rl.networks import (
    Adam,
    Parameters,
    backpropagate,
    fit,
    forward,
    initial_parameters,
    joined,
    last_outputs,
    layer_inputs,
    parted,
)
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


@dataclass(frozen=True)
class _Pool:
    """Steps that several updates use; (members, steps, ...)."""

    inputs: Tensor
    taken: Tensor  # the actions
    rewards: Tensor
    onward: Tensor  # the discount, or 0 where the episode terminated
    following: Tensor  # the next inputs
    policy: Tensor  # the probabilities there


@dataclass(frozen=True)
class LoggedSteps:
    """Logged steps as tensors, and what each one led to.

    Args:
        inputs: (n, in) float32, standardised; those behind the logged rows are what truncated episodes led to.
        actions, rewards: (steps,) of the first rows of ``inputs``.
        terminated: (steps,) float or bool.
        next_rows: (steps,) the row of ``inputs`` that a step leads to, which is not read where it terminated.
    """

    inputs: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    next_rows: Tensor


class QRegression:
    """A stack of networks, each of which learns a policy's action values from batches of its own.

    The targets are renewed every ``COPY_UPDATES`` updates, and held within what rewards as logged can add up to, so
    that they cannot run away.

    Args:
        members: how many networks.
        n_actions: width of the output.
        discount: in [0, 1], per step.
        generator: draws the first weights and the batches.
    Source: Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019.
    """

    BATCH_SIZE = 256
    COPY_UPDATES = 2
    POOL_BATCHES = 4  # drawn together, so that the policy is asked once, ...
    PASSES = 4  # ... and used as often

    def __init__(
        self,
        steps: LoggedSteps,
        *,
        members: int,
        n_actions: int,
        discount: float,
        hidden_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        self._steps = steps
        self._onward, self._generator = discount * (1 - steps.terminated.float()), generator
        # An episode may end at once, so 0 is always possible.
        least, most = min(0.0, float(steps.rewards.min())), max(0.0, float(steps.rewards.max()))
        self._bounds = (least / (1 - discount), most / (1 - discount)) if discount < 1 else (-np.inf, np.inf)
        sizes = (steps.inputs.shape[1], *hidden_sizes, n_actions)
        weights, self._parameters = joined(initial_parameters(sizes, members, generator))
        self._gradient = torch.empty_like(weights)
        self._gradients = parted(self._gradient, self._parameters)
        self._adam = Adam(weights, beta1=0.9, beta2=0.999, epsilon=1e-8)

    def _train(
        self,
        draw: Callable[[int], Tensor],
        probabilities: Callable[[Tensor], Tensor],
        updates: int,
        learning_rate: Callable[[int], float],
    ) -> None:
        """Make some updates.

        Args:
            draw: as many rows for every member, (members, rows).
            probabilities: of the policy at some rows of the inputs, (members, rows) -> (members, rows, n_actions).
            learning_rate: of an update, by its number from 0.
        Raises:
            TrainingError: the values diverged, which they can without discount.
        """
        for first in range(0, updates, self.POOL_BATCHES * self.PASSES):
            pool = self._look_up(draw(self.POOL_BATCHES * self.BATCH_SIZE), probabilities)
            for number in range(first, min(first + self.POOL_BATCHES * self.PASSES, updates)):
                start = (number - first) % self.POOL_BATCHES * self.BATCH_SIZE
                if number % self.COPY_UPDATES == 0:
                    coming = slice(start, start + self.COPY_UPDATES * self.BATCH_SIZE)
                    goals = torch.split(self._goals(pool, coming), self.BATCH_SIZE, dim=1)
                batch = slice(start, start + self.BATCH_SIZE)
                self._update(pool, batch, goals[number % self.COPY_UPDATES], learning_rate(number))
        if not bool(self._adam.parameters.isfinite().all()):
            raise TrainingError(
                "fitted Q evaluation diverged: look for extreme rewards and features in the data, lower the discount, "
                "or leave the estimators out that need it."
            )

    def _look_up(self, rows: Tensor, probabilities: Callable[[Tensor], Tensor]) -> _Pool:
        following = self._steps.next_rows[rows]
        return _Pool(
            inputs=self._steps.inputs[rows],
            taken=self._steps.actions[rows][..., None],
            rewards=self._steps.rewards[rows],
            onward=self._onward[rows],
            following=self._steps.inputs[following],
            policy=probabilities(following),
        )

    def _update(self, pool: _Pool, rows: slice, goals: Tensor, learning_rate: float) -> None:
        """Make a step on every member's mean((Q(input, action) - goal)^2)."""
        taken = layer_inputs(self._parameters, pool.inputs[:, rows])
        outputs = last_outputs(self._parameters, taken[-1])
        at = pool.taken[:, rows]
        slope = (outputs.gather(-1, at) - goals[..., None]) * (2 / self.BATCH_SIZE)
        backpropagate(self._parameters, taken, torch.zeros_like(outputs).scatter_(-1, at, slope), self._gradients)
        self._adam.step(self._gradient, learning_rate)

    def _goals(self, pool: _Pool, rows: slice) -> Tensor:
        following = forward(self._parameters, pool.following[:, rows])
        values = (pool.policy[:, rows] * following).sum(dim=-1).clamp(*self._bounds)
        return pool.rewards[:, rows] + pool.onward[:, rows] * values

    @torch.no_grad()
    def _outputs(self, inputs: Tensor) -> Floats:
        """Return every member's action values of standardised inputs, (members, rows, n_actions)."""
        values: Floats = forward(self._parameters, inputs.expand(len(self._parameters[0]), -1, -1)).double().numpy()
        return values


class FittedQ(QRegression):
    """Action values of a policy, learned by a few updates at a time, so that they can follow one that changes.

    Args:
        rows: the steps to fit to: leave out those whose next observation is not known.
    """

    LEARNING_RATE = 2e-3

    def __init__(
        self,
        steps: LoggedSteps,
        rows: Tensor,
        *,
        n_actions: int,
        discount: float,
        hidden_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            steps,
            members=1,
            n_actions=n_actions,
            discount=discount,
            hidden_sizes=hidden_sizes,
            generator=generator,
        )
        self._rows = rows

    @torch.inference_mode()
    def fit(self, probabilities: Callable[[Tensor], Tensor], updates: int) -> None:
        """Go on for some updates.

        Args:
            probabilities: of the policy at some rows of the steps' inputs, (rows,) -> (rows, n_actions).
            updates: as many.
        Raises:
            TrainingError: the values diverged, which they can without discount.
        """

        def draw(count: int) -> Tensor:
            return self._rows[torch.randint(len(self._rows), (count,), generator=self._generator)][None]

        self._train(draw, lambda rows: probabilities(rows[0])[None], updates, lambda _: self.LEARNING_RATE)

    def values(self, inputs: Tensor) -> Floats:
        """Return the action values of standardised inputs, (rows, n_actions)."""
        values: Floats = self._outputs(inputs)[0]
        return values

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return {
            "parameters": self._adam.parameters,
            "adam_mean": self._adam.means,
            "adam_square": self._adam.squares,
            "updates": self._adam.updates,
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by one of the same data and sizes."""
        self._adam.parameters.copy_(state["parameters"])
        self._adam.means.copy_(state["adam_mean"])
        self._adam.squares.copy_(state["adam_square"])
        self._adam.updates = state["updates"]
        self._generator.set_state(state["generator"])
