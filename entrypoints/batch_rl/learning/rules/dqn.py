"""``dqn``: Q-learning; the target network chooses the next action and values it.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015.
"""

from torch import Tensor

from batch_rl.learning.losses import double_q_targets
from batch_rl.learning.rules.base import Batch, TemporalDifference


class Dqn(TemporalDifference):
    """Targets are r + discount * max Q_target(s', a'), or a soft maximum."""

    def losses(self, outputs: Tensor, next_outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See ``Rule``."""
        return self.errors(outputs, batch.actions, self.targets(next_outputs, batch))

    def targets(self, next_outputs: Tensor, batch: Batch) -> Tensor:
        """Return the targets, (members, batch)."""
        assert batch.target is not None  # target_of is next
        valued = self.values(batch.target)
        return double_q_targets(
            self.values(next_outputs) if self.asks_next else valued,
            valued,
            batch.forbidden,
            batch.rewards,
            batch.going_on,
            self.agent.target_temperature,
        )
