"""Which actions the log supports: those that a policy may play, and that a target of ``ddqn_bcq`` may use.

A support is a module from standardised inputs to usable actions, (rows, n_actions) bool, at least one of each row. It
is fitted once, before learning begins, and is part of the policy that acts, is scored, saved and exported.

Sources: Fujimoto, Conti, Ghavamzadeh, Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms", 2019
(imitation); Coach's ``KNNParameters`` (nearest neighbors).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from batch_rl.networks import (
    Adam,
    Parameters,
    backpropagate,
    fit,
    forward,
    initial_parameters,
    joined,
    last_hidden,
    last_outputs,
    layer_inputs,
    parted,
)

MAX_DISTANCES_AT_ONCE = 4_000_000  # 32 MB
BATCH_SIZE = 128
CHECK_UPDATES = 100  # between looks at the held-out rows
PATIENCE = 5  # looks without a better likelihood, after which fitting ends
HELD_OUT_SHARE, HELD_OUT_ROWS = 0.1, 10_000
LEAST_ROWS_TO_HOLD_OUT = 50  # with fewer, every row is needed


@dataclass(frozen=True)
class BehaviorModel:
    """A model of the policy that acted.

    Attributes:
        parameters: of one network from inputs to logits.
        updates: that fitted it.
        log_likelihood: mean logarithm of the probability of a held-out logged action; None: no row was held out.
    """

    parameters: Parameters
    updates: int
    log_likelihood: float | None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return action probabilities, (rows, n_actions), for inputs (rows, in)."""
        return torch.softmax(forward(self.parameters, inputs[None])[0], dim=1)


