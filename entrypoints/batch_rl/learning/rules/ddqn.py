"""``ddqn``: Q-learning in which the learning network chooses the next action and the target network values it.

Van Hasselt, Guez, Silver, "Deep Reinforcement Learning with Double Q-Learning", AAAI 2016.
"""

from batch_rl.learning.rules.dqn import Dqn
from batch_rl.presets.schema import Agent


class DoubleDqn(Dqn):
    """As ``dqn``, with two networks in a target; ``agent.double_q`` turns the second one off."""

    def __init__(self, agent: Agent, n_actions: int) -> None:
        super().__init__(agent, n_actions)
        self.asks_next = agent.double_q
