"""``cql``: Q-learning that pushes the values of all actions below that of the logged one.

Kumar, Zhou, Tucker, Levine, "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020, CQL(H).
"""

from torch import Tensor

from batch_rl.learning.losses import negative_log_likelihood
from batch_rl.learning.rules.base import Batch
from batch_rl.learning.rules.ddqn import DoubleDqn


class Cql(DoubleDqn):
    """As ``ddqn``, plus ``agent.cql_alpha`` times the surprise of softmax(Q) at the logged action."""

    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``Rule``."""
        losses, gradient = super().losses(outputs, next_outputs, batch)
        penalties, slopes = negative_log_likelihood(outputs, batch.actions)
        alpha = self.agent.cql_alpha
        return losses + alpha * penalties, gradient.add_(slopes, alpha=alpha)
