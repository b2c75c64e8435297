"""``quantile``: learns the distribution of the return of each action by its quantiles (QR-DQN).

Dabney, Rowland, Bellemare, Munos, "Distributional Reinforcement Learning with Quantile Regression", AAAI 2018. Q is
the mean of an action's quantiles. The next action is chosen as in ``ddqn``.
"""

import torch
from torch import Tensor

from batch_rl.learning.losses import quantile_loss
from batch_rl.learning.rules.base import Batch, Rule
from batch_rl.presets.schema import Agent


class Quantile(Rule):
    """Outputs are ``agent.quantiles`` of action 0, then of action 1, and so on."""

    def __init__(self, agent: Agent, n_actions: int) -> None:
        super().__init__(agent, n_actions)
        self.asks_next = agent.double_q
        self.n_outputs = n_actions * agent.quantiles
        self.values_from = torch.eye(n_actions).repeat_interleave(agent.quantiles, dim=0) / agent.quantiles

    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``Rule``."""
        assert batch.target is not None  # target_of is next
        choosing = self.values(next_outputs if self.asks_next else batch.target)
        best = choosing.masked_fill(batch.forbidden, -torch.inf).argmax(dim=-1)
        following = self._of(batch.target, best)
        targets = batch.rewards.unsqueeze(-1) + batch.going_on.unsqueeze(-1) * following
        losses, slopes = quantile_loss(self._of(outputs, batch.actions), targets)
        gradient = torch.zeros_like(outputs)
        by_action = gradient.view(*batch.actions.shape, self.n_actions, -1)
        by_action.scatter_(-2, self._at(batch.actions), slopes.unsqueeze(-2))
        return losses, gradient

    def _at(self, actions: Tensor) -> Tensor:
        return actions[..., None, None].expand(*actions.shape, 1, self.agent.quantiles)

    def _of(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Return the quantiles of one action of each row, (members, batch, quantiles)."""
        by_action = outputs.reshape(*actions.shape, self.n_actions, self.agent.quantiles)
        return by_action.gather(-2, self._at(actions)).squeeze(-2)
