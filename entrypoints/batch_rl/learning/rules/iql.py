"""``iql``: a value of the state is fitted to an upper expectile of Q at the logged actions, and counts as the target.

Kostrikov, Nair, Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022. No target asks for an
action that was not logged, and nor does the policy: it is extracted by advantage-weighted regression, the likelihood of
the logged actions weighted by exp((Q - V) / agent.iql_temperature), at most 100, as in the paper (whose beta is one
over the temperature). Q, V and the policy share their hidden layers.
"""

import torch
from torch import Tensor

from batch_rl.learning.losses import expectile_loss, negative_log_likelihood
from batch_rl.learning.rules.base import Batch, TemporalDifference
from batch_rl.presets.schema import Agent

LARGEST_WEIGHT = 100.0


class Iql(TemporalDifference):
    """Outputs are Q of each action, V, and the policy's logits.

    With ``agent.iql_policy=values`` there are no logits, and the values decide. The scores are the logits times
    ``agent.iql_temperature``, which are in units of value: the policy is softmax(scores / that temperature).
    """

    target_of = "own"
    asks_next = True

    def __init__(self, agent: Agent, n_actions: int) -> None:
        super().__init__(agent, n_actions)
        self.extracts = agent.iql_policy == "regression"
        self.n_outputs = n_actions + 1 + n_actions * self.extracts
        if self.extracts:
            self.scores_from = agent.iql_temperature * torch.eye(self.n_outputs).T[:, n_actions + 1 :].contiguous()

    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``Rule``."""
        assert batch.target is not None  # target_of is own
        agent, actions, value = self.agent, batch.actions, outputs[..., self.n_actions]
        targets = batch.rewards + batch.going_on * next_outputs[..., self.n_actions]
        losses, gradient = self.errors(outputs, actions, targets)
        advantages = batch.target.gather(-1, actions.unsqueeze(-1)).squeeze(-1) - value
        further, slope = expectile_loss(advantages, agent.iql_expectile)
        losses = losses + further
        gradient[..., self.n_actions] = -slope
        if self.extracts:
            weights = (advantages / agent.iql_temperature).exp().clamp_max(LARGEST_WEIGHT)
            surprise, slopes = negative_log_likelihood(outputs[..., self.n_actions + 1 :], actions)
            losses = losses + weights * surprise
            gradient[..., self.n_actions + 1 :] = weights.unsqueeze(-1) * slopes
        return losses, gradient
