"""Learning from logged transitions, over an ensemble of networks that learn side by side.

What is learned is the rule's (``batch_rl.learning.rules``). Each member has its own weights, target network and order
of batches. Snapshots of all members join the mean that decides: late in training single networks disagree about small
gaps between actions, and their mean does not.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batch_rl.learning.hosts import ALONE, Hosts
from batch_rl.learning.rules import make_rule
from batch_rl.learning.rules.base import Batch
from batch_rl.networks import (
    Adam,
    Parameters,
    backpropagate,
    forward,
    initial_parameters,
    joined,
    last_outputs,
    layer_inputs,
    parted,
)
from batch_rl.presets.schema import Agent

BATCHES_AT_ONCE = 16  # more would no longer fit into the processor's cache


@dataclass(frozen=True)
class Transitions:
    """What the learner sees, in rows; every tensor on one device.

    ``next_rows`` is the row of the observation that a target looks ahead to, the next one or a later one; where
    ``terminated`` is 1 it is not used. ``rewards`` are all those up to there, discounted.
    """

    inputs: Tensor  # (rows, in), standardised
    actions: Tensor  # (rows,)
    rewards: Tensor  # (rows,) float32
    terminated: Tensor  # (rows,) float32, 0 or 1
    next_rows: Tensor  # (rows,)
    allowed: Tensor  # (rows, n_actions) bool, actions that targets may use in the row's observation
    learned_rows: Tensor | None = None  # those to learn from; None: all. The others are next rows alone
    discounts: Tensor | None = None  # (rows,), of the value at ``next_rows``; None: the agent's, for one step

    @property
    def count(self) -> int:
        """Number of rows to learn from."""
        return len(self.actions if self.learned_rows is None else self.learned_rows)

    def to(self, device: torch.device) -> "Transitions":
        """Return the same rows on a device."""
        tensors: dict[str, Tensor | None] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        moved: dict[str, Any] = {name: None if value is None else value.to(device) for name, value in tensors.items()}
        return Transitions(**moved)

    def select(self, rows: Tensor) -> "Transitions":
        """Return some of the rows, without the next ones: for rules that never look at those."""
        return Transitions(
            inputs=self.inputs[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            terminated=self.terminated[rows],
            next_rows=torch.arange(len(rows)),
            allowed=self.allowed[rows],
            discounts=None if self.discounts is None else self.discounts[rows],
        )


class Ensemble:
    """Networks that learn side by side, with target networks, snapshots and an optimiser.

    Args:
        input_size: number of standardised features.
        generator: draws the first weights.
        device: where they learn.
        hosts: that learn the same networks together.
    """

    def __init__(
        self,
        agent: Agent,
        input_size: int,
        *,
        n_actions: int,
        generator: torch.Generator,
        device: torch.device | None = None,
        hosts: Hosts = ALONE,
    ) -> None:
        self.agent, self.n_actions, self.hosts = agent, n_actions, hosts
        self.rule = make_rule(agent, n_actions)
        sizes = (input_size, *agent.hidden_sizes, self.rule.n_outputs)
        weights, self.online = joined([p.to(device) for p in initial_parameters(sizes, agent.members, generator)])
        self._target_weights = weights.clone()
        self.target = parted(self._target_weights, self.online)
        self.snapshots: list[Parameters] = []
        self._adam = Adam(
            weights,
            beta1=agent.adam_beta1,
            beta2=agent.adam_beta2,
            epsilon=agent.adam_epsilon,
            weight_decay=agent.weight_decay,
        )
        self._reduced = weights.new_empty(len(weights) + 1)  # the last value belongs to the hosts
        self._gradient = self._reduced[:-1]
        self._gradients = parted(self._gradient, self.online)

    @property
    def updates(self) -> int:
        """Gradient updates so far."""
        return self._adam.updates

    def _step(self, taken: Sequence[Tensor], gradient: Tensor, learning_rate: float, rows: int) -> Tensor:
        """Go down by one step, renew the target networks when due, and return the gradient's norm.

        Args:
            taken: what each layer took, (members, batch, ...).
            gradient: the losses' derivative by the outputs; it is overwritten.
            rows: of the batch, on all hosts together.
        """
        agent = self.agent
        # A mean over the batch and a sum over members: each learns at the full step size, as it would alone.
        backpropagate(self.online, taken, gradient.div_(rows), self._gradients)
        self.hosts.add_gradients(self._reduced)
        if agent.l2_regularization:
            self._gradient.add_(self._adam.parameters, alpha=agent.l2_regularization)
        norm: Tensor = torch.linalg.vector_norm(self._gradient)
        self._adam.step(self._gradient, learning_rate)
        if agent.target_update_rate:
            self._target_weights.lerp_(self._adam.parameters, agent.target_update_rate)
        elif self.updates % agent.target_copy_updates == 0:
            self._target_weights.copy_(self._adam.parameters)
        return norm

    def deciding_parameters(self) -> Parameters:
        """Return the networks whose mean decides: the members as they are now, and their snapshots."""
        return self.rule.deciding_parameters(self.online, self.snapshots)

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return {
            "online": self.online,
            "target": self.target,
            "snapshots": self.snapshots,
            "adam_means": parted(self._adam.means, self.online),
            "adam_squares": parted(self._adam.squares, self.online),
            "updates": self.updates,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by one of the same data and preset."""
        own = Ensemble.state(self)
        for name in ("online", "target", "adam_means", "adam_squares"):
            for tensor, saved in zip(own[name], state[name], strict=True):
                tensor.copy_(saved)
        self.snapshots = [list(snapshot) for snapshot in state["snapshots"]]
        self._adam.updates = state["updates"]


