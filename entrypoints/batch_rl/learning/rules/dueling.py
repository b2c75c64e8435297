"""``dueling``: double Q-learning with a value of the state and an advantage of each action, added up.

Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning", ICML 2016, equation 9, with one hidden
stack for both streams. Q = V + A - mean(A) is linear in the outputs, so it joins the last layer of what is served.
"""

import torch

from batch_rl.learning.rules.ddqn import DoubleDqn
from batch_rl.presets.schema import Agent


class Dueling(DoubleDqn):
    """Outputs are the advantages and, last, the value of the state."""

    def __init__(self, agent: Agent, n_actions: int) -> None:
        super().__init__(agent, n_actions)
        self.n_outputs = n_actions + 1
        self.values_from = torch.cat([torch.eye(n_actions) - 1 / n_actions, torch.ones(1, n_actions)])
