"""Double DQN for logged transitions, over an ensemble of networks that learn side by side.

Source: van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-Learning", AAAI 2016.

Each member has its own weights, target network and order of batches. Snapshots of all members join the
mean that decides: late in training single networks disagree about small gaps between actions, and their
mean does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from batch_rl.networks import Adam, Parameters, forward, initial_parameters
from batch_rl.preset import Agent


@dataclass(frozen=True)
class Transitions:
    """What the learner sees, in rows; every tensor on one device.

    ``next_rows`` is the row of the next observation; where ``terminated`` is 1 it is not used.
    """

    inputs: Tensor  # (rows, in), standardised
    actions: Tensor  # (rows,)
    rewards: Tensor  # (rows,) float32
    terminated: Tensor  # (rows,) float32, 0 or 1
    next_rows: Tensor  # (rows,)
    allowed: Tensor  # (rows, n_actions) bool, actions that targets may use in the row's observation
    learned_rows: Tensor | None = None  # those to learn from; None: all. The others are next rows alone


def double_q_targets(
    online: Tensor, target: Tensor, allowed: Tensor, rewards: Tensor, terminated: Tensor, *, discount: float
) -> Tensor:
    """Return r + discount * Q_target(s', a'), a' = the allowed action of highest Q_online; r at the end.

    Args:
        online, target: (..., n_actions), values of the next observation.
        allowed: (..., n_actions) bool, at least one per row.
        rewards, terminated: (...).
    """
    best = online.masked_fill(~allowed, -torch.inf).argmax(dim=-1, keepdim=True)
    return rewards + discount * (1 - terminated) * target.gather(-1, best).squeeze(-1)


class Learner:
    """The networks, their optimiser and where training stands.

    Args:
        transitions: at least one.
        n_actions: width of the output.
        epochs: after which the step size has fallen to 0.
        generator: draws the first weights and the order of batches.
    """

    def __init__(
        self,
        transitions: Transitions,
        agent: Agent,
        *,
        n_actions: int,
        epochs: int,
        generator: torch.Generator,
    ) -> None:
        self.agent = agent
        self._transitions = transitions
        self._generator = generator
        rows = self._count = len(transitions.actions if transitions.learned_rows is None else transitions.learned_rows)
        self.updates_per_epoch = -(-rows // agent.batch_size)
        self.total_updates = epochs * self.updates_per_epoch
        sizes = (transitions.inputs.shape[1], *agent.hidden_sizes, n_actions)
        self.online: Parameters = initial_parameters(sizes, agent.members, generator)
        self.target: Parameters = [p.clone() for p in self.online]
        self.snapshots: list[Parameters] = []
        for parameter in self.online:
            parameter.requires_grad_(True)
        self._adam = Adam(self.online, beta1=agent.adam_beta1, beta2=agent.adam_beta2, epsilon=agent.adam_epsilon)
        self._loss = nn.functional.smooth_l1_loss if agent.huber_loss else nn.functional.mse_loss
        self._epoch_start = generator.get_state()
        self._statistics: list[Tensor] = []

    @property
    def updates(self) -> int:
        """Gradient updates so far."""
        return self._adam.updates

    def run_epoch(self, should_stop: Callable[[], bool] = lambda: False) -> Tensor | None:
        """Train on one shuffled pass, or on what is left of one that was interrupted.

        Returns:
            Per update the loss, the gradient's norm, the mean Q of the batch and the step size, (updates,
                4); or None when ``should_stop`` ended the pass early, after a whole update.
        """
        rows, members = self._count, self.agent.members
        done = len(self._statistics)
        self._generator.set_state(self._epoch_start)
        orders = torch.stack([torch.randperm(rows, generator=self._generator) for _ in range(members)])
        for start in range(done * self.agent.batch_size, rows, self.agent.batch_size):
            if should_stop():
                return None
            self._statistics.append(self._update(orders[:, start : start + self.agent.batch_size]))
        self._epoch_start = self._generator.get_state()
        statistics, self._statistics = torch.stack(self._statistics), []
        return statistics

    def _update(self, rows: Tensor) -> Tensor:
        """Train every member on its row of ``rows``, (members, batch)."""
        agent, data = self.agent, self._transitions
        if data.learned_rows is not None:
            rows = data.learned_rows[rows]
        next_rows = data.next_rows[rows]
        with torch.no_grad():
            next_inputs = data.inputs[next_rows]
            next_target = forward(self.target, next_inputs)
            targets = double_q_targets(
                forward(self.online, next_inputs) if agent.double_q else next_target,
                next_target,
                data.allowed[next_rows],
                data.rewards[rows],
                data.terminated[rows],
                discount=agent.discount,
            )
        values = forward(self.online, data.inputs[rows])
        taken = values.gather(-1, data.actions[rows].unsqueeze(-1)).squeeze(-1)
        # A sum over members: each learns at the full step size, as it would alone.
        loss = self._loss(taken, targets, reduction="none").mean(dim=1).sum()
        gradients = torch.autograd.grad(loss, self.online)
        learning_rate = agent.learning_rate
        if agent.learning_rate_schedule == "linear":
            learning_rate *= 1 - self.updates / self.total_updates
        self._adam.step(gradients, learning_rate)
        self._copy_when_due()
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        mean_loss = loss.detach() / agent.members
        return torch.stack([mean_loss, norm, values.detach().mean(), torch.tensor(learning_rate)])

    def _copy_when_due(self) -> None:
        agent, updates = self.agent, self.updates
        if updates % agent.target_copy_updates == 0:
            self.target = [p.detach().clone() for p in self.online]
        late = updates >= agent.snapshot_after * self.total_updates
        # The last update takes none: the networks themselves are part of the mean.
        if agent.snapshot_updates and updates % agent.snapshot_updates == 0 and late and updates < self.total_updates:
            self.snapshots.append([p.detach().clone() for p in self.online])

    def deciding_parameters(self) -> Parameters:
        """Return the networks whose mean decides: the members as they are now, and their snapshots."""
        return [torch.cat(layers) for layers in zip(self.online, *self.snapshots, strict=True)]

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return {
            "online": [p.detach() for p in self.online],
            "target": self.target,
            "snapshots": self.snapshots,
            "adam_means": self._adam.means,
            "adam_squares": self._adam.squares,
            "updates": self.updates,
            "epoch_start": self._epoch_start,
            "statistics": self._statistics,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a learner of the same data and agent."""
        with torch.no_grad():
            for name, own in (
                ("online", self.online),
                ("target", self.target),
                ("adam_means", self._adam.means),
                ("adam_squares", self._adam.squares),
            ):
                for tensor, saved in zip(own, state[name], strict=True):
                    tensor.copy_(saved)
        self.snapshots = [list(snapshot) for snapshot in state["snapshots"]]
        self._adam.updates = state["updates"]
        self._epoch_start = state["epoch_start"]
        self._statistics = list(state["statistics"])