class Learner(Ensemble):
    """The networks, their optimiser and where training stands.

    Args:
        transitions: at least one; learning happens where they are.
        parts: rows to learn from in each part, where ``transitions`` is only one of an epoch's parts.
        n_actions: width of the output.
        epochs: after which the step size has fallen to 0.
        generator: draws the first weights and the order of batches.
        hosts: that learn the same networks together, from the same rows in the same order.
    """

    def __init__(
        self,
        transitions: Transitions,
        agent: Agent,
        *,
        n_actions: int,
        epochs: int,
        generator: torch.Generator,
        parts: Sequence[int] = (),
        hosts: Hosts = ALONE,
    ) -> None:
        self.device = transitions.inputs.device
        super().__init__(
            agent,
            transitions.inputs.shape[1],
            n_actions=n_actions,
            generator=generator,
            device=self.device,
            hosts=hosts,
        )
        self.use(transitions)
        self._generator = generator
        self.updates_per_epoch = sum(-(-rows // agent.batch_size) for rows in parts or (transitions.count,))
        self.total_updates = epochs * self.updates_per_epoch
        self._epoch_start = generator.get_state()
        self._statistics: list[Tensor] = []

    def use(self, transitions: Transitions) -> None:
        """Learn from these rows in the next pass, or in the rest of an interrupted one."""
        self._transitions = transitions

    @torch.inference_mode()  # an update is some seventy small operations: what autograd notes of each is a fifth of it
    def run_epoch(self, should_stop: Callable[[], bool] = lambda: False) -> Tensor | None:
        """Train on one shuffled pass, or on the rest of an interrupted one.

        Returns:
            Per update the loss, the gradient's norm, the mean Q of the batch, the step size and the largest
                Q, (updates, 5); or None when ``should_stop`` ended the pass early, after a whole update.
        """
        agent, rows = self.agent, self._transitions.count
        update = self.updates - len(self._statistics)  # at which the pass began
        self._generator.set_state(self._epoch_start)
        orders = torch.stack([torch.randperm(rows, generator=self._generator) for _ in range(agent.members)])
        start = 0
        while start < rows:
            # A run that goes on cuts as one that ran through, for the last digits depend on it.
            every = 1 if agent.target_update_rate else agent.target_copy_updates
            until_copy = every - update % every
            count = min(max((rows - start) // agent.batch_size, 1), until_copy, BATCHES_AT_ONCE)
            end = min(start + count * agent.batch_size, rows)
            if update + count > self.updates:
                first = self.updates - update
                learned = []
                size = (end - start) // count
                for inputs, batch in self._prepare(orders[:, start:end].to(self.device), count)[first:]:
                    if self.hosts.must_stop(should_stop):
                        break
                    learned.append(self._update(inputs, batch, size))
                if learned:
                    self._statistics += self._summarize(learned, size)
                if first + len(learned) < count:
                    return None
            start, update = end, update + count
        self._epoch_start = self._generator.get_state()
        statistics, self._statistics = torch.stack(self._statistics).cpu(), []
        return statistics

    def _prepare(self, rows: Tensor, count: int) -> list[tuple[Tensor, Batch]]:
        """Look up and compute together what ``count`` batches of ``rows``, (members, rows), need.

        Their own steps do not change it. The inputs of each, (members, batch, in), have the next observations behind
        them where the rule asks for those. Of several hosts each has its share of the rows of every batch.
        """
        agent, data = self.agent, self._transitions
        share = self.hosts.own_share(rows.view(len(rows), count, rows.shape[1] // count))
        rows = share.reshape(len(rows), share.shape[1] * share.shape[2])
        if data.learned_rows is not None:
            rows = data.learned_rows[rows]
        next_rows = data.next_rows[rows]
        target = None
        if self.rule.target_of != "nothing":
            target = forward(self.target, data.inputs[rows if self.rule.target_of == "own" else next_rows])
        looked_at = rows.view(share.shape)
        if self.rule.asks_next:
            looked_at = torch.cat([looked_at, next_rows.view(looked_at.shape)], dim=2)
        going_on = (agent.discount if data.discounts is None else data.discounts[rows]) * (1 - data.terminated[rows])
        of_all = (data.actions[rows], data.rewards[rows], going_on, ~data.allowed[next_rows], target)
        sizes = [share.shape[2]] * count
        cut = [[None] * count if tensor is None else torch.split(tensor, sizes, dim=1) for tensor in of_all]
        inputs = data.inputs[looked_at.transpose(0, 1)].unbind()
        return [(own, Batch(*of_one)) for own, *of_one in zip(inputs, *cut, strict=True)]

    def _update(self, inputs: Tensor, batch: Batch, rows: int) -> tuple[Tensor, Tensor, Tensor, float]:
        """Train every member on its batch, which has ``rows`` on all hosts together.

        Returns:
            The losses, (members, batch), the gradient's norm, Q, (members, batch, n_actions), and the step size.
        """
        agent, size = self.agent, batch.actions.shape[1]
        taken = layer_inputs(self.online, inputs)
        outputs = last_outputs(self.online, taken[-1])
        if self.rule.asks_next:
            taken = [layer.narrow(1, 0, size) for layer in taken]
            outputs, next_outputs = outputs.narrow(1, 0, size), outputs.narrow(1, size, size)
        else:
            next_outputs = outputs[:, size:]
        losses, gradient = self.rule.losses(outputs, next_outputs, batch)
        learning_rate = agent.learning_rate
        if agent.learning_rate_schedule == "linear":
            learning_rate *= 1 - self.updates / self.total_updates
        norm = self._step(taken, gradient, learning_rate, rows)
        self._add_snapshot_when_due()
        return losses, norm, self.rule.values(outputs), learning_rate

    def _summarize(self, learned: Sequence[tuple[Tensor, Tensor, Tensor, float]], rows: int) -> Tensor:
        """Return what ``run_epoch`` reports of updates, from what ``_update`` returned; together, as it is faster.

        Args:
            rows: of a batch, on all hosts together.
        """
        losses, norms, values, learning_rates = zip(*learned, strict=True)
        loss, q = torch.stack(losses).flatten(1), torch.stack(values).flatten(1)
        if self.hosts.count == 1:
            means, largest = (loss.mean(dim=1), q.mean(dim=1)), q.max(dim=1).values
        else:
            sums = torch.stack([loss.sum(dim=1), q.sum(dim=1)])
            self.hosts.add_up(sums)
            of_all = rows * len(losses[0])
            means = sums[0] / of_all, sums[1] / (of_all * self.n_actions)
            # A host without a row in these batches has no largest value.
            largest = q.max(dim=1).values if q.shape[1] else q.new_full((len(q),), -torch.inf)
            self.hosts.take_largest(largest)
        return torch.stack([means[0], torch.stack(norms), means[1], q.new_tensor(learning_rates), largest], dim=1)

    def _add_snapshot_when_due(self) -> None:
        agent, updates = self.agent, self.updates
        late = updates >= agent.snapshot_after * self.total_updates
        # The last update takes none: the networks themselves are part of the mean.
        if agent.snapshot_updates and updates % agent.snapshot_updates == 0 and late and updates < self.total_updates:
            with torch.inference_mode(False):  # it stays, and others may have to write to it
                self.snapshots.append([p.clone() for p in self.online])

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return super().state() | {"epoch_start": self._epoch_start, "statistics": self._statistics}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a learner of the same data and agent."""
        super().restore(state)
        self._epoch_start = state["epoch_start"]
        self._statistics = [statistics.to(self.device) for statistics in state["statistics"]]
