"""Batch-constrained Q-learning for discrete actions: targets use only actions that the log makes likely.

Likely says a model that imitates the behavior policy, or the nearest observation in which the action was
logged. Both rules give a table of usable actions, (rows, n_actions), before learning begins.

Sources: Fujimoto, Conti, Ghavamzadeh, Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms",
2019 (imitation); Coach's ``KNNParameters`` (nearest neighbors).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from batch_rl.networks import fit, forward, initial_parameters

MAX_DISTANCES_AT_ONCE = 4_000_000  # 32 MB


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


def allowed_actions(probabilities: Tensor, threshold: float, absolute_threshold: float = 0.0) -> Tensor:
    """Return which actions are likely enough, (rows, n_actions).

    The likeliest action is always allowed, so no row is without one.

    Args:
        probabilities: (rows, n_actions).
        threshold: least probability relative to the likeliest action's.
        absolute_threshold: least probability as such; Coach's ``mask_out_actions_threshold``.
    """
    likeliest = probabilities.max(dim=1, keepdim=True).values
    return (probabilities >= threshold * likeliest) & (
        (probabilities >= absolute_threshold) | (probabilities == likeliest)
    )


def nearest_distances(points: Tensor, references: Tensor) -> Tensor:
    """Return each point's Euclidean distance to the nearest reference; infinite where there is none.

    Args:
        points: (rows, size).
        references: (references, size).
    Returns:
        (rows,) float64, exact to about 1e-8 of the points' spread.
    """
    if not len(references):
        return torch.full((len(points),), torch.inf, dtype=torch.float64)
    # By a matrix product, in float64: the differences of float32 squares would hide what is near.
    center = references.double().mean(dim=0)
    ours, theirs = points.double() - center, references.double() - center
    squares = theirs.square().sum(dim=1)
    found = []
    chunk_rows = max(1, MAX_DISTANCES_AT_ONCE // len(references))
    for start in range(0, len(ours), chunk_rows):
        chunk = ours[start : start + chunk_rows]
        smallest = torch.addmm(squares, chunk, theirs.T, alpha=-2).min(dim=1).values
        found.append((smallest + chunk.square().sum(dim=1)).clamp_min(0).sqrt())
    return torch.cat(found)


def familiar_actions(
    points: Tensor, actions: Tensor, n_actions: int, *, coefficient: float, neighbors_per_action: int
) -> Tensor:
    """Return which actions were logged near each row's point, (rows, n_actions).

    An action is dropped where the nearest point in which it was logged is farther away than ``coefficient``
    times the mean over rows of the sum over actions of that distance. A row is its own neighbor for the
    action that it logged. Coach searches the evaluation episodes too, and draws at random where it drops
    all actions; here only the training episodes are searched, and the nearest action always stays.

    Args:
        points: (rows, size), observations or an embedding of them; there may be more than actions, and those
            behind are only asked about.
        actions: logged at the first points.
        neighbors_per_action: the last so many rows of an action are searched.
    """
    logged = points[: len(actions)]
    distances = torch.stack(
        [nearest_distances(points, logged[actions == action][-neighbors_per_action:]) for action in range(n_actions)],
        dim=1,
    )
    average = distances[: len(actions)].nan_to_num(posinf=0.0).sum() / len(actions)
    return (distances <= coefficient * average) | (distances == distances.min(dim=1, keepdim=True).values)
