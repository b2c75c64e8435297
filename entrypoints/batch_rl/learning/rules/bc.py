"""``bc``: no values; the outputs are the logits of a policy that imitates the log, or its best episodes."""

from torch import Tensor

from batch_rl.learning.losses import negative_log_likelihood
from batch_rl.learning.rules.base import Batch, Rule


class BehaviorCloning(Rule):
    """The likelihood of the logged actions, of the ``agent.imitated_share`` of episodes with the highest returns."""

    target_of = "nothing"
    has_values = False

    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``Rule``."""
        return negative_log_likelihood(outputs, batch.actions)

    @property
    def imitated_share(self) -> float:
        """See ``Rule``."""
        return self.agent.imitated_share
