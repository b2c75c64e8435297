"""One training run on logged episodes: preparation, epochs of learning, and the evaluation after each."""

import copy
import dataclasses
import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batch_rl import ope
from batch_rl.data.episodes import Episodes, split_numbers
from batch_rl.data.feature_types import Normalization, identify_features
from batch_rl.data.fingerprints import SeenEpisodes, fingerprints
from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import DatasetError, TrainingError
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.bcq import allowed_actions, familiar_actions, fit_behavior_model
from batch_rl.learning.learner import Learner, Transitions
from batch_rl.networks import (
    Parameters,
    PolicyNetwork,
    choose_device,
    forward,
    last_hidden,
    mean_and_scale,
    seeded_generator,
    softmax,
    use_threads,
)
from batch_rl.presets.schema import LOWER_END, TrainingPreset, needs_model

SPLIT, IMITATION, REWARD_MODEL, LEARNING, EVALUATION, PARTS = range(6)  # each purpose draws from its own generator


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

    def value(self, name: str) -> float:
        """Return an estimate, or the lower end of its interval by the name and " Low"; NaN where there is none."""
        if name == "WIS" or self.trajectory is None:  # Coach's is the same estimator
            return self.wis
        one = self.trajectory[name.removesuffix(LOWER_END)]
        if not name.endswith(LOWER_END):
            return one.value
        return one.interval.lower if one.interval else math.nan


def dataset_digest(episodes: Episodes) -> str:
    """Return a SHA-256 of all arrays, by which a checkpoint knows its data."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(episodes):
        value = getattr(episodes, field.name)
        if not isinstance(value, np.ndarray):
            continue
        array = np.ascontiguousarray(value)
        digest.update(f"{field.name} {array.dtype} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


def split_generator(seed: int) -> np.random.Generator:
    """Return what decides which episodes are held out: the same ones in every run of a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLIT,)))


def without_last_rows(episodes: Episodes) -> Episodes:
    """Leave out the last row of every episode: the one before is then where it ends, as Coach's loader has it.

    Episodes of one row are left out altogether.

    Raises:
        DatasetError: nothing is left.
    """
    rows, kept = np.flatnonzero(~episodes.ends), episodes.lengths > 1
    if not len(rows):
        raise DatasetError("every episode has a single row: with data.drop_last_rows nothing is left.")
    last_rows = (episodes.starts + episodes.lengths - 1)[kept]
    return dataclasses.replace(
        episodes,
        observations=episodes.observations[rows],
        actions=episodes.actions[rows],
        rewards=episodes.rewards[rows],
        probabilities=episodes.probabilities[rows],
        lengths=episodes.lengths[kept] - 1,
        truncated=episodes.truncated[kept],
        # What a truncated episode's last kept action led to stands in the row that is left out.
        final_observations=episodes.observations[last_rows] if episodes.truncated.any() else None,
    )


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


