"""Signs that action values have lost touch with the rewards, while they are still finite."""

import math

from batch_rl.learning.training import EpochResult
from batch_rl.presets.schema import Agent

SLACK = 0.1  # how far above every possible return a value may lie, in deviations of the logged returns


def largest_possible_value(reward: float, discount: float) -> float:
    """Return a value that no policy can exceed, if ``reward`` is the largest there is; infinite without discount.

    That is the largest reward forever; where no reward is above 0, the largest one once, as episodes may end.
    """
    if reward <= 0:
        return reward
    return reward / (1 - discount) if discount < 1 else float("inf")


class ValueWatch:
    """Looks at every epoch of a run, and gives each warning once.

    The first epoch says nothing: its values are partly those of the first weights.

    Args:
        bound: see ``largest_possible_value``.
        agent: behavior cloning has no values, so nothing is said about it.
        spread: deviation of the logged returns, in units of reward; values are not more exact than a share of it.
        best_by: the estimate that makes a checkpoint the best.
    """

    def __init__(self, bound: float, agent: Agent, *, spread: float = 0.0, best_by: str = "WIS") -> None:
        self._bound, self._spread, self._agent = bound, spread, agent
        self._silent = agent.algorithm == "bc"
        self._best_by = best_by
        self._best: EpochResult | None = None
        self._given: set[str] = set()

    def warnings(self, result: EpochResult) -> list[str]:
        """Return the warnings after an epoch, a line each."""
        if self._silent:
            return []
        texts = {}
        if result.epoch > 1 and result.largest_q > self._bound + SLACK * self._spread:
            texts["bound"] = (
                f"Q reached {result.largest_q:.4g} in epoch {result.epoch}, but no return can exceed "
                f"{self._bound:.4g}: the values of some actions are overestimated. {self._advice()}"
            )
        best, name = self._best, self._best_by
        value, dr = result.estimates.value(name), result.estimates.sequential_dr
        if best is None:
            if math.isfinite(value):
                self._best = result
        elif value > (best_value := best.estimates.value(name)):
            self._best = result
        elif self._rose(best, result) and value < best_value and dr < best.estimates.sequential_dr:
            texts["growth"] = (
                f"since epoch {best.epoch} Q has grown from {best.batch_q.mean():.4g} to "
                f"{result.batch_q.mean():.4g}, while {name} fell from {best_value:.4g} to {value:.4g} "
                f"and Coach's sequential DR from {best.estimates.sequential_dr:.4g} to {dr:.4g}: "
                "later values are no better ones. Train for fewer epochs; the checkpoint 'best' is the earlier one."
            )
        new = [text for kind, text in texts.items() if kind not in self._given]
        self._given |= texts.keys()
        return new

    def _rose(self, best: EpochResult, result: EpochResult) -> bool:
        """Return whether Q has risen by its own size: overestimation rises, whatever the sign of the returns."""
        earlier, now = float(best.batch_q.mean()), float(result.batch_q.mean())
        return now - earlier >= max(abs(earlier), self._spread)

    def _advice(self) -> str:
        agent = self._agent
        slower = (
            "lower agent.target_update_rate"
            if agent.target_update_rate
            else f"copy to the target network less often (agent.target_copy_updates is {agent.target_copy_updates})"
        )
        choice = "" if agent.algorithm in ("cql", "iql") else ", or choose agent.algorithm=cql or iql"
        return f"Lower agent.learning_rate, {slower}{choice}."