def fit_behavior_model(
    inputs: Tensor,
    actions: Tensor,
    n_actions: int,
    *,
    hidden_sizes: Sequence[int],
    updates: int,
    generator: torch.Generator,
    epochs: int | None = None,
) -> BehaviorModel:
    """Fit a model of the behavior policy to logged actions.

    A tenth of the rows is held out. The model is the one that gave them the highest likelihood, by a look after every
    ``CHECK_UPDATES``; fitting ends early once it no longer rises.

    Args:
        inputs: (rows, in), standardised observations.
        actions: (rows,), logged.
        updates: at most.
        epochs: exactly so many passes over all rows instead.
    """
    parameters = initial_parameters((inputs.shape[1], *hidden_sizes, n_actions), 1, generator)
    if epochs is not None:
        fit(
            parameters,
            inputs,
            lambda outputs, rows: nn.functional.cross_entropy(outputs, actions[rows]),
            epochs=epochs,
            generator=generator,
        )
        return BehaviorModel(parameters, epochs * -(-len(inputs) // BATCH_SIZE), None)
    held_out, fitted = _split_rows(len(inputs), generator)
    whole, own = joined(parameters)
    gradients = torch.empty_like(whole)
    parts, adam = parted(gradients, own), Adam(whole, beta1=0.9, beta2=0.999, epsilon=1e-8)
    best, best_loss, looks_since = whole.clone(), torch.inf, 0
    order = fitted[:0]
    with torch.inference_mode():
        while adam.updates < updates and looks_since < PATIENCE:
            if not order.shape[0]:
                order = fitted[torch.randperm(len(fitted), generator=generator)]
            rows, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
            taken = layer_inputs(own, inputs[rows][None])
            probabilities = torch.softmax(last_outputs(own, taken[-1])[0], dim=1)
            slope = probabilities.sub_(nn.functional.one_hot(actions[rows], n_actions)).div_(rows.shape[0])
            backpropagate(own, taken, slope[None], parts)
            adam.step(gradients, 1e-3 * (1 - adam.updates / updates))
            if len(held_out) and (adam.updates % CHECK_UPDATES == 0 or adam.updates == updates):
                outputs = forward(own, inputs[held_out][None])[0]
                loss = float(nn.functional.cross_entropy(outputs, actions[held_out]))
                looks_since += 1
                if loss < best_loss:
                    best_loss, looks_since = loss, 0
                    best.copy_(whole)
    if len(held_out):
        whole.copy_(best)
    return BehaviorModel(own, adam.updates, -best_loss if len(held_out) else None)


def _split_rows(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=generator)
    if count < LEAST_ROWS_TO_HOLD_OUT:
        return order[:0], order
    held_out = min(int(HELD_OUT_SHARE * count), HELD_OUT_ROWS)
    return order[:held_out], order[held_out:]


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


class ImitationSupport(nn.Module):
    """Actions that a model of the behavior policy makes likely; one that was never logged is not among them.

    Args:
        parameters: of the model, from inputs to logits.
        logged: (n_actions,) bool, the actions that were logged at all.
        threshold, absolute_threshold: see ``allowed_actions``.
    """

    logged: Tensor

    def __init__(
        self, parameters: Sequence[Tensor], logged: Tensor, threshold: float, absolute_threshold: float
    ) -> None:
        super().__init__()
        self.threshold, self.absolute_threshold = threshold, absolute_threshold
        self.register_buffer("logged", logged)
        for index, parameter in enumerate(parameters):
            self.register_buffer(f"parameter_{index}", parameter.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the usable actions, (rows, n_actions) bool."""
        parameters = [value for name, value in self.named_buffers() if name.startswith("parameter_")]
        logits = forward(parameters, inputs.unsqueeze(0))[0].masked_fill(~self.logged, -torch.inf)
        return allowed_actions(torch.softmax(logits, dim=1), self.threshold, self.absolute_threshold)

    def state(self) -> dict[str, Any]:
        """Return all of it in plain containers and tensors."""
        parameters = [value for name, value in self.named_buffers() if name.startswith("parameter_")]
        thresholds = {"threshold": self.threshold, "absolute_threshold": self.absolute_threshold}
        return {"kind": "imitation", "parameters": parameters, "logged": self.logged, **thresholds}


class NeighborSupport(nn.Module):
    """Actions that were logged near an observation.

    An action is dropped where the nearest point in which it was logged is farther away than the nearest point of any
    action by more than ``farthest``. At a logged point, where that one is the point itself, this is Coach's rule.
    Elsewhere it asks whether the log tells the actions apart: where all are as far away, none is dropped, except for
    those that were never logged, which are infinitely far.

    Args:
        references: (points, size) for each action, the points in which it was logged; there may be none.
        farthest: distance.
        embedding: parameters of a network whose last hidden layer gives the points of inputs; None: inputs themselves.
    """

    def __init__(self, references: Sequence[Tensor], farthest: float, embedding: Sequence[Tensor] | None) -> None:
        super().__init__()
        self.farthest = farthest
        self.counts = [len(points) for points in references]
        for action, points in enumerate(references):
            self.register_buffer(f"references_{action}", points)
        for index, parameter in enumerate(embedding or ()):
            self.register_buffer(f"embedding_{index}", parameter.detach().clone())

    def points(self, inputs: Tensor) -> Tensor:
        """Return where inputs lie, (rows, size)."""
        embedding = [value for name, value in self.named_buffers() if name.startswith("embedding_")]
        return last_hidden(embedding, inputs.unsqueeze(0))[0] if embedding else inputs

    def distances(self, inputs: Tensor) -> Tensor:
        """Return the distances to the nearest point of each action, (rows, n_actions) float64."""
        points = self.points(inputs)
        distances = []
        for action, count in enumerate(self.counts):
            references = self.get_buffer(f"references_{action}")
            # A program that is traced has batches of any size, and none that would have to be cut.
            tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
            nearest = _nearest_distances if tracing and count else nearest_distances
            distances.append(nearest(points, references))
        return torch.stack(distances, dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the usable actions, (rows, n_actions) bool."""
        distances = self.distances(inputs)
        return distances <= distances.min(dim=1, keepdim=True).values + self.farthest

    def state(self) -> dict[str, Any]:
        """Return all of it in plain containers and tensors."""
        references = [self.get_buffer(f"references_{action}") for action in range(len(self.counts))]
        embedding = [value for name, value in self.named_buffers() if name.startswith("embedding_")]
        return {"kind": "neighbors", "references": references, "farthest": self.farthest, "embedding": embedding}


Support = ImitationSupport | NeighborSupport


def support_from(state: dict[str, Any]) -> Support:
    """Return the support whose ``state`` this is."""
    if state["kind"] == "neighbors":
        return NeighborSupport(state["references"], state["farthest"], state["embedding"])
    return ImitationSupport(state["parameters"], state["logged"], state["threshold"], state["absolute_threshold"])


def nearest_distances(points: Tensor, references: Tensor) -> Tensor:
    """Return each point's Euclidean distance to the nearest reference; infinite where there is none.

    Args:
        points: (rows, size).
        references: (references, size).
    Returns:
        (rows,) float64, exact to about 1e-8 of the points' spread.
    """
    if references.numel() == 0:
        return torch.full_like(points[:, 0], torch.inf, dtype=torch.float64)
    chunk_rows = max(1, MAX_DISTANCES_AT_ONCE // len(references))
    return torch.cat([_nearest_distances(chunk, references) for chunk in torch.split(points, chunk_rows)])


def _nearest_distances(points: Tensor, references: Tensor) -> Tensor:
    # By a matrix product, in float64: differences of float32 squares are too coarse for near rows.
    center = references.double().mean(dim=0)
    ours, theirs = points.double() - center, references.double() - center
    smallest = torch.addmm(theirs.square().sum(dim=1), ours, theirs.T, alpha=-2).min(dim=1).values
    return (smallest + ours.square().sum(dim=1)).clamp_min(0).sqrt()


def fit_neighbor_support(
    inputs: Tensor,
    actions: Tensor,
    n_actions: int,
    *,
    coefficient: float,
    neighbors_per_action: int,
    embedding: Sequence[Tensor] | None = None,
) -> NeighborSupport:
    """Return the support by nearest neighbors of logged steps.

    The farthest usable neighbor is ``coefficient`` times the mean over rows of the sum over actions of the distance to
    the nearest point in which the action was logged. A row is its own neighbor for the action that it logged. Coach
    searches the evaluation episodes too, and draws at random where it drops all actions; here only the training
    episodes are searched, and the nearest action always stays.

    Args:
        inputs: (rows, in), those that were logged.
        actions: (rows,).
        neighbors_per_action: the last so many rows of an action are searched.
        embedding: see ``NeighborSupport``.
    """
    support = NeighborSupport([inputs[:0]] * n_actions, 0.0, embedding)
    points = support.points(inputs)
    references = [points[actions == action][-neighbors_per_action:] for action in range(n_actions)]
    support = NeighborSupport(references, 0.0, embedding)
    average = support.distances(inputs).nan_to_num(posinf=0.0).sum() / len(actions)
    support.farthest = float(coefficient * average)
    return support
