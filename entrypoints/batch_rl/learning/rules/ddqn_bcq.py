"""``ddqn_bcq``: double Q-learning among the actions that the log supports, in targets and in play.

Fujimoto, Conti, Ghavamzadeh, Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms", 2019. The policy is
the best of the supported actions. Section ``bcq`` of the preset says which those are.
"""

from batch_rl.learning.rules.ddqn import DoubleDqn


class DoubleDqnBcq(DoubleDqn):
    """As ``ddqn``, bound to the log's actions by the thresholds of the section ``bcq``."""

    target_actions = "supported"
