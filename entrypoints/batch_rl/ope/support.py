"""Whether a log can judge a policy: the share of the policy's actions that the log has tried."""

from dataclasses import dataclass

import numpy as np

from batch_rl.ope.steps import Floats, Layout

RARE = 0.01
LARGEST_LEAVING = 0.05
LARGEST_RARE = 0.5


@dataclass(frozen=True)
class Support:
    """How much of a policy's probability is on actions that the policy that logged never takes, or hardly ever.

    No estimator corrects for actions that were never tried: the doubly robust ones are unbiased only where these
    shares are 0.

    Args:
        unsupported: mean over the logged steps, of the probability of actions whose propensity is 0.
        leaving: mean over the logged episodes, of the chance that the policy takes such an action on their way.
        rare: mean over the logged steps, of the probability of actions whose propensity is below ``RARE``.
    """

    unsupported: float
    leaving: float
    rare: float

    @property
    def enough(self) -> bool:
        """Whether an interval may be stated."""
        return self.leaving <= LARGEST_LEAVING and self.rare <= LARGEST_RARE

    def __str__(self) -> str:
        return (
            f"{self.unsupported:.1%} of the policy's probability is on actions that the policy that logged never takes "
            f"(in {self.leaving:.1%} of the episodes it would take one), and {self.rare:.1%} on actions that it takes "
            f"less than {RARE:.0%} of the time"
        )


def measure_support(layout: Layout, behavior: Floats, target: Floats) -> Support:
    """Compare two policies at every logged step.

    Args:
        behavior, target: probabilities of the policy that logged and of the evaluated one, (rows, n_actions), in the
            layout's order.
    """
    never = np.where(behavior <= 0, target, 0.0).sum(axis=1)
    with np.errstate(divide="ignore"):
        staying = np.exp(layout.sum_by_episode(np.log1p(-np.minimum(never, 1.0))))
    return Support(
        unsupported=float(never.mean()),
        leaving=float(1 - staying.mean()),
        rare=float(np.where(behavior < RARE, target, 0.0).sum(axis=1).mean()),
    )
