"""What a learning rule is: the outputs and targets that it needs, its loss, and the actions that it may play."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from batch_rl.learning.losses import huber_loss, squared_error
from batch_rl.networks import Parameters
from batch_rl.presets.schema import Agent


@dataclass(frozen=True)
class Batch:
    """A batch of transitions of every member."""

    actions: Tensor  # (members, batch), those that were logged
    rewards: Tensor  # (members, batch)
    going_on: Tensor  # (members, batch): what the next observation's value counts for; 0 where the episode terminated
    forbidden: Tensor  # (members, batch, n_actions) bool: next actions that a target may not use
    target: Tensor | None  # (members, batch, outputs): the target networks', of what ``Rule.target_of`` says


class Rule(ABC):
    """How networks learn, and how their outputs are read.

    A rule holds no weights and no state. What it needs is said by its attributes:

    Attributes:
        target_of: the observations that the target networks are asked about.
        target_actions: which next actions a target may use: all, those that the log supports
            (``batch_rl.learning.support``), or the one that was logged.
        asks_next: the learning networks are asked about the next observations too.
        has_values: its outputs are values. If not, they are the logits of a policy.
        n_outputs: units of the last layer.
        values_from: (n_outputs, n_actions), so that Q = outputs @ values_from; None: Q are the first outputs.
        scores_from: the same of the scores that decide; None: the values decide.
    """

    target_of: ClassVar[Literal["own", "next", "nothing"]] = "next"
    target_actions: ClassVar[Literal["all", "supported", "logged"]] = "all"
    has_values: ClassVar[bool] = True
    asks_next: bool = False
    values_from: Tensor | None = None
    scores_from: Tensor | None = None

    def __init__(self, agent: Agent, n_actions: int) -> None:
        self.agent, self.n_actions = agent, n_actions
        self.n_outputs = n_actions

    @abstractmethod
    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each row's loss, (members, batch), and its derivative by the outputs.

        Args:
            outputs: (members, batch, n_outputs).
            next_outputs: of the next observations, where ``asks_next``; else empty.
        """

    @property
    def imitated_share(self) -> float:
        """The share of the episodes, by return, that is learned from."""
        return 1.0

    def values(self, outputs: Tensor) -> Tensor:
        """Return Q, (..., n_actions), or the logits of a rule without values."""
        if self.values_from is not None:
            return outputs @ self.values_from.to(outputs)
        return outputs if outputs.shape[-1] == self.n_actions else outputs[..., : self.n_actions]

    def scores(self, outputs: Tensor) -> Tensor:
        """Return what decides, (..., n_actions): the policy is softmax(scores / temperature), or the highest one."""
        return self.values(outputs) if self.scores_from is None else outputs @ self.scores_from.to(outputs)

    def deciding_parameters(self, online: Parameters, snapshots: Sequence[Parameters]) -> Parameters:
        """Return one stack of the members and of their snapshots, whose outputs are the scores."""
        *hidden, weight, bias = [torch.cat(layers) for layers in zip(online, *snapshots, strict=True)]
        return [*hidden, self.scores(weight), self.scores(bias)]


class TemporalDifference(Rule):
    """A rule that moves Q at the logged action towards a target."""

    def errors(self, outputs: Tensor, actions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of Q at the actions, (members, batch), and their derivative by the outputs."""
        at = actions.unsqueeze(-1)
        error_loss = huber_loss if self.agent.huber_loss else squared_error
        values = self.values(outputs)
        losses, slope = error_loss(values.gather(-1, at).squeeze(-1) - targets)
        if self.agent.loss_over_all_actions:
            losses, slope = losses / self.n_actions, slope / self.n_actions
        if self.values_from is None:
            return losses, torch.zeros_like(outputs).scatter_(-1, at, slope.unsqueeze(-1))
        return losses, torch.zeros_like(values).scatter_(-1, at, slope.unsqueeze(-1)) @ self.values_from.T.to(values)
