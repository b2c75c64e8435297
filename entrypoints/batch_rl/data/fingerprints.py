"""Fingerprints of episodes: a checkpoint holds those of the episodes that its policy has learned from."""

import base64
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch_rl.data.episodes import Episodes

Fingerprints = NDArray[np.uint64]
_BYTES = 8


def fingerprints(episodes: Episodes) -> Fingerprints:
    """Return a number for each episode that its observations, actions and rewards decide, (episodes,).

    Probabilities have no part in it: they may be estimated, or raised, and the episode is the same. Nor has the order
    of the episodes, or the format of the file.
    """
    observations = np.ascontiguousarray(episodes.observations, dtype=np.float32)
    actions = np.ascontiguousarray(episodes.actions, dtype=np.int64)
    rewards = np.ascontiguousarray(episodes.rewards, dtype=np.float64)
    numbers = np.empty(len(episodes), dtype=np.uint64)
    for number, (start, length) in enumerate(zip(episodes.starts.tolist(), episodes.lengths.tolist(), strict=True)):
        rows = slice(start, start + length)
        digest = hashlib.blake2b(observations[rows].data, digest_size=_BYTES)
        digest.update(actions[rows].data)
        digest.update(rewards[rows].data)
        numbers[number] = int.from_bytes(digest.digest(), "little")
    return numbers


@dataclass(frozen=True)
class SeenEpisodes:
    """What a run has seen of a log.

    Args:
        fitted: fingerprints of the episodes that policy and models were fitted to.
        held_out: of those that its estimates come from, by which one of its checkpoints is named the best.
    """

    fitted: Fingerprints
    held_out: Fingerprints

    def to_dict(self) -> dict[str, str]:
        """Return texts, eleven characters an episode."""
        return {"fitted": _text(self.fitted), "held_out": _text(self.held_out)}

    @classmethod
    def from_dict(cls, texts: dict[str, str]) -> "SeenEpisodes":
        """Read what ``to_dict`` returned.

        Raises:
            ValueError: a text is damaged.
            LookupError: one is missing.
        """
        return cls(fitted=_numbers(texts["fitted"]), held_out=_numbers(texts["held_out"]))


def _text(numbers: Fingerprints) -> str:
    return base64.b64encode(np.sort(numbers).astype("<u8").tobytes()).decode("ascii")


def _numbers(text: str) -> Fingerprints:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u8").astype(np.uint64)
