"""Training data larger than memory: episodes dealt at random into parts on disk, of which one is in memory at a time.

Every episode of the log, in the order of the log, draws one number from the seed's generator. It decides whether the
episode is held out, and else which part it goes to. So a part is a random sample of the log, whatever order the log
has, and depends on the log, the seed, ``rows_in_memory`` and the share that trains alone. An epoch goes through all
parts in an order that seed and epoch decide, and through the rows of each part in an order of their own. What differs
from data in memory is that rows of different parts are never in one batch, and that what is fitted once (normalization,
reward model, imitation model) is fitted to the first part.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batch_rl.data.episodes import Episodes
from batch_rl.data.fingerprints import SeenEpisodes, fingerprints
from batch_rl.data.tables import Columns
from batch_rl.errors import DatasetError
from batch_rl.formats.loading import find_dataset, raise_small_propensities
from batch_rl.formats.parquet import ROWS_AT_ONCE, count_rows, stream_parquet

_ARRAYS = ("observations", "actions", "rewards", "probabilities", "lengths", "truncated", "final_observations")


class DealtEpisodes:
    """A log in parts; see the module.

    Args:
        channel: folder with the Parquet shards.
        folder: empty, takes as much space as the log's arrays.
        rows_in_memory: about how many rows a part has, and at most the held-out ones.
        train_fraction: share of the episodes that trains. Fewer are held out where the rest would be more than
            ``rows_in_memory``.
        least_propensity: smaller propensities are raised to it.
        columns, action_names: see ``batch_rl.data.tables.check_frame``.
    Raises:
        DatasetError: the log is not Parquet, has faults, or is too small to be dealt.
    """

    def __init__(
        self,
        channel: Path,
        folder: Path,
        *,
        rows_in_memory: int,
        train_fraction: float,
        seed: int,
        least_propensity: float = 0.0,
        columns: Columns | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        paths = find_dataset(channel)
        if paths[0].suffix.lower() != ".parquet":
            raise DatasetError(
                f"{paths[0]}: only Parquet can be read in parts; write it as Parquet, or leave data.rows_in_memory out."
            )
        self.first_file = paths[0]
        total_rows = count_rows(paths)
        held_out = min(1 - train_fraction, rows_in_memory / max(total_rows, 1))
        self.n_parts = max(1, math.ceil(total_rows * (1 - held_out) / rows_in_memory))
        self._folder = folder
        self.episodes = self.rows = self.truncated = 0
        raised = 0.0
        assumptions: dict[str, None] = {}
        digest = hashlib.sha256()
        fitted, held = [], []
        generator = np.random.default_rng(seed)
        self.action_names: tuple[str, ...] = ()
        at_once = min(ROWS_AT_ONCE, rows_in_memory)
        for whole in stream_parquet(paths, rows_at_once=at_once, columns=columns, action_names=action_names):
            self.action_names = whole.action_names
            block, share = raise_small_propensities(whole, least_propensity)
            raised += share * len(block.actions)
            places = generator.random(len(block)) / (1 - held_out) * self.n_parts
            parts = np.minimum(places, self.n_parts).astype(np.int64)
            numbers = fingerprints(whole)
            fitted.append(numbers[parts < self.n_parts])
            held.append(numbers[parts == self.n_parts])
            for part in np.unique(parts):
                self._append(int(part), block.select(np.flatnonzero(parts == part)), digest)
            self.episodes += len(block)
            self.rows += len(block.actions)
            self.truncated += int(block.truncated.sum())
            # Blocks count their own episodes, and the sum is no number worth printing.
            texts = (re.sub(r"\b\d+(?= (truncated )?episodes)", "some", text) for text in block.assumptions)
            assumptions |= dict.fromkeys(texts)
        self.assumptions = tuple(assumptions)
        self.raised_share = raised / max(self.rows, 1)
        self.digest = digest.hexdigest()
        self.seen = SeenEpisodes(np.concatenate(fitted), np.concatenate(held))
        empty = [part for part in range(self.n_parts + 1) if not self._path(part).is_file()]
        if empty:
            raise DatasetError(
                f"{paths[0].parent}: {self.episodes} episodes are too few for {self.n_parts} parts and held-out ones; "
                "raise data.rows_in_memory, or leave it out."
            )
        self.held_out = self.load(self.n_parts)

    def _path(self, part: int) -> Path:
        return self._folder / (f"part-{part}" if part < self.n_parts else "held-out")

    def _append(self, part: int, episodes: Episodes, digest: Any) -> None:
        if episodes.final_observations is None:
            unknown = np.full((len(episodes), episodes.observations.shape[1]), np.nan, dtype=np.float32)
            episodes = dataclasses.replace(episodes, final_observations=unknown)
        with self._path(part).open("ab") as file:
            for name in _ARRAYS:
                array = np.ascontiguousarray(getattr(episodes, name))
                np.save(file, array, allow_pickle=False)
                digest.update(f"{part} {name} {array.dtype} {array.shape} ".encode())
                digest.update(array.data)

    def load(self, part: int) -> Episodes:
        """Read a part, from 0; the one behind the last holds the episodes that are held out."""
        gathered: dict[str, list[Any]] = {name: [] for name in _ARRAYS}
        with self._path(part).open("rb") as file:
            end = file.seek(0, 2)
            file.seek(0)
            while file.tell() < end:
                for name in _ARRAYS:
                    gathered[name].append(np.load(file, allow_pickle=False))
        arrays: dict[str, Any] = {name: np.concatenate(gathered.pop(name)) for name in _ARRAYS}
        if np.isnan(arrays["final_observations"]).all():
            arrays["final_observations"] = None
        return Episodes(**arrays, assumptions=self.assumptions, action_names=self.action_names)
