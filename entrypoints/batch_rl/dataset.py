"""Logged episodes: arrays, checks, and the CSV format of Coach's batch reinforcement learning.

A row is a step: ``action`` (a number from 0), ``all_action_probabilities`` (what the behavior policy gave
each action, as ``"[0.5, 0.5]"``), ``episode_id``, ``reward``, ``cumulative_rewards`` (0 except on an
episode's last row, where it is the return) and ``state_feature_0``, ``state_feature_1``, ... (the
observation before the action). Rows of an episode stand in order of time. The format has no flag for how
an episode ended: it is taken to have terminated.
"""

import csv
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("action", "all_action_probabilities", "episode_id", "reward", "cumulative_rewards")
FEATURE_PREFIX = "state_feature_"
PROBABILITY_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Episode:
    """One episode: row t holds what was seen before action t, and what followed from it."""

    observations: NDArray[np.float32]  # (steps, obs_dim)
    actions: NDArray[np.int64]  # (steps,)
    probabilities: NDArray[np.float64]  # (steps, n_actions), of the policy that acted
    rewards: NDArray[np.float64]  # (steps,)
    terminated: bool
    truncated: bool

    @property
    def total_reward(self) -> float:
        """The undiscounted sum of rewards."""
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Episodes:
    """Episodes that all terminated, one after the other in flat arrays.

    Args:
        observations: (rows, obs_dim) float32.
        actions: (rows,) from 0.
        rewards: (rows,).
        probabilities: (rows, n_actions), of the behavior policy; rows sum to 1.
        lengths: (episodes,) steps of each, at least 1; they sum to ``rows``.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    lengths: NDArray[np.int64]

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

    @cached_property
    def propensities(self) -> NDArray[np.float64]:
        """Probability that the behavior policy gave each logged action, (rows,)."""
        return np.take_along_axis(self.probabilities, self.actions[:, None], axis=1)[:, 0]

    def returns(self, discount: float) -> NDArray[np.float64]:
        """Return each episode's sum of rewards, the first one undiscounted, (episodes,)."""
        step = np.arange(len(self.actions)) - np.repeat(self.starts, self.lengths)
        return np.add.reduceat(self.rewards * np.power(discount, step), self.starts)

    def select(self, numbers: NDArray[np.int64]) -> "Episodes":
        """Return some of the episodes, in the order of ``numbers``."""
        rows = np.concatenate([np.arange(self.lengths[i]) + self.starts[i] for i in numbers])
        return Episodes(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            probabilities=self.probabilities[rows],
            lengths=self.lengths[numbers],
        )


def split_episodes(episodes: Episodes, fraction: float, generator: np.random.Generator) -> tuple[Episodes, Episodes]:
    """Split whole episodes at random: about ``fraction`` of them, and the rest.

    Raises:
        DatasetError: one of the two would be empty.
    """
    order = generator.permutation(len(episodes))
    first = round(fraction * len(episodes))
    if first in (0, len(episodes)):
        raise DatasetError(
            f"{len(episodes)} episodes cannot be split at data.train_fraction = {fraction}: "
            "one part would be empty. Log more episodes, or change the fraction."
        )
    return episodes.select(np.sort(order[:first])), episodes.select(np.sort(order[first:]))


def write_csv(path: Path, episodes: Iterable[tuple[int, Episode]]) -> int:
    """Write (episode_id, episode) pairs, at least one, as described above; return the number of rows."""
    pairs = list(episodes)
    features = [f"{FEATURE_PREFIX}{i}" for i in range(pairs[0][1].observations.shape[1])]

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*COLUMNS, *features])
            for episode_id, episode in pairs:
                cumulative = [0.0] * (len(episode.actions) - 1) + [episode.total_reward]
                writer.writerows(
                    [action, probabilities, episode_id, reward, total, *observation]
                    for action, probabilities, reward, total, observation in zip(
                        # tolist() gives plain floats, whose text is a number and not "np.float64(0.5)"
                        episode.actions.tolist(),
                        episode.probabilities.tolist(),
                        episode.rewards.tolist(),
                        cumulative,
                        episode.observations.tolist(),
                        strict=True,
                    )
                )

    write_atomically(path, write)
    return sum(len(episode.actions) for _, episode in pairs)


