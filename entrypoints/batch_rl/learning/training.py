"""One training run on logged episodes: preparation, models that are fitted once, epochs of learning, estimates."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.data.episodes import Episodes
from batch_rl.data.feature_types import Normalization
from batch_rl.data.fingerprints import SeenEpisodes
from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import TrainingError
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.estimates import Judge, PolicyEstimates
from batch_rl.learning.hosts import ALONE, Hosts
from batch_rl.learning.learner import Learner, Transitions
from batch_rl.learning.models import FittedSupport, RewardModel, fit_reward_model, fit_support, usable_actions
from batch_rl.learning.preparation import PreparedData
from batch_rl.learning.rules import make_rule
from batch_rl.learning.scaling import ValueScaling, scaling_of
from batch_rl.networks import PolicyNetwork, choose_device, seeded_generator, use_threads
from batch_rl.presets.schema import TrainingPreset

# Each purpose draws from its own generator: 0 the split, 1 imitation, 2 the reward model, 4 the scored policy's values.
LEARNING, PARTS = 3, 5


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch."""

    epoch: int  # from 1
    updates: int  # since the start
    losses: NDArray[np.float64]  # (updates of this epoch,), mean over members
    gradient_norms: NDArray[np.float64]
    learning_rates: NDArray[np.float64]
    batch_q: NDArray[np.float64]  # mean Q of each batch
    largest_q: float
    estimates: PolicyEstimates


