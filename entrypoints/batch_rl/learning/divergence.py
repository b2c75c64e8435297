"""Signs that action values have lost touch with the rewards, while they are still finite."""

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
        best_by: the preset's ``training.best_by``.
    """

    def __init__(self, bound: float, agent: Agent, *, spread: float = 0.0, best_by: str = "WIS") -> None:
        self._bound, self._spread, self._agent = bound, spread, agent
        self._silent = agent.algorithm == "bc"
        self._keeps_best = best_by == "WIS"
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
        best, estimates = self._best, result.estimates
        if best is None or estimates.wis > best.estimates.wis:
            self._best = result
        elif self._rose(best, result) and estimates.sequential_dr < best.estimates.sequential_dr:
            advice = (
                "the checkpoint 'best' is the earlier one"
                if self._keeps_best
                else "training.best_by=WIS would keep the earlier one as the checkpoint 'best'"
            )
            texts["growth"] = (
                f"since epoch {best.epoch} Q has grown from {best.batch_q.mean():.4g} to "
                f"{result.batch_q.mean():.4g}, while WIS fell from {best.estimates.wis:.4g} to {estimates.wis:.4g} "
                f"and sequential DR from {best.estimates.sequential_dr:.4g} to {estimates.sequential_dr:.4g}: "
                f"later values are no better ones. Train for fewer epochs; {advice}."
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
