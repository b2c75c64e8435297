"""Estimators that trust a model of the values instead of the logged rewards."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl.networks import Parameters, fit, initial_parameters
from batch_rl.ope.steps import Floats, WeightedSteps


def fit_reward_model(
    inputs: Tensor,
    actions: Tensor,
    rewards: Tensor,
    n_actions: int,
    *,
    hidden_sizes: Sequence[int],
    epochs: int,
    generator: torch.Generator,
) -> Parameters:
    """Regress the reward of a step on its observation and action; the model has an output per action.

    Args:
        inputs: (rows, in), standardised observations.
        actions, rewards: (rows,).
    """
    parameters = initial_parameters((inputs.shape[1], *hidden_sizes, n_actions), 1, generator)

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        taken = outputs.gather(1, actions[rows, None]).squeeze(1)
        return nn.functional.mse_loss(taken, rewards[rows])

    fit(parameters, inputs, loss, epochs=epochs, generator=generator)
    return parameters


def one_step_direct_method(target: NDArray[np.float64], reward_hat: NDArray[np.float64]) -> float:
    """Return the mean reward per step that a model predicts for the policy at the logged observations.

    Coach's column ``Direct Method Reward``: a policy's value only where episodes have one step.

    Args:
        target: the evaluated policy's probabilities, (rows, n_actions).
        reward_hat: predicted rewards, (rows, n_actions).
    Source: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """
    return float((target * reward_hat).sum(axis=1).mean())


def dm_values(steps: WeightedSteps) -> Floats:
    """Return what the model says of each episode's first observation, v_0, (episodes,)."""
    return steps.model[1][steps.layout.blocks[0]]


def dm(steps: WeightedSteps) -> float:
    """Estimate a policy's value by the mean of v_0, from the model alone (DM).

    Varies little, and is as wrong as the model. With q_hat from fitted Q evaluation it is FQE's estimate.

    Raises:
        DatasetError: there is no model.
    Source: Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019.
    """
    return float(dm_values(steps).mean())
