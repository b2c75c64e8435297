"""Checkpoint folders: a file per kept epoch, pointers to the latest and the best, and a description.

``metadata.json`` tells whether a folder is ours before anything else in it is opened; ``latest`` and
``best`` are text files that hold a file name. Every file appears whole; a pointer moves only after its
file is there.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch

from batch_rl.ddqn import deciding_parameters
from batch_rl.errors import CheckpointError
from batch_rl.files import write_atomically, write_text_atomically
from batch_rl.networks import PolicyNetwork
from batch_rl.preset import ALGORITHMS
from batch_rl.training import TrainingRun

FORMAT = "batch-rl-checkpoint"
VERSION = 1


class CheckpointFolder:
    """Writes the checkpoints of one run.

    Args:
        folder: made if it is not there.
        keep: how many of the newest stay, beside the best.
    """

    def __init__(self, folder: Path, run: TrainingRun, *, keep: int) -> None:
        self.folder = folder
        self._run = run
        self._keep = keep
        self._best_wis = -math.inf
        self._best: Path | None = None
        self._written: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "algorithm": run.preset.agent.algorithm,
            "observation_size": run.observation_size,
            "n_actions": run.n_actions,
            "preset": dataclasses.asdict(run.preset),
        }
        write_text_atomically(folder / "metadata.json", json.dumps(metadata, indent=2) + "\n")

    def save(self, wis: float | None) -> Path:
        """Write the run as it is now and return the file.

        Args:
            wis: of the epoch that has just ended; None in the middle of one.
        """
        run = self._run
        path = self.folder / f"epoch-{run.epoch:04d}-update-{run.learner.updates:06d}.pt"
        content = {
            "epoch": run.epoch,
            "learner": run.learner.state(),
            "mean": run.mean,
            "scale": run.scale,
            "temperature": run.preset.ope.temperature,
            "best_wis": self._best_wis,
        }
        write_atomically(path, lambda temporary: torch.save(content, temporary))
        self._written = [kept for kept in self._written if kept != path] + [path]
        write_text_atomically(self.folder / "latest", path.name + "\n")
        if wis is not None and wis > self._best_wis:  # a NaN never is
            self._best_wis, self._best = wis, path
            write_text_atomically(self.folder / "best", path.name + "\n")
        for old in self._written[: -self._keep]:
            if old != self._best:
                old.unlink(missing_ok=True)
                self._written.remove(old)
        return path


def load_policy(folder: Path, which: str, *, observation_size: int, n_actions: int) -> PolicyNetwork:
    """Load the policy of a checkpoint folder.

    Args:
        which: ``latest`` or ``best``.
        observation_size, n_actions: of the environment that it shall act in.
    Raises:
        CheckpointError: the folder is empty or another program's, its file is damaged, or it does not fit.
    """
    metadata = _read_metadata(folder)
    for name, expected in (("observation_size", observation_size), ("n_actions", n_actions)):
        if metadata.get(name) != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with {name} {metadata.get(name)}, the environment has "
                f"{expected}. Choose the preset of the environment that the data came from."
            )
    pointer = folder / which
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: no readable file '{which}'; training may have ended too early.") from error
    path = folder / Path(name).name
    if not path.is_file():
        raise CheckpointError(f"{pointer} names {name!r}, which is not in the folder; copy the whole folder.")
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        learner = content["learner"]
        parameters = deciding_parameters(learner["online"], learner["snapshots"], n_actions)
        policy = PolicyNetwork(parameters, content["mean"], content["scale"], content["temperature"])
    # torch reports a damaged file in as many ways as it can be damaged.
    except Exception as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({type(error).__name__}).") from error
    return policy


def _read_metadata(folder: Path) -> dict[str, Any]:
    expected = "a checkpoint folder of train.py holds metadata.json, latest and epoch-*.pt"
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not present:
        raise CheckpointError(f"{folder} is empty; {expected}.")
    if "metadata.json" not in present:
        shown = ", ".join(present[:5]) + (", ..." if len(present) > 5 else "")
        hint = " Give the folder 'checkpoint' itself." if (folder / "checkpoint").is_dir() else ""
        raise CheckpointError(f"{folder} holds {shown}, but no checkpoint of ours; {expected}.{hint}")
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'metadata.json'} is not readable JSON; {expected}.") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError(f"{folder / 'metadata.json'} describes something else; {expected}.")
    if metadata.get("version") != VERSION or metadata.get("algorithm") not in ALGORITHMS:
        raise CheckpointError(
            f"{folder}: version {metadata.get('version')} of algorithm {metadata.get('algorithm')!r}; "
            f"this program reads version {VERSION} of {', '.join(ALGORITHMS)}."
        )
    return metadata
