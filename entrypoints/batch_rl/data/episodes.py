"""Logged episodes as arrays. ``batch_rl.data.tables`` says which columns a table of them may have."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import DatasetError

COLUMNS = ("action", "all_action_probabilities", "episode_id", "reward", "cumulative_rewards")
FEATURE_PREFIX = "state_feature_"
NEXT_FEATURE_PREFIX = "next_state_feature_"


@dataclass(frozen=True)
class Episode:
    """One episode: row t holds the observation before action t, the action, and its reward."""

    observations: NDArray[np.float32]  # (steps, obs_dim)
    actions: NDArray[np.int64]  # (steps,)
    probabilities: NDArray[np.float64]  # (steps, n_actions), of the policy that acted
    rewards: NDArray[np.float64]  # (steps,)
    terminated: bool
    truncated: bool
    final_observation: NDArray[np.float32] | None = None  # (obs_dim,), what the last action led to

    @property
    def total_reward(self) -> float:
        """The undiscounted sum of rewards."""
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Episodes:
    """Whole episodes, one after the other in flat arrays.

    An episode either terminated, so that nothing can follow, or was truncated: a time limit or the end of the
    log cut it, and rewards after the last row are unknown, not 0.

    Args:
        observations: (rows, obs_dim) float32.
        actions: (rows,) from 0.
        rewards: (rows,).
        probabilities: (rows, n_actions), of the behavior policy; rows sum to 1.
        lengths: (episodes,) steps of each, at least 1; they sum to ``rows``.
        truncated: (episodes,); none if left out.
        final_observations: (episodes, obs_dim), what each episode's last action led to; NaN where that is not
            known. Only those of truncated episodes are ever used.
        assumptions: what had to be supposed about the data, a sentence each.
        action_names: of actions 0, 1, ...; none where the log has numbers.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    lengths: NDArray[np.int64]
    truncated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    final_observations: NDArray[np.float32] | None = None
    assumptions: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.truncated):
            object.__setattr__(self, "truncated", np.zeros(len(self.lengths), dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return int(self.probabilities.shape[1])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each episode."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def ends(self) -> NDArray[np.bool_]:
        """Whether a row is the last of its episode, (rows,)."""
        last = np.zeros(len(self.actions), dtype=np.bool_)
        last[self.starts + self.lengths - 1] = True
        return last

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """Whether each episode came to an end of its own, (episodes,)."""
        return ~self.truncated

    @cached_property
    def propensities(self) -> NDArray[np.float64]:
        """Probability that the behavior policy gave each logged action, (rows,)."""
        return logged_probabilities(self.probabilities, self.actions)

    def returns(self, discount: float) -> NDArray[np.float64]:
        """Return each episode's sum of rewards, the first one undiscounted, (episodes,)."""
        if discount == 1:
            return np.add.reduceat(self.rewards, self.starts)
        step = np.arange(len(self.actions)) - np.repeat(self.starts, self.lengths)
        return np.add.reduceat(self.rewards * np.power(discount, step), self.starts)

    def next_rows(self, *, use_finals: bool = True) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Return where the steps lead to, for learning from them.

        The observation that a truncated episode's last step led to has its own row behind all others, in the order
        of the episodes, where it is known; where it is not, nothing can be learned from that step.

        Args:
            use_finals: False: take it as not known.
        Returns:
            Each row's next row (that of a terminated one is not to be read), the observations of the rows
                behind, and the rows to learn from.
        Raises:
            DatasetError: there is nothing to learn from.
        """
        following = np.arange(len(self.actions)) + ~self.ends
        last_rows, has_final = self.starts + self.lengths - 1, np.zeros(len(self), dtype=np.bool_)
        finals = self.observations[:0]
        if use_finals and self.final_observations is not None:
            has_final = self.truncated & ~np.isnan(self.final_observations).any(axis=1)
            finals = self.final_observations[has_final]
            following[last_rows[has_final]] = len(self.actions) + np.arange(len(finals))
        learned = np.ones(len(self.actions), dtype=np.bool_)
        learned[last_rows[self.truncated & ~has_final]] = False
        if not learned.any():
            raise DatasetError(
                "every training row is the last of a truncated episode, and what it led to is not in the data; "
                "nothing can be learned from them."
            )
        return following, finals, np.flatnonzero(learned)

    def values_after_truncation(
        self, value: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    ) -> NDArray[np.float64] | None:
        """Return what followed each truncated episode is worth, on its last row, and 0 elsewhere, (rows,).

        Args:
            value: of observations, (some, obs_dim) -> (some,).
        Returns:
            None where no episode is truncated, or what one of them led to is not known.
        """
        cut, finals = self.truncated, self.final_observations
        if finals is None or not cut.any() or np.isnan(finals[cut]).any():
            return None
        values = np.zeros(len(self.actions))
        values[(self.starts + self.lengths - 1)[cut]] = value(finals[cut])
        return values

    def select(self, numbers: NDArray[np.int64]) -> "Episodes":
        """Return some of the episodes, in the order of ``numbers``."""
        rows = np.concatenate([np.arange(self.lengths[i]) + self.starts[i] for i in numbers])
        return Episodes(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            probabilities=self.probabilities[rows],
            lengths=self.lengths[numbers],
            truncated=self.truncated[numbers],
            final_observations=None if self.final_observations is None else self.final_observations[numbers],
            assumptions=self.assumptions,
            action_names=self.action_names,
        )

    def __iter__(self) -> Iterator[Episode]:
        for number, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            rows = slice(start, start + length)
            final = None if self.final_observations is None else self.final_observations[number]
            yield Episode(
                observations=self.observations[rows],
                actions=self.actions[rows],
                probabilities=self.probabilities[rows],
                rewards=self.rewards[rows],
                terminated=bool(self.terminated[number]),
                truncated=bool(self.truncated[number]),
                final_observation=None if final is None or np.isnan(final).any() else final,
            )


def logged_probabilities(probabilities: NDArray[np.float64], actions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each row's probability of its own action, (rows,)."""
    places = np.arange(len(actions)) * probabilities.shape[1] + actions
    # Several times as fast as numpy's take_along_axis.
    logged: NDArray[np.float64] = np.take(probabilities, places)
    return logged


def join_episodes(played: Iterable[Episode]) -> Episodes:
    """Put episodes, at least one, one after the other."""
    episodes = list(played)
    finals = [episode.final_observation for episode in episodes]
    unknown = np.full_like(episodes[0].observations[0], np.nan)
    return Episodes(
        observations=np.concatenate([episode.observations for episode in episodes]),
        actions=np.concatenate([episode.actions for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        probabilities=np.concatenate([episode.probabilities for episode in episodes]),
        lengths=np.array([len(episode.actions) for episode in episodes], dtype=np.int64),
        truncated=np.array([not episode.terminated for episode in episodes], dtype=np.bool_),
        final_observations=np.stack([unknown if final is None else final for final in finals])
        if any(final is not None for final in finals)
        else None,
    )


def split_episodes(episodes: Episodes, fraction: float, generator: np.random.Generator) -> tuple[Episodes, Episodes]:
    """Split whole episodes at random: about ``fraction`` of them, and the rest.

    Raises:
        DatasetError: one of the two would be empty.
    """
    first, second = split_numbers(len(episodes), fraction, generator)
    return episodes.select(first), episodes.select(second)


def split_numbers(
    count: int, fraction: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the episodes that ``split_episodes`` puts into either part, rising.

    Raises:
        DatasetError: one of the two would be empty.
    """
    order = generator.permutation(count)
    first = round(fraction * count)
    if first in (0, count):
        raise DatasetError(
            f"{count} episodes cannot be split at data.train_fraction = {fraction}: "
            "one part would be empty. Log more episodes, or change the fraction."
        )
    return np.sort(order[:first]), np.sort(order[first:])
