"""A problem small enough that its whole log can be written down."""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from batch_rl.data.episodes import Episodes

# An MDP with states 0 and 1 that lasts at most three steps: reward REWARDS[s][a]; after a step it ends with
# probability 1/4, else goes to state 0 with probability 1/4 or 1 with 1/2. The log holds every trajectory as often
# as its probability under BEHAVIOR says, so an average over it is an expectation.
HORIZON = 3
REWARDS = ((1.0, -2.0), (0.5, 3.0))
BEHAVIOR = ((Fraction(1, 4), Fraction(3, 4)), (Fraction(1, 2), Fraction(1, 2)))
TARGET = np.array([[0.7, 0.3], [0.1, 0.9]])
MOVES = ((None, Fraction(1, 4)), (0, Fraction(1, 4)), (1, Fraction(1, 2)))
DISCOUNT = 0.9


def trajectories(state, step):
    """Yield (probability, [(state, action), ...]) of all continuations."""
    for action, (following, move) in itertools.product((0, 1), MOVES):
        probability = BEHAVIOR[state][action] * move
        if following is None or step == HORIZON - 1:
            yield probability, [(state, action)]
        else:
            for rest_probability, rest in trajectories(following, step + 1):
                yield probability * rest_probability, [(state, action), *rest]


def true_value(state, step):
    if state is None or step == HORIZON:
        return 0.0
    return sum(
        TARGET[state][a] * (REWARDS[state][a] + DISCOUNT * sum(p * true_value(s, step + 1) for s, p in MOVES))
        for a in (0, 1)
    )


def true_q(state, step, action):
    return REWARDS[state][action] + DISCOUNT * sum(p * true_value(s, step + 1) for s, p in MOVES)


@dataclass(frozen=True)
class World:
    """The log, the state and step of each of its rows, and what is true of the evaluated policy."""

    episodes: Episodes
    states: np.ndarray
    target: np.ndarray  # (states, actions)
    discount: float
    value: float
    q: np.ndarray  # (rows, actions), of the evaluated policy, at each row's state and step

    def rows(self):
        """The log as a table, an episode a trajectory."""
        lengths = self.episodes.lengths
        return {
            "episode": np.repeat(np.arange(len(lengths)), lengths),
            "t": np.concatenate([np.arange(length) for length in lengths]),
            "action": self.episodes.actions,
            "reward": self.episodes.rewards,
            "propensity": self.episodes.propensities,
            "terminated": self.episodes.ends,
            "truncated": np.zeros(len(self.states), dtype=bool),
        }


@pytest.fixture(scope="session")
def world():
    weighted = list(trajectories(0, 0))
    scale = math.lcm(*(probability.denominator for probability, _ in weighted))
    logged = [steps for probability, steps in weighted for _ in range(int(probability * scale))]
    assert len(logged) == scale
    states, actions = np.array([pair for steps in logged for pair in steps]).T
    q = np.array([[[true_q(s, t, a) for a in (0, 1)] for t in range(HORIZON)] for s in (0, 1)])
    return World(
        episodes=Episodes(
            observations=states.astype(np.float32)[:, None],
            actions=actions,
            rewards=np.array(REWARDS)[states, actions],
            probabilities=np.array(BEHAVIOR, dtype=np.float64)[states],
            lengths=np.array([len(steps) for steps in logged]),
        ),
        states=states,
        target=TARGET,
        discount=DISCOUNT,
        value=true_value(0, 0),
        q=q[states, np.concatenate([np.arange(len(steps)) for steps in logged])],
    )