class TrainingRun:
    """Everything between a dataset and a policy: data, the models fitted once, the learner, and the judge.

    Args:
        normalization: see ``PreparedData``.
        final: fit to all episodes, the held-out ones too, with about as many updates. Its own estimates would
            judge it by what it was fitted to.
        hosts: that learn together. The models that are fitted once, and all estimates, are the first one's.

    Raises:
        DatasetError: the episodes cannot be split.
        TrainingError: there is no such device, or the hosts have other data or values.
    """

    def __init__(
        self,
        episodes: Episodes | DealtEpisodes,
        preset: TrainingPreset,
        *,
        normalization: Normalization | None = None,
        final: bool = False,
        hosts: Hosts = ALONE,
    ) -> None:
        self.hosts = hosts
        use_threads(preset.training.threads)
        self.device, self.device_description = choose_device(preset.training.device)
        self.preset = preset
        self.data = PreparedData(episodes, preset, normalization=normalization, final=final)
        hosts.check_same("the preset", preset)
        hosts.check_same("the data", self.data.dataset_digest)
        self.epochs = max(1, round(preset.training.epochs * self.data.share))
        self.rule = make_rule(preset.agent, self.data.n_actions)
        self.scaling = ValueScaling()
        if self.rule.has_values and preset.agent.reward_scaling == "returns":
            self.scaling = scaling_of(self.data.fitting, preset.agent.discount)
        reward_model, fitted = hosts.once(self._fit_models)
        self.support = fitted.support if fitted else None
        self.support_description = fitted.description if fitted else ""
        steps = self.data.logged_steps(use_finals=self.rule.target_actions != "logged")
        transitions = self._learnable(steps)
        self.learner = Learner(
            transitions.to(self.device),
            preset.agent,
            n_actions=self.data.n_actions,
            epochs=self.epochs,
            generator=seeded_generator(preset.seed, LEARNING),
            parts=[transitions.count, *self._count_further_parts()],
            hosts=hosts,
        )
        self.judge = Judge(self.data, self.learner, steps, reward_model, self.support, self.scaling, final=final)
        self.epoch = 0
        self.part_statistics: list[Tensor] = []  # of this epoch's parts that are done

    def _fit_models(self) -> tuple[RewardModel, FittedSupport | None]:
        reward_model = fit_reward_model(self.data)
        return reward_model, fit_support(self.data, self.rule, reward_model)

    def _learnable(self, steps: Transitions) -> Transitions:
        allowed = usable_actions(self.support, self.rule, steps.inputs, steps.actions, self.data.n_actions)
        return self.data.transitions(steps, self.rule, allowed, self.scaling)

    def _loaded(self) -> Transitions:
        return self._learnable(self.data.logged_steps(use_finals=self.rule.target_actions != "logged"))

    def _count_further_parts(self) -> list[int]:
        """Lay out every part but the first once, and return how many rows of each can be learned from."""
        counts: list[int] = []
        if self.data.dealt is not None:
            for number in range(1, self.data.dealt.n_parts):
                self.data.count_part(number)
                counts.append(self._loaded().count)
        return counts

    def run_epoch(self, should_stop: Callable[[], bool] = lambda: False) -> EpochResult | None:
        """Train for an epoch and evaluate; None when ``should_stop`` ended it early.

        Raises:
            TrainingError: the networks diverged.
        """
        statistics = self._learn(should_stop)
        if statistics is None:
            return None
        losses, norms, batch_q, learning_rates, largest_q = statistics.double().numpy().T
        return EpochResult(
            epoch=self.epoch,
            updates=self.learner.updates,
            losses=losses,
            gradient_norms=norms,
            learning_rates=learning_rates,
            batch_q=self.scaling.values(batch_q),
            largest_q=float(self.scaling.values(largest_q).max()),
            estimates=self.hosts.once(self._judge_epoch),
        )

    def _judge_epoch(self) -> PolicyEstimates:
        self.judge.fit_values()
        return self.evaluate()

    def fit(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train for all epochs without evaluation; False when ``should_stop`` ended it early.

        Raises:
            TrainingError: the networks diverged.
        """
        while self.epoch < self.epochs:
            if self._learn(should_stop) is None:
                return False
        return True

    def _learn(self, should_stop: Callable[[], bool]) -> Tensor | None:
        dealt = self.data.dealt
        statistics = self._learn_parts(dealt, should_stop) if dealt else self.learner.run_epoch(should_stop)
        if statistics is None:
            return None
        if not statistics.isfinite().all():
            raise TrainingError(
                f"the networks diverged in epoch {self.epoch + 1}: a loss or a gradient is not finite. Lower "
                "agent.learning_rate, or look for extreme rewards and features in the data."
            )
        self.epoch += 1
        return statistics

    def _learn_parts(self, dealt: DealtEpisodes, should_stop: Callable[[], bool]) -> Tensor | None:
        """Go through the parts of an epoch that are not done, in an order that is the epoch's own."""
        seed = np.random.SeedSequence(self.preset.seed, spawn_key=(PARTS, self.epoch))
        order = np.random.default_rng(seed).permutation(dealt.n_parts)
        for number in order[len(self.part_statistics) :]:
            self.data.load_part(int(number))
            self.learner.use(self._loaded().to(self.device))
            statistics = self.learner.run_epoch(should_stop)
            if statistics is None:
                return None
            self.part_statistics.append(statistics)
        done, self.part_statistics = torch.cat(self.part_statistics), []
        return done

    def evaluate(self) -> PolicyEstimates:
        """Estimate the present policy's value from the held-out episodes."""
        return self.judge.estimate(self.policy(), is_last=self.epoch == self.epochs)

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        state: dict[str, Any] = {"learner": self.learner.state(), "epoch": self.epoch}
        if self.part_statistics:
            state["part_statistics"] = self.part_statistics
        return state | self.judge.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a run of the same data and preset."""
        self.learner.restore(state["learner"])
        self.judge.restore(state)
        self.epoch = state["epoch"]
        self.part_statistics = list(state.get("part_statistics", ()))

    def policy(self) -> PolicyNetwork:
        """Return the policy as it is now."""
        *hidden, weight, bias = self.learner.deciding_parameters()
        return PolicyNetwork(
            [*hidden, weight * self.scaling.scale, bias * self.scaling.scale],
            self.mean,
            self.scale,
            self.temperature,
            copy.deepcopy(self.preprocessor),  # ours stays where the data are
            support=copy.deepcopy(self.support),
            center=self.scaling.center,
        ).to(self.device)

    @property
    def temperature(self) -> float:
        """The scored and served policy is softmax(Q / temperature), Q in units of reward."""
        return self.preset.ope.temperature * self.scaling.scale

    @property
    def scored_policy(self) -> str:
        """What the estimates are of."""
        return f"softmax(Q / {self.temperature:g})"

    @property
    def fitting(self) -> Episodes:
        """The training episodes, or the part of them that is loaded."""
        return self.data.fitting

    @property
    def held_out(self) -> Episodes:
        """The episodes that estimates are made from."""
        return self.data.held_out

    @property
    def dataset_digest(self) -> str:
        """SHA-256 of the data, for checkpoints."""
        return self.data.dataset_digest

    @property
    def seen_episodes(self) -> SeenEpisodes:
        """Fingerprints of the episodes that the policy has learned from, and of those that judge it."""
        return self.data.seen_episodes

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return self.data.n_actions

    @property
    def action_names(self) -> tuple[str, ...]:
        """Of actions 0, 1, ...; none where the log has numbers."""
        return self.data.action_names

    @property
    def observation_size(self) -> int:
        """Number of raw features."""
        return int(self.data.observation_size)

    @property
    def preprocessor(self) -> Preprocessor | None:
        """What is done to features before they are standardised, if anything."""
        return self.data.preprocessor

    @property
    def mean(self) -> Tensor:
        """What is subtracted from the features, (inputs,)."""
        return self.data.mean

    @property
    def scale(self) -> Tensor:
        """What they are divided by, (inputs,)."""
        return self.data.scale

    @property
    def logged_return(self) -> float:
        """The mean discounted return of the held-out episodes."""
        return self.judge.logged_return