class _ScoredQ:
    """The mean Q that decides, at inputs that stay the same.

    What snapshots say there stays the same too, so it is asked once: they are most of the networks.
    """

    def __init__(self, learner: Learner, inputs: Tensor, temperature: float) -> None:
        self._learner, self._inputs, self._temperature = learner, inputs.to(learner.device), temperature
        self._of_snapshots, self._added = self._inputs.new_zeros((len(inputs), learner.n_actions)), 0

    @torch.no_grad()
    def at(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the values at some of the inputs as the networks are now, (rows, n_actions)."""
        snapshots = self._learner.snapshots
        for snapshot in snapshots[self._added :]:
            self._of_snapshots += self._sum(snapshot, self._inputs)
        self._added = len(snapshots)
        online = self._learner.online
        return (self._sum(online, self._inputs[rows]) + self._of_snapshots[rows]) / (len(online[0]) * (1 + self._added))

    def _sum(self, networks: Parameters, inputs: Tensor) -> Tensor:
        return forward(networks, inputs.expand(len(networks[0]), -1, -1))[..., : self._learner.n_actions].sum(dim=0)

    def probabilities(self, rows: Tensor) -> Tensor:
        """Return the scored policy's probabilities at some of the inputs, (rows, n_actions)."""
        return torch.softmax(self.at(rows) / self._temperature, dim=1).cpu()


class TrainingRun:
    """Everything between a dataset and a policy.

    Two models stand for the scored policy's values, softmax(Q / ``ope.temperature``). In Coach's column sequential
    DR's q_hat is the agent's own Q, as in Coach, which the importance weights come from too. It was fitted to the other
    part of the split, so sequential DR stays unbiased, whatever policy it describes: with targets that are maxima the
    greedy one, and with ``agent.target_temperature`` the softmax at that temperature, nearly the scored one where
    both temperatures are the same. For the other columns fitted Q evaluation learns the scored policy's own values
    beside the agent.

    Args:
        normalization: of the features, where ``data.normalization`` asks for one; if left out, it is found in the
            training episodes.
        final: fit to all episodes, the held-out ones too, with about as many updates. Its own estimates would
            judge it by what it was fitted to.

    Raises:
        DatasetError: the episodes cannot be split.
        TrainingError: there is no such device.
    """

    def __init__(
        self,
        episodes: Episodes | DealtEpisodes,
        preset: TrainingPreset,
        *,
        normalization: Normalization | None = None,
        final: bool = False,
    ) -> None:
        use_threads(preset.training.threads)
        self.device, self.device_description = choose_device(preset.training.device)
        self.preset = preset
        self.epochs = preset.training.epochs
        self._dealt: DealtEpisodes | None = None
        self.part_statistics: list[Tensor] = []  # of this epoch's parts that are done
        if isinstance(episodes, DealtEpisodes):
            self._dealt = episodes
            self.dataset_digest = episodes.digest
            self.seen_episodes: SeenEpisodes | None = episodes.seen
            self.fitting, self.held_out = self._part(episodes, 0), self._part(episodes, episodes.n_parts)
        else:
            self.dataset_digest = dataset_digest(episodes)
            numbers = fingerprints(episodes)
            if preset.data.drop_last_rows:
                numbers = numbers[episodes.lengths > 1]
                episodes = without_last_rows(episodes)
            first, second = split_numbers(len(episodes), preset.data.train_fraction, split_generator(preset.seed))
            self.fitting, self.held_out = episodes.select(first), episodes.select(second)
            self.seen_episodes = SeenEpisodes(numbers[first], numbers[second])
            if final:
                self.epochs = max(1, round(self.epochs * len(self.fitting.actions) / len(episodes.actions)))
                self.fitting = episodes.select(np.arange(len(episodes)))
        self.n_actions = self.fitting.n_actions
        self.observation_size = self.fitting.observations.shape[1]
        self.preprocessor: Preprocessor | None = None
        if preset.data.normalization == "reagent":
            self.preprocessor = Preprocessor(
                normalization or identify_features(self.fitting.observations), self.observation_size
            )
        self.mean, self.scale = self._standardization()
        self._behavior: Callable[[Tensor], Tensor] | None = None
        self._reward_model, self._reward_hat = self._fit_reward_model()
        self._steps = self._laid_out()
        transitions = self._learnable(self._steps)
        self.training_episodes, self.training_rows = len(self.fitting), len(self.fitting.actions)
        self.truncated_episodes = int(np.sum(episodes.truncated))
        self.largest_reward = float(self.fitting.rewards.max())
        self.learner = Learner(
            transitions.to(self.device),
            preset.agent,
            n_actions=self.n_actions,
            epochs=self.epochs,
            generator=seeded_generator(preset.seed, LEARNING),
            parts=[transitions.count, *self._count_further_parts()],
        )
        self._fitted_q = None if final or not needs_model(preset.ope.estimators) else self._new_fitted_q()
        self._log = ope.LoggedRows.of(self.held_out)
        self._held_out_inputs = self._standardized(self.held_out.observations)
        self._held_out_q = _ScoredQ(self.learner, self._held_out_inputs, self.temperature)
        self._training_q = _ScoredQ(self.learner, self._steps.inputs, self.temperature)
        self.epoch = 0
        self.logged_return = float(self.held_out.returns(preset.agent.discount).mean())

    def _standardization(self) -> tuple[Tensor, Tensor]:
        if not self.preset.agent.standardize_inputs:
            width = self.observation_size if self.preprocessor is None else self.preprocessor.output_size
            return torch.zeros(width), torch.ones(width)
        return mean_and_scale(self._features(self.fitting.observations).numpy())

    def _features(self, observations: NDArray[np.float32]) -> Tensor:
        raw = torch.from_numpy(observations)
        features: Tensor = raw if self.preprocessor is None else self.preprocessor(raw)
        return features

    def _standardized(self, observations: NDArray[np.float32]) -> Tensor:
        return (self._features(observations) - self.mean) / self.scale

    def _part(self, dealt: DealtEpisodes, number: int) -> Episodes:
        """Read a part of data that are larger than memory; the one behind the last is held out."""
        part = dealt.load(number)
        return without_last_rows(part) if self.preset.data.drop_last_rows else part

    def _count_further_parts(self) -> list[int]:
        """Lay out every part but the first once, and return how many rows of each can be learned from."""
        counts: list[int] = []
        if self._dealt is None:
            return counts
        for number in range(1, self._dealt.n_parts):
            self.fitting = self._part(self._dealt, number)
            counts.append(self._transitions().count)
            self.training_episodes += len(self.fitting)
            self.training_rows += len(self.fitting.actions)
            self.largest_reward = max(self.largest_reward, float(self.fitting.rewards.max()))
        return counts

    def _fit_reward_model(self) -> tuple[Parameters, NDArray[np.float64]]:
        """Return the model, and the rewards that it predicts for the held-out rows."""
        preset, fitting = self.preset, self.fitting
        reward_model = ope.fit_reward_model(
            self._standardized(fitting.observations),
            torch.from_numpy(fitting.actions),
            torch.from_numpy(fitting.rewards).float(),
            self.n_actions,
            hidden_sizes=preset.agent.hidden_sizes,
            epochs=preset.ope.reward_model_epochs,
            generator=seeded_generator(preset.seed, REWARD_MODEL),
        )
        reward_hat = forward(reward_model, self._standardized(self.held_out.observations)[None])[0].numpy()
        return reward_model, reward_hat.astype(np.float64)

    def _new_fitted_q(self) -> ope.FittedQ:
        steps = self._steps
        return ope.FittedQ(
            steps.inputs,
            steps.actions,
            steps.rewards,
            steps.terminated,
            steps.next_rows,
            torch.arange(len(steps.actions)) if steps.learned_rows is None else steps.learned_rows,
            n_actions=self.n_actions,
            discount=self.preset.agent.discount,
            hidden_sizes=self.preset.agent.hidden_sizes,
            generator=seeded_generator(self.preset.seed, EVALUATION),
        )

    def _transitions(self) -> Transitions:
        """Lay out the rows to learn from: all training episodes, or the part of them that is in memory."""
        return self._learnable(self._laid_out())

    def _learnable(self, transitions: Transitions) -> Transitions:
        if self.preset.agent.algorithm == "bc" and self.preset.agent.imitated_share < 1:
            return transitions.select(self._best_rows())
        return transitions

    def _laid_out(self) -> Transitions:
        """Return what the episodes show, and which actions targets may use.

        A truncated episode's last row needs the value of what came next. Where that observation is known it
        joins ``inputs``, behind all rows; where it is not, the row has no target and is left out. A one-step rule
        also needs the next action, which no log of a truncated episode has.
        """
        fitting, algorithm = self.fitting, self.preset.agent.algorithm
        inputs, actions = self._standardized(fitting.observations), torch.from_numpy(fitting.actions)
        rewards = torch.from_numpy(fitting.rewards).float()
        next_rows, finals, learned = fitting.next_rows(use_finals=algorithm != "one_step")
        if len(finals):
            inputs = torch.cat([inputs, self._standardized(finals)])
        terminated = fitting.ends & np.repeat(fitting.terminated, fitting.lengths)
        return Transitions(
            inputs=inputs,
            actions=actions,
            rewards=rewards,
            terminated=torch.from_numpy(terminated).float(),
            next_rows=torch.from_numpy(next_rows),
            allowed=self._allowed(inputs, actions),
            learned_rows=torch.from_numpy(learned) if len(learned) < len(actions) else None,
        )

    def _allowed(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """Return the actions that targets may use at each of ``inputs``, which may go on behind the logged rows."""
        preset, bcq = self.preset, self.preset.bcq
        if preset.agent.algorithm == "one_step":
            return nn.functional.one_hot(actions, self.n_actions).bool()
        if preset.agent.algorithm != "ddqn_bcq":
            return torch.ones((len(inputs), self.n_actions), dtype=torch.bool)
        if bcq.action_drop_method == "nearest_neighbors":
            return familiar_actions(
                last_hidden(self._reward_model, inputs[None])[0] if bcq.embed_observations else inputs,
                actions,
                self.n_actions,
                coefficient=bcq.average_distance_coefficient,
                neighbors_per_action=bcq.neighbors_per_action,
            )
        if self._behavior is None:
            self._behavior = fit_behavior_model(
                inputs[: len(actions)],
                actions,
                self.n_actions,
                hidden_sizes=preset.agent.hidden_sizes,
                epochs=bcq.imitation_epochs,
                generator=seeded_generator(preset.seed, IMITATION),
            )
        return allowed_actions(self._behavior(inputs), bcq.threshold, bcq.absolute_threshold)

    def _best_rows(self) -> Tensor:
        """Return the rows of the training episodes with the highest returns, ``imitated_share`` of them."""
        fitting = self.fitting
        count = math.ceil(self.preset.agent.imitated_share * len(fitting))
        best = np.argsort(-fitting.returns(self.preset.agent.discount), kind="stable")[:count]
        return torch.from_numpy(np.flatnonzero(np.repeat(np.isin(np.arange(len(fitting)), best), fitting.lengths)))

    def run_epoch(self, should_stop: Callable[[], bool] = lambda: False) -> EpochResult | None:
        """Train for an epoch and evaluate; None when ``should_stop`` ended it early.

        Raises:
            TrainingError: the networks diverged.
        """
        statistics = self._learn(should_stop)
        if statistics is None:
            return None
        if self._fitted_q is not None:
            self._fitted_q.fit(self._training_q.probabilities, self.preset.ope.fqe_updates)
        losses, norms, batch_q, learning_rates, largest_q = statistics.double().numpy().T
        return EpochResult(
            epoch=self.epoch,
            updates=self.learner.updates,
            losses=losses,
            gradient_norms=norms,
            learning_rates=learning_rates,
            batch_q=batch_q,
            largest_q=float(largest_q.max()),
            estimates=self.evaluate(),
        )

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
        statistics = self._learn_parts(self._dealt, should_stop) if self._dealt else self.learner.run_epoch(should_stop)
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
            self.fitting = self._part(dealt, int(number))
            self.learner.use(self._transitions().to(self.device))
            statistics = self.learner.run_epoch(should_stop)
            if statistics is None:
                return None
            self.part_statistics.append(statistics)
        done, self.part_statistics = torch.cat(self.part_statistics), []
        return done

    def evaluate(self) -> PolicyEstimates:
        """Judge the present policy, softmax(Q / temperature), on the held-out episodes."""
        held_out, discount = self.held_out, self.preset.agent.discount
        q_hat = self._held_out_q.at().cpu().double().numpy()
        target = softmax(q_hat, self.temperature)
        if self.preset.agent.algorithm == "bc":
            q_hat = np.zeros_like(q_hat)  # logits are no values
        steps, _ = ope.weigh(self._log, target, discount=discount, q_hat=q_hat)
        return PolicyEstimates(
            wis=ope.wis(steps),
            sequential_dr=ope.sequential_dr(steps),
            one_step_ips=ope.one_step_importance_sampling(held_out, target),
            one_step_dm=ope.one_step_direct_method(target, self._reward_hat),
            one_step_dr=ope.one_step_doubly_robust(held_out, target, self._reward_hat),
            weights=ope.describe_weights(steps),
            trajectory=self._evaluate_trajectories(target) if self.preset.ope.estimators else None,
        )

    @property
    def temperature(self) -> float:
        """The scored and served policy is softmax(Q / temperature)."""
        return self.preset.ope.temperature

    def _evaluate_trajectories(self, target: NDArray[np.float64]) -> ope.PolicyEvaluation:
        preset, q_hat, after = self.preset.ope, None, None
        if self._fitted_q is not None:
            q_hat = self._fitted_q.values(self._held_out_inputs)
            after = self.held_out.values_after_truncation(partial(self._value, self._fitted_q))
        with warnings.catch_warnings():
            # They stand in the notes; every epoch would repeat them.
            warnings.simplefilter("ignore")
            return ope.evaluate(
                self._log,
                target,
                q_hat,
                discount=self.preset.agent.discount,
                policy=self.scored_policy,
                estimators=preset.estimators,
                interval=preset.interval,
                level=preset.level,
                resamples=preset.resamples,
                seed=self.preset.seed,
                values_after_truncation=after,
            )

    def _value(self, fitted_q: ope.FittedQ, observations: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scored policy's value of observations, (some,)."""
        target = softmax(self.policy().q_array(observations), self.temperature)
        values: NDArray[np.float64] = (target * fitted_q.values(self._standardized(observations))).sum(axis=1)
        return values

    @property
    def scored_policy(self) -> str:
        """What the estimates are of."""
        return f"softmax(Q / {self.temperature:g})"

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit, in plain containers and tensors."""
        state: dict[str, Any] = {"learner": self.learner.state(), "epoch": self.epoch}
        if self.part_statistics:
            state["part_statistics"] = self.part_statistics
        return state | ({"fitted_q": self._fitted_q.state()} if self._fitted_q else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, made by a run of the same data and preset."""
        self.learner.restore(state["learner"])
        if self._fitted_q is not None:
            self._fitted_q.restore(state["fitted_q"])
        self.epoch = state["epoch"]
        self.part_statistics = list(state.get("part_statistics", ()))

    def policy(self) -> PolicyNetwork:
        """Return the policy as it is now."""
        return PolicyNetwork(
            self.learner.deciding_parameters(),
            self.mean,
            self.scale,
            self.temperature,
            copy.deepcopy(self.preprocessor),  # ours stays where the data are
        ).to(self.device)
