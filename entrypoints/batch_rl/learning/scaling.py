"""Values in units of the logged returns, so that no step size, decay or temperature depends on the unit of rewards."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes

# Learned values in a deviation of the logged returns. With 1 the same step size and decay smooth Q less: the default
# preset then failed on some of CartPole's logs, and on one with values counted from the mean return.
UNITS = 10.0


@dataclass(frozen=True)
class ValueScaling:
    """What is learned is (Q - center) / scale; Q itself is in units of reward.

    Attributes:
        constant: taken out of every reward beforehand, where episodes all have one length: there it adds the same to
            whatever is done.
        center: what the constant adds to Q, on average over the logged steps.
    """

    scale: float = 1.0
    constant: float = 0.0
    center: float = 0.0

    def rewards(self, rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rewards of single steps to learn from, (rows,)."""
        return (rewards - self.constant) / self.scale

    def values(self, learned: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values in units of reward, for those that were learned."""
        return self.center + self.scale * learned


def scaling_of(episodes: Episodes, discount: float) -> ValueScaling:
    """Return the scaling by the deviation of the discounted rewards from each logged step to its episode's end."""
    constant, center = 0.0, 0.0
    if (episodes.lengths == episodes.lengths[0]).all() and len(np.unique(episodes.rewards)) > 1:
        constant = float(episodes.rewards.mean())
        ones = dataclasses.replace(episodes, rewards=np.ones(len(episodes.rewards)))
        center = constant * float(returns_to_go(ones, discount).mean())
    returns = returns_to_go(dataclasses.replace(episodes, rewards=episodes.rewards - constant), discount)
    deviation, largest = float(returns.std()), float(np.abs(returns).max())
    # Where all returns are the same, their size is the only unit there is.
    if deviation <= 1e-8 * largest:
        deviation = largest or 1.0
    return ValueScaling(deviation / UNITS, constant, center)


def returns_to_go(episodes: Episodes, discount: float) -> NDArray[np.float64]:
    """Return the discounted rewards from each row to the end of its episode, (rows,)."""
    returns = episodes.rewards.astype(np.float64)
    last_rows = episodes.starts + episodes.lengths - 1
    for back in range(1, int(episodes.lengths.max())):
        rows = last_rows[episodes.lengths > back] - back
        returns[rows] += discount * returns[rows + 1]
    return returns
