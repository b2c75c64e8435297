"""From logged episodes to training data: the split, the features, and transitions in rows."""

import dataclasses
import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batch_rl.data.episodes import Episodes, split_numbers
from batch_rl.data.feature_types import Normalization, identify_features
from batch_rl.data.fingerprints import SeenEpisodes, fingerprints
from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import DatasetError
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.learner import Transitions
from batch_rl.learning.rules.base import Rule
from batch_rl.learning.scaling import ValueScaling
from batch_rl.networks import mean_and_scale
from batch_rl.presets.schema import TrainingPreset

SPLIT = 0  # the purpose of a generator; see batch_rl.learning.training


def dataset_digest(episodes: Episodes) -> str:
    """Return a SHA-256 of all arrays, for checkpoints, which resume on the same data alone."""
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
    """Return the generator that draws the held-out episodes: the same episodes in every run of a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLIT,)))


def without_last_rows(episodes: Episodes) -> Episodes:
    """Leave out the last row of every episode: the one before is then where it ends, as Coach's loader has it.

    Episodes of one row are left out altogether.

    Raises:
        DatasetError: nothing is left.
    """
    rows, is_long_enough = np.flatnonzero(~episodes.ends), episodes.lengths > 1
    if not len(rows):
        raise DatasetError("every episode has a single row: with data.drop_last_rows nothing is left.")
    last_rows = (episodes.starts + episodes.lengths - 1)[is_long_enough]
    return dataclasses.replace(
        episodes,
        observations=episodes.observations[rows],
        actions=episodes.actions[rows],
        rewards=episodes.rewards[rows],
        probabilities=episodes.probabilities[rows],
        lengths=episodes.lengths[is_long_enough] - 1,
        truncated=episodes.truncated[is_long_enough],
        # What a truncated episode's last kept action led to stands in the row that is left out.
        final_observations=episodes.observations[last_rows] if episodes.truncated.any() else None,
    )


class PreparedData:
    """Episodes that learn, episodes that are held out, and their features.

    Args:
        normalization: of the features, where ``data.normalization`` asks for one; if left out, it is found in the
            training episodes.
        final: learn from all episodes, the held-out ones too.
    Attributes:
        fitting: the episodes that learn; of data larger than memory, the part that is loaded.
        held_out: the others.
        seen_episodes: fingerprints of both, as they are in the log.
        share: of the training episodes' rows in those that learn; below 1 where ``final`` added some.
        mean, scale: (inputs,), what standardises features.
        training_episodes, training_rows, largest_reward: of all parts that have been loaded.
    Raises:
        DatasetError: the episodes cannot be split.
    """

    def __init__(
        self,
        episodes: Episodes | DealtEpisodes,
        preset: TrainingPreset,
        *,
        normalization: Normalization | None = None,
        final: bool = False,
    ) -> None:
        self.preset = preset
        self.truncated_episodes = int(np.sum(episodes.truncated))
        self.dealt = episodes if isinstance(episodes, DealtEpisodes) else None
        self.share = 1.0
        if isinstance(episodes, DealtEpisodes):
            self.dataset_digest = episodes.digest
            self.seen_episodes = episodes.seen
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
                self.share = len(self.fitting.actions) / len(episodes.actions)
                self.fitting = episodes.select(np.arange(len(episodes)))
        self.n_actions = self.fitting.n_actions
        self.action_names = self.fitting.action_names
        self.observation_size = self.fitting.observations.shape[1]
        self.preprocessor: Preprocessor | None = None
        if preset.data.normalization == "reagent":
            self.preprocessor = Preprocessor(
                normalization or identify_features(self.fitting.observations), self.observation_size
            )
        self.mean, self.scale = self._standardization()
        self.training_episodes, self.training_rows = len(self.fitting), len(self.fitting.actions)
        self.largest_reward = float(self.fitting.rewards.max())

    def _standardization(self) -> tuple[Tensor, Tensor]:
        if not self.preset.agent.standardize_inputs:
            width = self.observation_size if self.preprocessor is None else self.preprocessor.output_size
            return torch.zeros(width), torch.ones(width)
        return mean_and_scale(self._features(self.fitting.observations).numpy())

    def _features(self, observations: NDArray[np.float32]) -> Tensor:
        raw = torch.from_numpy(observations)
        features: Tensor = raw if self.preprocessor is None else self.preprocessor(raw)
        return features

    def inputs(self, observations: NDArray[np.float32]) -> Tensor:
        """Return what networks take, (rows, inputs)."""
        return (self._features(observations) - self.mean) / self.scale

    def _part(self, dealt: DealtEpisodes, number: int) -> Episodes:
        """Read a part of data that are larger than memory; the one behind the last is held out."""
        part = dealt.load(number)
        return without_last_rows(part) if self.preset.data.drop_last_rows else part

    def load_part(self, number: int) -> None:
        """Learn from another part of data that are larger than memory."""
        assert self.dealt is not None  # only such data have parts
        self.fitting = self._part(self.dealt, number)

    def count_part(self, number: int) -> None:
        """Load a part for the first time, and add it to the counts of all parts."""
        self.load_part(number)
        self.training_episodes += len(self.fitting)
        self.training_rows += len(self.fitting.actions)
        self.largest_reward = max(self.largest_reward, float(self.fitting.rewards.max()))

    def logged_steps(self, *, use_finals: bool) -> Transitions:
        """Return what the episodes show, step by step, in units of reward.

        A truncated episode's last row needs the value of what came next. Where that observation is known it joins
        ``inputs``, behind all rows; where it is not, the row has no target and is left out.

        Args:
            use_finals: False: take those observations as not known. A rule that needs the next action, which no log of
                a truncated episode has, cannot use them.
        """
        fitting = self.fitting
        inputs, actions = self.inputs(fitting.observations), torch.from_numpy(fitting.actions)
        next_rows, finals, learned = fitting.next_rows(use_finals=use_finals)
        if len(finals):
            inputs = torch.cat([inputs, self.inputs(finals)])
        terminated = fitting.ends & np.repeat(fitting.terminated, fitting.lengths)
        return Transitions(
            inputs=inputs,
            actions=actions,
            rewards=torch.from_numpy(fitting.rewards).float(),
            terminated=torch.from_numpy(terminated).float(),
            next_rows=torch.from_numpy(next_rows),
            allowed=torch.ones((len(inputs), self.n_actions), dtype=torch.bool),
            learned_rows=torch.from_numpy(learned) if len(learned) < len(actions) else None,
        )

    def transitions(self, steps: Transitions, rule: Rule, allowed: Tensor, scaling: ValueScaling) -> Transitions:
        """Return what the rule learns from, in units of the scaling.

        Args:
            steps: as ``logged_steps`` gave them.
            allowed: (rows, n_actions) bool, the actions that targets may use.
        """
        agent = rule.agent
        rewards, discounts, terminated, ahead = look_ahead(
            scaling.rewards(self.fitting.rewards), steps, discount=agent.discount, n_steps=agent.n_steps
        )
        chosen = dataclasses.replace(
            steps,
            rewards=rewards.float(),
            terminated=terminated.float(),
            next_rows=ahead,
            allowed=allowed,
            discounts=None if agent.n_steps == 1 else discounts.float(),
        )
        return chosen if rule.imitated_share == 1 else chosen.select(self._best_rows(rule.imitated_share))

    def _best_rows(self, share: float) -> Tensor:
        """Return the rows of the training episodes with the highest returns, that share of them."""
        fitting = self.fitting
        count = math.ceil(share * len(fitting))
        best = np.argsort(-fitting.returns(self.preset.agent.discount), kind="stable")[:count]
        return torch.from_numpy(np.flatnonzero(np.repeat(np.isin(np.arange(len(fitting)), best), fitting.lengths)))


def look_ahead(
    rewards: NDArray[np.float64], steps: Transitions, *, discount: float, n_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Look up to ``n_steps`` steps ahead, fewer where the episode ends or its log stops.

    Rewards on the way are those of the policy that acted, which no ratio corrects.

    Args:
        rewards: (rows,), of single steps.
        steps: single ones.
    Returns:
        Of each row: the discounted rewards up to the observation that it looks ahead to, the discount of that one's
        value, whether the episode terminated before, all float64, and that observation's row. Rows that are not
        learned from hold nothing of use.
    Source: Sutton, "Learning to Predict by the Methods of Temporal Differences", Machine Learning 3, 1988.
    """
    single = torch.from_numpy(rewards)
    ended, count = steps.terminated.double(), len(single)
    total, factor, terminated = single.clone(), torch.full((count,), discount, dtype=torch.float64), ended.clone()
    ahead = steps.next_rows.clone()
    readable = torch.zeros(len(steps.inputs), dtype=torch.bool)  # rows with a step that is learned from
    readable[torch.arange(count) if steps.learned_rows is None else steps.learned_rows] = True
    for _ in range(n_steps - 1):
        going = torch.nonzero((terminated == 0) & readable[ahead]).squeeze(1)
        if not len(going):
            break
        row = ahead[going]
        total[going] += factor[going] * single[row]
        factor[going] *= discount
        terminated[going] = ended[row]
        ahead[going] = steps.next_rows[row]
    return total, factor, terminated, ahead
