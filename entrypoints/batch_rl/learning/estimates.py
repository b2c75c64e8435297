"""What the held-out episodes say of the policy as it is now, after each epoch."""

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl import ope
from batch_rl.learning.learner import Learner, Transitions
from batch_rl.learning.models import RewardModel
from batch_rl.learning.preparation import PreparedData
from batch_rl.learning.scaling import ValueScaling
from batch_rl.learning.support import Support
from batch_rl.networks import Parameters, PolicyNetwork, forward, seeded_generator, softmax
from batch_rl.presets.schema import LOWER_END, needs_model

EVALUATION = 4  # the purpose of a generator; see batch_rl.learning.training


@dataclass(frozen=True)
class PolicyEstimates:
    """What the held-out episodes say about softmax(Q / temperature).

    The first ones are Coach's, with the agent's own Q as sequential DR's q_hat; ``trajectory`` has those of the
    preset's ``ope.estimators``, with the values of the scored policy by fitted Q evaluation as q_hat.
    """

    wis: float  # discounted reward per episode
    sequential_dr: float  # discounted reward per episode
    one_step_ips: float  # reward per step, as the next two
    one_step_dm: float
    one_step_dr: float
    weights: ope.WeightDiagnostics
    trajectory: ope.PolicyEvaluation | None = None
    fqe: ope.EstimatedValue | None = None  # of the last epoch, where the preset asks for it

    def value(self, name: str) -> float:
        """Return an estimate, or the lower end of its interval by the name and " Low"; NaN where there is none."""
        if name == "WIS" or self.trajectory is None:  # Coach's is the same estimator
            return self.wis
        estimate = self.trajectory[name.removesuffix(LOWER_END)]
        if not name.endswith(LOWER_END):
            return estimate.value
        return estimate.interval.lower if estimate.interval else math.nan


