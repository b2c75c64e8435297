"""Signs that action values have lost touch with the rewards, while they are still finite."""

from batch_rl.learning.training import EpochResult
from batch_rl.presets.schema import Agent


def largest_possible_value(reward: float, discount: float) -> float:
    """Return a value that no policy can exceed, if ``reward`` is the largest there is; infinite without discount.

    That is the largest reward forever; where no reward is above 0, the largest one once, as episodes may end.
    """
    if reward <= 0:
        return reward
    return reward / (1 - discount) if discount < 1 else float("inf")


class ValueWatch:
    """Looks at every epoch of a run, and gives each warning once.

    Args:
        bound: see ``largest_possible_value``.
        agent: behavior cloning has no values, so nothing is said about it.
    """

    def __init__(self, bound: float, agent: Agent) -> None:
        self._bound = bound
        self._silent = agent.algorithm == "bc"
        self._best: EpochResult | None = None
        self._given: set[str] = set()

    def warnings(self, result: EpochResult) -> list[str]:
        """Return what is to be said after an epoch, a line each."""
        if self._silent:
            return []
        found = {}
        if result.largest_q > self._bound:
            found["bound"] = (
                f"Q reached {result.largest_q:.4g} in epoch {result.epoch}, but no return can exceed "
                f"{self._bound:.4g}: the values of some actions are overestimated. Lower agent.learning_rate, "
                "copy to the target network less often, or choose agent.algorithm=cql or iql."
            )
        best, estimates = self._best, result.estimates
        if best is None or estimates.wis > best.estimates.wis:
            self._best = result
        elif (
            abs(result.batch_q.mean()) >= 2 * abs(best.batch_q.mean())
            and estimates.sequential_dr < best.estimates.sequential_dr
        ):
            found["growth"] = (
                f"since epoch {best.epoch} Q has grown from {best.batch_q.mean():.4g} to "
                f"{result.batch_q.mean():.4g}, while WIS fell from {best.estimates.wis:.4g} to {estimates.wis:.4g} "
                f"and sequential DR from {best.estimates.sequential_dr:.4g} to {estimates.sequential_dr:.4g}: "
                "later values are no better ones. Train for fewer epochs; with training.best_by=WIS the checkpoint "
                "'best' is the earlier one."
            )
        new = [text for kind, text in found.items() if kind not in self._given]
        self._given |= found.keys()
        return new
