"""Writing and reading Coach's CSV. docs/data.md describes all formats."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from batch_rl.data.episodes import COLUMNS, FEATURE_PREFIX, NEXT_FEATURE_PREFIX, Episode, Episodes
from batch_rl.data.tables import CSV_LINES, episodes_from_frame, read_csv_frame
from batch_rl.errors import DatasetError
from batch_rl.files import write_atomically


def write_csv(path: Path, episodes: Iterable[tuple[int, Episode]], *, with_ends: bool = False) -> int:
    """Write (episode_id, episode) pairs, at least one, as Coach's CSV; return the number of rows.

    Args:
        with_ends: add the columns ``terminated`` and ``truncated`` and the observation after each action, which
            Coach does not know and ignores. Every episode must have its final observation.
    """
    pairs = list(episodes)
    width = pairs[0][1].observations.shape[1]
    names = [*COLUMNS, *(f"{FEATURE_PREFIX}{i}" for i in range(width))]
    if with_ends:
        names += ["terminated", "truncated", *(f"{NEXT_FEATURE_PREFIX}{i}" for i in range(width))]

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            for episode_id, episode in pairs:
                cumulative = [0.0] * (len(episode.actions) - 1) + [episode.total_reward]
                ends = _end_cells(episode) if with_ends else [[]] * len(episode.actions)
                writer.writerows(
                    [action, probabilities, episode_id, reward, total, *observation, *end]
                    for action, probabilities, reward, total, observation, end in zip(
                        # tolist() gives plain floats, whose text is a number and not "np.float64(0.5)"
                        episode.actions.tolist(),
                        episode.probabilities.tolist(),
                        episode.rewards.tolist(),
                        cumulative,
                        episode.observations.tolist(),
                        ends,
                        strict=True,
                    )
                )

    write_atomically(path, write)
    return sum(len(episode.actions) for _, episode in pairs)


def _end_cells(episode: Episode) -> list[list[float]]:
    if episode.final_observation is None:
        raise DatasetError("an episode without its final observation cannot be written with_ends.")
    following = np.concatenate([episode.observations[1:], episode.final_observation[None]]).tolist()
    flags = [[0, 0]] * (len(following) - 1) + [[int(episode.terminated), int(episode.truncated)]]
    return [[*flag, *observation] for flag, observation in zip(flags, following, strict=True)]


def read_csv(path: Path) -> Episodes:
    """Read and check a dataset.

    Raises:
        DatasetError: naming the file, and line (the header is line 1) and column of the first faults.
    """
    return episodes_from_frame(read_csv_frame(path), source=str(path), labels=CSV_LINES)