def find_csv(folder: Path) -> Path:
    """Return the one CSV file in a channel's folder.

    Raises:
        DatasetError: there is none, or more than one.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv") if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise DatasetError(f"{folder} holds {len(found)} CSV files ({names}); give the channel one dataset.")
    others = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else ""
    raise DatasetError(f"{folder} holds no .csv file" + (f", only: {others}." if others else "; it is empty."))


def read_csv(path: Path) -> Episodes:
    """Read and check a dataset.

    Raises:
        DatasetError: naming the file, the line (the header is line 1) and the column of the first fault.
    """
    frame = _read_frame(path)
    feature_columns = _feature_columns(path, frame)
    rewards = _numbers(path, frame, "reward")
    with np.errstate(over="ignore"):
        features = [_numbers(path, frame, name).astype(np.float32) for name in feature_columns]
    observations = np.stack(features, axis=1)
    for position, name in enumerate(feature_columns):
        _refuse_first(path, frame, name, ~np.isfinite(observations[:, position]), "is too large for float32")
    probabilities = _probabilities(path, frame)
    action_numbers = _numbers(path, frame, "action")
    n_actions = probabilities.shape[1]
    known = (action_numbers >= 0) & (action_numbers < n_actions) & (action_numbers == np.floor(action_numbers))
    _refuse_first(path, frame, "action", ~known, f"is not an action; they are numbered 0 to {n_actions - 1}")
    actions = action_numbers.astype(np.int64)
    propensities = np.take_along_axis(probabilities, actions[:, None], axis=1)[:, 0]
    _refuse_first(
        path,
        frame,
        "all_action_probabilities",
        propensities <= 0,
        "gives the logged action probability 0, so the row cannot come from that policy",
    )
    _refuse_first(path, frame, "episode_id", frame["episode_id"].isna().to_numpy(), "is missing")
    codes = frame["episode_id"].factorize()[0]
    # Interleaved episodes are taken apart; within an episode the order in the file is the order of time.
    order = np.argsort(codes, kind="stable")
    lengths = np.bincount(codes).astype(np.int64)
    episodes = Episodes(observations[order], actions[order], rewards[order], probabilities[order], lengths)
    if "cumulative_rewards" in frame:
        _check_returns(path, frame, episodes, order)
    return episodes


def _read_frame(path: Path) -> "pd.DataFrame":
    # Imported here: collecting writes with the csv module and need not wait for pandas.
    import pandas as pd

    try:
        frame = pd.read_csv(path, low_memory=False, skip_blank_lines=False)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a CSV table: {str(error).strip()}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DatasetError(f"{path}: rows hold more values than the header has names.")
    for name in COLUMNS[:4]:
        if name not in frame:
            nearest = difflib.get_close_matches(name, list(frame.columns), n=1)
            hint = f"; is '{nearest[0]}' meant?" if nearest else f"; it has: {', '.join(frame.columns[:12])}."
            raise DatasetError(f"{path}: column '{name}' is missing{hint}")
    if frame.empty:
        raise DatasetError(f"{path}: a header and no rows.")
    return frame


def _feature_columns(path: Path, frame: "pd.DataFrame") -> list[str]:
    found = [name for name in frame.columns if name.startswith(FEATURE_PREFIX)]
    expected = [f"{FEATURE_PREFIX}{i}" for i in range(len(found))]
    if not found:
        raise DatasetError(f"{path}: no column '{FEATURE_PREFIX}0'; the observation is missing.")
    if absent := [name for name in expected if name not in found]:
        raise DatasetError(f"{path}: column '{absent[0]}' is missing; features are numbered from 0 without gaps.")
    return expected


def _refuse_first(path: Path, frame: "pd.DataFrame", column: str, bad: NDArray[np.bool_], fault: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        count = int(bad.sum())
        more = f" ({count} such rows)" if count > 1 else ""
        raise DatasetError(f"{path}, line {row + 2}, column '{column}': {frame[column].iloc[row]} {fault}{more}.")


def _numbers(path: Path, frame: "pd.DataFrame", column: str) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    _refuse_first(path, frame, column, ~np.isfinite(numbers), "is not a finite number")
    return numbers


def _probabilities(path: Path, frame: "pd.DataFrame") -> NDArray[np.float64]:
    """Return (rows, n_actions). Equal texts are parsed once: most logs have few different ones."""
    column = "all_action_probabilities"
    _refuse_first(path, frame, column, frame[column].isna().to_numpy(), "is missing")
    codes, texts = frame[column].factorize()
    parsed: list[list[float]] = []
    for code, text in enumerate(texts):
        fault = None
        try:
            values = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            values = None
            if re.search(r"np\.float", text):
                fault = "is how NumPy 2 prints arrays; write plain numbers, by .tolist()"
        n_actions = len(parsed[0]) if parsed else None
        if not isinstance(values, list) or not values or not all(type(v) in (int, float) for v in values):
            fault = fault or "is not a list of numbers, as [0.5, 0.5]"
        elif n_actions not in (None, len(values)):
            fault = f"has {len(values)} probabilities where earlier rows have {n_actions}"
        elif not all(0 <= v <= 1 for v in values):  # refuses NaN as well
            fault = "has a probability outside [0, 1]"
        elif abs(sum(values) - 1) > PROBABILITY_SUM_TOLERANCE:
            fault = f"sums to {sum(values):.6g}, not 1"
        if fault:
            _refuse_first(path, frame, column, codes == code, fault)
        parsed.append([float(v) for v in values or ()])
    probabilities: NDArray[np.float64] = np.array(parsed, dtype=np.float64)[codes]
    return probabilities


def _check_returns(path: Path, frame: "pd.DataFrame", episodes: Episodes, order: NDArray[np.int64]) -> None:
    """A stated return that is not the sum of the rewards shows that rows are missing or in another order."""
    stated = _numbers(path, frame, "cumulative_rewards")[order]
    sums = episodes.returns(discount=1.0)
    last = episodes.starts + episodes.lengths - 1
    wrong = ~np.isclose(stated[last], sums, rtol=1e-6, atol=1e-6)
    if wrong.any():
        episode = int(wrong.argmax())
        row = int(order[last[episode]])
        raise DatasetError(
            f"{path}, line {row + 2}, column 'cumulative_rewards': episode {frame['episode_id'].iloc[row]} "
            f"ends with {stated[last[episode]]:g}, but its rewards add up to {sums[episode]:g}; rows are "
            "missing or out of order."
        )
