"""Learning action values from logged transitions, over an ensemble of networks that learn side by side.

The rules (``agent.algorithm``) share all but the loss and the actions that a target may use:

- ``dqn``, ``ddqn``: Q-learning; the target network, or the online one, chooses the next action.
  Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015; van Hasselt, Guez,
  Silver, "Deep Reinforcement Learning with Double Q-Learning", AAAI 2016.
- ``ddqn_bcq``: the same, choosing only among actions that the log supports; see ``batch_rl.bcq``.
- ``one_step``: the next action is the logged one (SARSA), so Q values the behavior policy, and the policy is
  one greedy step better. Brandfonbrener et al., "Offline RL Without Off-Policy Evaluation", NeurIPS 2021.
- ``cql``: Q-learning that pushes the values of actions below that of the logged one. Kumar et al.,
  "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020.
- ``iql``: a further output V is fitted to an upper expectile of Q at the logged actions, and V is what the
  next state counts for. Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
  ICLR 2022. The policy is read off Q, as for the others: softmax(Q / T) is what the paper's
  advantage-weighted regression converges to where the behavior policy is uniform.
- ``bc``: no values; the outputs are the logits of a policy that imitates the log.

Each member has its own weights, target network and order of batches. Snapshots of all members join the
mean that decides: late in training single networks disagree about small gaps between actions, and their
mean does not.
"""

from collections.abc import Callable, Sequence
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

    def select(self, rows: Tensor) -> "Transitions":
        """Return some of the rows, without the next ones: for rules that never look at those."""
        return Transitions(
            inputs=self.inputs[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            terminated=self.terminated[rows],
            next_rows=torch.arange(len(rows)),
            allowed=self.allowed[rows],
        )


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


def negative_log_likelihood(values: Tensor, actions: Tensor) -> Tensor:
    """Return -log softmax(values) at the logged actions, (...): what bc minimises, and cql's penalty.

    Args:
        values: (..., n_actions).
        actions: (...).
    """
    return values.logsumexp(dim=-1) - values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def expectile_loss(errors: Tensor, expectile: float) -> Tensor:
    """Return squared errors, weighted by ``expectile`` where positive and by its complement where negative."""
    return torch.where(errors > 0, expectile, 1 - expectile) * errors.square()


def deciding_parameters(online: Parameters, snapshots: Sequence[Parameters], n_actions: int) -> Parameters:
    """Return one stack of the members and of their snapshots, with the outputs that are actions."""
    *hidden, weight, bias = [torch.cat(layers) for layers in zip(online, *snapshots, strict=True)]
    return [*hidden, weight[..., :n_actions], bias[..., :n_actions]]


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
        self._n_actions = n_actions
        rows = self._count = len(transitions.actions if transitions.learned_rows is None else transitions.learned_rows)
        self.updates_per_epoch = -(-rows // agent.batch_size)
        self.total_updates = epochs * self.updates_per_epoch
        outputs = n_actions + 1 if agent.algorithm == "iql" else n_actions  # the last one is V
        sizes = (transitions.inputs.shape[1], *agent.hidden_sizes, outputs)
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
            Per update the loss, the gradient's norm, the mean Q of the batch, the step size and the largest
                Q, (updates, 5); or None when ``should_stop`` ended the pass early, after a whole update.
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
        outputs = forward(self.online, data.inputs[rows])
        # A sum over members: each learns at the full step size, as it would alone.
        loss = self._losses(outputs, rows).mean(dim=1).sum()
        gradients = torch.autograd.grad(loss, self.online)
        if agent.weight_decay:
            gradients = tuple(g + agent.weight_decay * p.detach() for g, p in zip(gradients, self.online, strict=True))
        learning_rate = agent.learning_rate
        if agent.learning_rate_schedule == "linear":
            learning_rate *= 1 - self.updates / self.total_updates
        self._adam.step(gradients, learning_rate)
        self._copy_when_due()
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        mean_loss = loss.detach() / agent.members
        values = outputs.detach()[..., : self._n_actions]
        return torch.stack([mean_loss, norm, values.mean(), torch.tensor(learning_rate), values.max()])

    def _losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of each of ``rows`` by the agent's rule, (members, batch)."""
        agent, data = self.agent, self._transitions
        actions = data.actions[rows]
        if agent.algorithm == "bc":
            return negative_log_likelihood(outputs, actions)
        targets = self._iql_targets(rows) if agent.algorithm == "iql" else self._q_targets(rows)
        taken = outputs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        losses = self._loss(taken, targets, reduction="none")
        if agent.loss_over_all_actions:
            losses = losses / self._n_actions
        if agent.algorithm == "cql":
            losses = losses + agent.cql_alpha * negative_log_likelihood(outputs, actions)
        if agent.algorithm == "iql":
            with torch.no_grad():
                target_outputs = forward(self.target, data.inputs[rows])
            advantages = target_outputs.gather(-1, actions.unsqueeze(-1)).squeeze(-1) - outputs[..., -1]
            losses = losses + expectile_loss(advantages, agent.iql_expectile)
        return losses

    @torch.no_grad()
    def _q_targets(self, rows: Tensor) -> Tensor:
        agent, data = self.agent, self._transitions
        next_rows = data.next_rows[rows]
        next_inputs = data.inputs[next_rows]
        next_target = forward(self.target, next_inputs)
        double = agent.double_q and agent.algorithm != "dqn"
        return double_q_targets(
            forward(self.online, next_inputs) if double else next_target,
            next_target,
            data.allowed[next_rows],
            data.rewards[rows],
            data.terminated[rows],
            discount=agent.discount,
        )

    @torch.no_grad()
    def _iql_targets(self, rows: Tensor) -> Tensor:
        data = self._transitions
        next_values = forward(self.online, data.inputs[data.next_rows[rows]])[..., -1]
        return data.rewards[rows] + self.agent.discount * (1 - data.terminated[rows]) * next_values

    def _copy_when_due(self) -> None:
        agent, updates = self.agent, self.updates
        if agent.target_update_rate:
            for slow, fast in zip(self.target, self.online, strict=True):
                slow.lerp_(fast.detach(), agent.target_update_rate)
        elif updates % agent.target_copy_updates == 0:
            self.target = [p.detach().clone() for p in self.online]
        late = updates >= agent.snapshot_after * self.total_updates
        # The last update takes none: the networks themselves are part of the mean.
        if agent.snapshot_updates and updates % agent.snapshot_updates == 0 and late and updates < self.total_updates:
            self.snapshots.append([p.detach().clone() for p in self.online])

    def deciding_parameters(self) -> Parameters:
        """Return the networks whose mean decides: the members as they are now, and their snapshots."""
        return deciding_parameters(self.online, self.snapshots, self._n_actions)

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