class _ScoredOutputs:
    """The mean outputs of all networks, at inputs that stay the same, as values and as scores.

    What snapshots say there stays the same too, so it is asked once: they are most of the networks.
    """

    def __init__(self, learner: Learner, inputs: Tensor, support: Support | None) -> None:
        self._learner, self._inputs = learner, inputs.to(learner.device)
        self._of_snapshots, self._added = self._inputs.new_zeros((len(inputs), learner.rule.n_outputs)), 0
        self._forbidden = None if support is None else ~support(inputs)

    @torch.no_grad()
    def _outputs(self, rows: Tensor | slice) -> Tensor:
        snapshots = self._learner.snapshots
        for snapshot in snapshots[self._added :]:
            self._of_snapshots += self._sum(snapshot, self._inputs)
        self._added = len(snapshots)
        online = self._learner.online
        total = self._sum(online, self._inputs[rows]) + self._of_snapshots[rows]
        return total / (len(online[0]) * (1 + self._added))

    @staticmethod
    def _sum(networks: Parameters, inputs: Tensor) -> Tensor:
        return forward(networks, inputs.expand(len(networks[0]), -1, -1)).sum(dim=0)

    def values(self) -> Tensor:
        """Return Q, or the logits of a rule without values, (rows, n_actions)."""
        return self._learner.rule.values(self._outputs(slice(None))).cpu()

    def scores(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return what decides at some of the inputs: -inf where an action may not be played, (rows, n_actions)."""
        scores = self._learner.rule.scores(self._outputs(rows)).cpu()
        return scores if self._forbidden is None else scores.masked_fill(self._forbidden[rows], -torch.inf)


class Judge:
    """Estimates the value of the policy that learns, from episodes that it does not learn from.

    The scored policy is softmax(Q / ``ope.temperature``), as it is served: among supported actions alone. Two models
    stand for its values. In Coach's column sequential DR's q_hat is the agent's own Q, as in Coach, which the
    importance weights come from too. It was fitted to the other part of the split, so sequential DR stays unbiased,
    whatever policy it describes: with targets that are maxima the greedy one, and with ``agent.target_temperature``
    the softmax at that temperature. For the other columns fitted Q evaluation learns the scored policy's own values
    beside the agent.

    Args:
        steps: the training episodes' steps, in units of reward.
        scaling: of what the learner learns.
        final: the policy learns from the held-out episodes too, so nothing can be said about it.
    """

    def __init__(
        self,
        data: PreparedData,
        learner: Learner,
        steps: Transitions,
        reward_model: RewardModel,
        support: Support | None,
        scaling: ValueScaling,
        *,
        final: bool,
    ) -> None:
        self._data, self._preset, self._scaling = data, data.preset, scaling
        self._has_values = learner.rule.has_values
        self._held_out_inputs = data.inputs(data.held_out.observations)
        self._reward_hat = reward_model(self._held_out_inputs)
        self._held_out_scored = _ScoredOutputs(learner, self._held_out_inputs, support)
        self._training_scored = _ScoredOutputs(learner, steps.inputs, support)
        self._log = ope.LoggedRows.of(data.held_out)
        self.logged_return = float(data.held_out.returns(self._preset.agent.discount).mean())
        self._fitted_q: ope.FittedQ | None = None
        if not final and needs_model(self._preset.ope.estimators):
            self._fitted_q = ope.FittedQ(
                ope.LoggedSteps(steps.inputs, steps.actions, steps.rewards, steps.terminated, steps.next_rows),
                torch.arange(len(steps.actions)) if steps.learned_rows is None else steps.learned_rows,
                n_actions=data.n_actions,
                discount=self._preset.agent.discount,
                hidden_sizes=self._preset.agent.hidden_sizes,
                generator=seeded_generator(self._preset.seed, EVALUATION),
            )

    def _probabilities(self, rows: Tensor) -> Tensor:
        return torch.softmax(self._training_scored.scores(rows) / self._preset.ope.temperature, dim=1)

    def fit_values(self) -> None:
        """Follow the policy: let the scored policy's values learn for an epoch."""
        if self._fitted_q is not None:
            self._fitted_q.fit(self._probabilities, self._preset.ope.fqe_updates)

    def estimate(self, policy: PolicyNetwork, *, is_last: bool = False) -> PolicyEstimates:
        """Return what the held-out episodes say.

        Args:
            policy: as it is now; it is asked about observations that truncated episodes led to.
            is_last: of its run, so that the estimate FQE is worth its time.
        """
        target = softmax(self._held_out_scored.scores().double().numpy(), self._preset.ope.temperature)
        q_hat = np.zeros_like(target)  # logits are no values
        if self._has_values:
            q_hat = self._scaling.values(self._held_out_scored.values().double().numpy())
        steps, _ = ope.weigh(self._log, target, discount=self._preset.agent.discount, q_hat=q_hat)
        with warnings.catch_warnings():
            # They stand in the notes; every epoch would repeat them.
            warnings.simplefilter("ignore")
            estimates = self._estimates(steps, target, policy)
            if is_last and self._preset.ope.fqe_refits:
                estimates = dataclasses.replace(estimates, fqe=self._refit(target, policy))
            return estimates

    def _refit(self, target: NDArray[np.float64], policy: PolicyNetwork) -> ope.EstimatedValue:
        """Evaluate by networks that are fitted to resamples of the held-out episodes, as ``launcher ope`` does."""
        preset, discount = self._preset.ope, self._preset.agent.discount
        refits = ope.refit_values(
            self._data.held_out,
            lambda observations: softmax(policy.q_array(observations), policy.temperature),
            discount=discount,
            seed=self._preset.seed,
            refits=preset.fqe_refits,
        )
        evaluation = ope.evaluate(
            self._log,
            target,
            discount=discount,
            estimators=[ope.FQE],
            level=preset.level,
            seed=self._preset.seed,
            refits=refits,
        )
        return evaluation[ope.FQE]

    def _estimates(
        self, steps: ope.WeightedSteps, target: NDArray[np.float64], policy: PolicyNetwork
    ) -> PolicyEstimates:
        held_out = self._data.held_out
        return PolicyEstimates(
            wis=ope.wis(steps),
            sequential_dr=ope.sequential_dr(steps),
            one_step_ips=ope.one_step_importance_sampling(held_out, target),
            one_step_dm=ope.one_step_direct_method(target, self._reward_hat),
            one_step_dr=ope.one_step_doubly_robust(held_out, target, self._reward_hat),
            weights=ope.describe_weights(steps),
            trajectory=self._evaluate_trajectories(target, policy) if self._preset.ope.estimators else None,
        )

    def _evaluate_trajectories(self, target: NDArray[np.float64], policy: PolicyNetwork) -> ope.PolicyEvaluation:
        preset, q_hat, after, fitted_q = self._preset.ope, None, None, self._fitted_q
        if fitted_q is not None:

            def value(observations: NDArray[np.float32]) -> NDArray[np.float64]:
                probabilities = softmax(policy.q_array(observations), policy.temperature)
                q = fitted_q.values(self._data.inputs(observations))
                values: NDArray[np.float64] = (probabilities * q).sum(axis=1)
                return values

            q_hat = fitted_q.values(self._held_out_inputs)
            after = self._data.held_out.values_after_truncation(value)
        return ope.evaluate(
            self._log,
            target,
            q_hat,
            discount=self._preset.agent.discount,
            policy=f"softmax(Q / {policy.temperature:g})",
            estimators=preset.estimators,
            interval=preset.interval,
            level=preset.level,
            resamples=preset.resamples,
            seed=self._preset.seed,
            values_after_truncation=after,
        )

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        return {"fitted_q": self._fitted_q.state()} if self._fitted_q else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a judge of the same data and preset."""
        if self._fitted_q is not None:
            self._fitted_q.restore(state["fitted_q"])
