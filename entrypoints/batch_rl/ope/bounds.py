"""What no policy's value can leave: rewards and discount say how much an episode can bring at most."""

import math

from batch_rl.ope.steps import Floats, Integers


def possible_returns(rewards: Floats, lengths: Integers, discount: float, *, truncated: bool) -> tuple[float, float]:
    """Return the least and the most that an episode can bring if rewards are never outside of those in a log.

    An episode has a step at least and may last forever; where every logged one ended after its first step, all do.

    Args:
        rewards: (rows,).
        lengths: (episodes,) steps of each.
        discount: in [0, 1], per step.
        truncated: an episode was cut, so that it may have gone on.
    Returns:
        In discounted reward; infinite where nothing bounds them.
    """
    one_step = not truncated and int(lengths.max()) == 1
    longest = 1.0 if one_step else 1 / (1 - discount) if discount < 1 else math.inf
    least, most = float(rewards.min()), float(rewards.max())
    return least * (longest if least < 0 else 1.0), most * (longest if most > 0 else 1.0)


def cut(value: float, bounds: tuple[float, float]) -> float:
    """Return the value, or the bound that it is beyond; NaN stays."""
    return value if math.isnan(value) else min(max(value, bounds[0]), bounds[1])
