"""The models that are fitted once, before learning begins: of the reward, and of the actions that the log supports."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl import ope
from batch_rl.learning.preparation import PreparedData
from batch_rl.learning.rules.base import Rule
from batch_rl.learning.support import ImitationSupport, Support, fit_behavior_model, fit_neighbor_support
from batch_rl.networks import Parameters, forward, seeded_generator

IMITATION, REWARD_MODEL = 1, 2  # purposes of generators; see batch_rl.learning.training


@dataclass(frozen=True)
class RewardModel:
    """A model of a step's reward.

    Attributes:
        parameters: of one network from inputs to the rewards of all actions, in units of ``scale``.
    """

    parameters: Parameters
    scale: float

    def __call__(self, inputs: Tensor) -> NDArray[np.float64]:
        """Return the rewards of every action, (rows, n_actions), for inputs (rows, in)."""
        predicted: NDArray[np.float64] = forward(self.parameters, inputs[None])[0].numpy().astype(np.float64)
        return self.scale * predicted


def fit_reward_model(data: PreparedData) -> RewardModel:
    """Fit the model to the training episodes."""
    preset, fitting = data.preset, data.fitting
    scale = float(np.sqrt(np.square(fitting.rewards).mean())) or 1.0
    parameters = ope.fit_reward_model(
        data.inputs(fitting.observations),
        torch.from_numpy(fitting.actions),
        torch.from_numpy(fitting.rewards / scale).float(),
        data.n_actions,
        hidden_sizes=preset.agent.hidden_sizes,
        epochs=preset.ope.reward_model_epochs,
        generator=seeded_generator(preset.seed, REWARD_MODEL),
    )
    return RewardModel(parameters, scale)


@dataclass(frozen=True)
class FittedSupport:
    """Which actions the log supports, and a sentence on how that was found."""

    support: Support
    description: str


def fit_support(data: PreparedData, rule: Rule, reward_model: RewardModel) -> FittedSupport | None:
    """Fit what the preset asks for to the training episodes; None where every action may be used."""
    preset, bcq, fitting = data.preset, data.preset.bcq, data.fitting
    bound = rule.target_actions == "supported"
    threshold = bcq.threshold if bound else preset.agent.support_threshold
    absolute_threshold = bcq.absolute_threshold if bound else 0.0
    inputs, actions = data.inputs(fitting.observations), torch.from_numpy(fitting.actions)
    if bound and bcq.action_drop_method == "nearest_neighbors":
        support = fit_neighbor_support(
            inputs,
            actions,
            data.n_actions,
            coefficient=bcq.average_distance_coefficient,
            neighbors_per_action=bcq.neighbors_per_action,
            embedding=reward_model.parameters if bcq.embed_observations else None,
        )
        return FittedSupport(support, f"it was logged within {support.farthest:.3g}")
    if not (threshold or absolute_threshold):
        return None
    model = fit_behavior_model(
        inputs,
        actions,
        data.n_actions,
        hidden_sizes=preset.agent.hidden_sizes,
        updates=bcq.imitation_updates,
        epochs=bcq.imitation_epochs,
        generator=seeded_generator(preset.seed, IMITATION),
    )
    logged = torch.bincount(actions, minlength=data.n_actions) > 0
    described = f"a model of the log's policy gives at least {threshold:g} of the likeliest action's probability"
    if absolute_threshold:
        described += f", and at least {absolute_threshold:g}"
    likelihood = model.log_likelihood
    if likelihood is not None:
        described += f"; {model.updates} updates, mean log-likelihood {likelihood:.4f} on rows held out"
    return FittedSupport(ImitationSupport(model.parameters, logged, threshold, absolute_threshold), described)


def usable_actions(support: nn.Module | None, rule: Rule, inputs: Tensor, actions: Tensor, n_actions: int) -> Tensor:
    """Return the actions that targets may use at each of ``inputs``, which may go on behind the logged rows."""
    if rule.target_actions == "logged":
        return nn.functional.one_hot(actions, n_actions).bool()
    if rule.target_actions == "all" or support is None:
        return torch.ones((len(inputs), n_actions), dtype=torch.bool)
    usable: Tensor = support(inputs)
    return usable
