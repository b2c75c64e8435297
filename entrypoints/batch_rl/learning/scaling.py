"""Values in units of the logged returns, so that no step size, decay or temperature depends on the unit of rewards."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.data.episodes import Episodes


@dataclass(frozen=True)
class ValueScaling:
    """What is learned is (Q - center) / scale; Q itself is in units of reward.

    The rewards that this asks for, (r - center + discount * center) / scale, and (r - center) / scale at an end, pose
    the same problem exactly: differences between actions are only divided by ``scale``.

    Attributes:
        constant: taken out of every reward beforehand, where episodes all have one length: there it adds the same to
            whatever is done. ``center`` has its mean share of the values.
    """

    center: float = 0.0
    scale: float = 1.0
    constant: float = 0.0
    constant_value: float = 0.0  # what it adds to the mean value

    def rewards(self, rewards: Tensor, going_on: Tensor) -> Tensor:
        """Return the rewards to learn from.

        Args:
            rewards: (rows,), less the constant, up to the observation that is looked ahead to.
            going_on: (rows,), what that one's value counts for; 0 at an end.
        """
        return (rewards + (self.center - self.constant_value) * (going_on - 1)) / self.scale

    def values(self, learned: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values in units of reward, for those that were learned."""
        return self.center + self.scale * learned


def scaling_of(episodes: Episodes, discount: float) -> ValueScaling:
    """Return the mean and the deviation of the discounted rewards from each logged step to its episode's end."""
    constant, constant_value = 0.0, 0.0
    if (episodes.lengths == episodes.lengths[0]).all() and len(np.unique(episodes.rewards)) > 1:
        constant = float(episodes.rewards.mean())
        ones = dataclasses.replace(episodes, rewards=np.ones(len(episodes.rewards)))
        constant_value = constant * float(returns_to_go(ones, discount).mean())
    returns = returns_to_go(dataclasses.replace(episodes, rewards=episodes.rewards - constant), discount)
    center, deviation = float(returns.mean()), float(returns.std())
    # Where all returns are the same, their size is the only unit there is.
    if deviation <= 1e-8 * float(np.abs(returns).max()):
        deviation = abs(center) or 1.0
    return ValueScaling(center + constant_value, deviation, constant, constant_value)


def returns_to_go(episodes: Episodes, discount: float) -> NDArray[np.float64]:
    """Return the discounted rewards from each row to the end of its episode, (rows,)."""
    returns = episodes.rewards.astype(np.float64)
    last_rows = episodes.starts + episodes.lengths - 1
    for back in range(1, int(episodes.lengths.max())):
        rows = last_rows[episodes.lengths > back] - back
        returns[rows] += discount * returns[rows + 1]
    return returns
