"""Batch-constrained Q-learning for discrete actions: targets use only actions that the log makes likely.

Source: Fujimoto, Conti, Ghavamzadeh, Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms",
2019.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from batch_rl.networks import fit, forward, initial_parameters


def fit_behavior_model(
    inputs: Tensor,
    actions: Tensor,
    n_actions: int,
    *,
    hidden_sizes: Sequence[int],
    epochs: int,
    generator: torch.Generator,
) -> Callable[[Tensor], Tensor]:
    """Fit a model of the behavior policy: inputs (rows, in) -> its action probabilities (rows, n_actions).

    Args:
        inputs: (rows, in), standardised observations.
        actions: (rows,), logged.
    """
    parameters = initial_parameters((inputs.shape[1], *hidden_sizes, n_actions), 1, generator)
    fit(
        parameters,
        inputs,
        lambda outputs, rows: nn.functional.cross_entropy(outputs, actions[rows]),
        epochs=epochs,
        generator=generator,
    )
    return lambda observed: torch.softmax(forward(parameters, observed[None])[0], dim=1)


def imitate(
    inputs: Tensor,
    actions: Tensor,
    n_actions: int,
    *,
    hidden_sizes: Sequence[int],
    epochs: int,
    generator: torch.Generator,
) -> Tensor:
    """Fit a model of the behavior policy; return its action probabilities at ``inputs``.

    Args:
        inputs: (rows, in), standardised observations.
        actions: (rows,), logged.
    Returns:
        (rows, n_actions).
    """
    model = fit_behavior_model(
        inputs, actions, n_actions, hidden_sizes=hidden_sizes, epochs=epochs, generator=generator
    )
    return model(inputs)


def allowed_actions(probabilities: Tensor, threshold: float) -> Tensor:
    """Return which actions have at least ``threshold`` times the probability of the likeliest one.

    The likeliest action is always allowed, so no row is without one.
    """
    return probabilities >= threshold * probabilities.max(dim=1, keepdim=True).values
