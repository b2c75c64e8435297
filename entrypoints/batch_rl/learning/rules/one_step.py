"""``one_step``: the next action is the logged one, so Q values the policy of the log, and one greedy step follows.

Brandfonbrener, Whitney, Ranganath, Bruna, "Offline RL Without Off-Policy Evaluation", NeurIPS 2021. The step is
constrained: only actions that the log supports are played.
"""

from batch_rl.learning.rules.dqn import Dqn


class OneStep(Dqn):
    """As ``dqn``, with the logged next action alone (SARSA). A truncated episode's last action has no next one."""

    target_actions = "logged"
