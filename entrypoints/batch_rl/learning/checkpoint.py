"""Checkpoint folders: a file per kept epoch, pointers to the latest and the best, and a description.

``metadata.json`` tells whether a folder is ours before anything else in it is opened; ``latest``, ``best``
and, after a fit to all episodes, ``final`` are text files that hold a file name. Every file appears whole; a
pointer moves only after its file is there. A file holds all that a run needs to go on as if it had never
ended: networks, optimiser, random generators, and the metric file so far.
"""

import dataclasses
import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from batch_rl.data.feature_types import parse_normalization
from batch_rl.data.fingerprints import SeenEpisodes
from batch_rl.data.normalization import Preprocessor
from batch_rl.errors import CheckpointError
from batch_rl.files import write_atomically, write_text_atomically
from batch_rl.learning.learner import Ensemble
from batch_rl.learning.rules import make_rule
from batch_rl.learning.scaling import ValueScaling
from batch_rl.learning.support import Support, support_from
from batch_rl.networks import PolicyNetwork
from batch_rl.presets.schema import ALGORITHMS, SECTIONS, Agent, OnlinePreset, TrainingPreset

FORMAT = "batch-rl-checkpoint"
VERSION = 2  # 1: of version 0.1.0, which knew no scaling of values and no support
READABLE_VERSIONS = (1, 2)
PresetOfARun = TypeVar("PresetOfARun", TrainingPreset, OnlinePreset)
LEARNED_ONLINE = "learned online"  # in place of a dataset's digest, where there was no dataset
FINAL = "final"  # the pointer to the fit to all episodes
FILE_PATTERN = "epoch-*.pt"
# What a resumed run may do otherwise.
MAY_CHANGE = (
    "training.kept_checkpoints",
    "training.save_model",
    "training.export",
    "training.device",
    "training.tensorboard",
)
# The ways in which torch reports a damaged file, and this module one that holds other things.
DAMAGE = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
)


class Run(Protocol):
    """A run on logged episodes or in an environment, as far as a checkpoint needs it."""

    epoch: int

    @property
    def preset(self) -> TrainingPreset | OnlinePreset:
        """All values of the run."""

    @property
    def observation_size(self) -> int:
        """Number of raw features."""

    @property
    def n_actions(self) -> int:
        """Number of actions."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """Of actions 0, 1, ...; none where they are numbers."""

    @property
    def dataset_digest(self) -> str:
        """Of the data that it learns from."""

    @property
    def seen_episodes(self) -> SeenEpisodes | None:
        """The episodes that it was fitted to, and those that judge it; None where it learns in an environment."""

    @property
    def learner(self) -> Ensemble:
        """The networks."""

    @property
    def preprocessor(self) -> Preprocessor | None:
        """What is done to features before they are standardised, if anything."""

    @property
    def mean(self) -> Tensor:
        """What is subtracted from the features."""

    @property
    def scale(self) -> Tensor:
        """What they are divided by."""

    @property
    def temperature(self) -> float:
        """The served policy is softmax(Q / temperature)."""

    @property
    def support(self) -> Support | None:
        """Which actions the policy may play; None: all."""

    @property
    def scaling(self) -> ValueScaling:
        """Of what the networks learn."""

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on bit for bit."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""


@dataclass(frozen=True)
class Resumption:
    """What a run that goes on takes over from the one that ended."""

    metrics: str  # text of the metric file
    best_estimate: float
    best: Path | None


class CheckpointFolder:
    """Writes the checkpoints of one run.

    Args:
        folder: made if it is not there.
        keep: how many of the newest stay, beside the best.
        resumption: of a run that goes on; its best checkpoint is copied.
    """

    def __init__(self, folder: Path, run: Run, *, keep: int, resumption: Resumption | None = None) -> None:
        self.folder = folder
        self._run = run
        self._keep = keep
        self._best_estimate = resumption.best_estimate if resumption else -math.inf
        self._best: Path | None = None
        self._written: list[Path] = sorted(folder.glob(FILE_PATTERN))
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "algorithm": run.preset.agent.algorithm,
            "observation_size": run.observation_size,
            "n_actions": run.n_actions,
            **({"action_names": list(run.action_names)} if run.action_names else {}),
            "preset": dataclasses.asdict(run.preset.decided()),
            "dataset_sha256": run.dataset_digest,
            "value_scaling": asdict(run.scaling),
            **({"episodes": run.seen_episodes.to_dict()} if run.seen_episodes else {}),
            **_normalization(run),
        }
        write_text_atomically(folder / "metadata.json", json.dumps(metadata, indent=2) + "\n")
        if resumption and resumption.best:
            self._best = folder / resumption.best.name
            content = resumption.best.read_bytes()
            write_atomically(self._best, lambda temporary: temporary.write_bytes(content))
            write_text_atomically(folder / "best", self._best.name + "\n")

    def save(self, estimate: float | None, metrics: str) -> Path:
        """Write the run as it is now and return the file.

        Args:
            estimate: by ``training.best_by``, of the epoch that has just ended; None in the middle of one.
            metrics: text of the metric file.
        """
        run = self._run
        path = self.folder / f"epoch-{run.epoch:04d}-update-{run.learner.updates:06d}.pt"
        is_best = estimate is not None and estimate > self._best_estimate  # a NaN never is
        if estimate is not None and is_best:
            self._best_estimate, self._best = estimate, path
        content = _policy_content(run) | {"best_estimate": self._best_estimate, "metrics": metrics}
        write_atomically(path, lambda temporary: torch.save(content, temporary))
        self._written = [file for file in self._written if file != path] + [path]
        write_text_atomically(self.folder / "latest", path.name + "\n")
        if is_best:
            write_text_atomically(self.folder / "best", path.name + "\n")
        for old in self._written[: -self._keep]:
            if old != self._best:
                old.unlink(missing_ok=True)
                self._written.remove(old)
        return path

    def save_final(self, final: Run) -> Path:
        """Write the policy of the fit to all episodes, which is then the latest one, and return the file."""
        path = self.folder / f"final-update-{final.learner.updates:06d}.pt"
        write_atomically(path, lambda temporary: torch.save(_policy_content(final), temporary))
        write_text_atomically(self.folder / FINAL, path.name + "\n")
        return path


def checkpoint_folders(
    run: Run, folder: Path, outliving: Path, resumption: Resumption | None
) -> list[CheckpointFolder]:
    """Return the run's own folder, and the platform's where there is one that outlives the job; its newest is kept."""
    keep = run.preset.training.kept_checkpoints
    folders = [CheckpointFolder(folder, run, keep=keep, resumption=resumption)]
    if outliving.is_dir():
        folders.append(CheckpointFolder(outliving, run, keep=1, resumption=resumption))
    return folders


def _policy_content(run: Run) -> dict[str, Any]:
    content = {
        **run.state(),
        "mean": run.mean,
        "scale": run.scale,
        "temperature": run.temperature,
        "value_scaling": asdict(run.scaling),
        "support": None if run.support is None else run.support.state(),
    }
    return content | _normalization(run)


def _normalization(run: Run) -> dict[str, Any]:
    if run.preprocessor is None:
        return {}
    return {
        "normalization": {
            str(feature): asdict(parameters) for feature, parameters in run.preprocessor.normalization.items()
        }
    }


def load_policy(
    folder: Path, which: str, *, observation_size: int, n_actions: int, user: str = "environment"
) -> PolicyNetwork:
    """Load the policy of a checkpoint folder.

    Args:
        which: ``latest``, of the final fit where there was one, or ``best``; or a ``.pt`` file's name.
        observation_size, n_actions: of the environment that it shall act in, or of what ``where`` names.
    Raises:
        CheckpointError: the folder is empty or another program's, its file is damaged, or it does not fit.
    """
    metadata = _read_metadata(folder)
    for name, expected in (("observation_size", observation_size), ("n_actions", n_actions)):
        if metadata.get(name) != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with {name} {metadata.get(name)}, the {user} has "
                f"{expected}. Choose the preset of the environment that the data came from."
            )
    which = FINAL if which == "latest" and (folder / FINAL).is_file() else which
    path = folder / which if which.endswith(".pt") else _file(folder, which)
    try:
        content = _read_file(path)
        learner, rule = content["learner"], make_rule(_agent(metadata), n_actions)
        *hidden, weight, bias = rule.deciding_parameters(learner["online"], learner["snapshots"])
        # Checkpoints of version 0.1.0 learned in units of reward, and their policies played every action.
        scaling = ValueScaling(**content.get("value_scaling", {}))
        support = content.get("support")
        preprocessor = None
        if "normalization" in content:
            preprocessor = Preprocessor(parse_normalization(content["normalization"]), observation_size)
        return PolicyNetwork(
            [*hidden, weight * scaling.scale, bias * scaling.scale],
            content["mean"],
            content["scale"],
            content["temperature"],
            preprocessor,
            support=None if support is None else support_from(support),
            center=scaling.center,
        )
    except DAMAGE as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({type(error).__name__}).") from error


@dataclass(frozen=True)
class SavedPolicy:
    """A policy on disk, with its preset and the episodes that its run has seen.

    Args:
        path: of its own file.
        final: it was fitted to all episodes, the held-out ones too.
        preset: all values of the training, by section.
        dataset_sha256: of the episodes it was made of, as ``training.dataset_digest`` gives it.
        seen: what its run has seen of its log; None of one that learned in an environment, and of version 0.1.0.
        best: its run's estimates, by the episodes that it held out, made it the best of its checkpoints.
    """

    path: Path
    policy: PolicyNetwork
    final: bool
    preset: dict[str, Any]
    dataset_sha256: str
    seen: SeenEpisodes | None = None
    best: bool = False


def open_policy(place: Path, *, observation_size: int, n_actions: int) -> SavedPolicy:
    """Load a policy from a checkpoint folder, which means its latest one, or from a file in it.

    Args:
        place: the folder, or its ``best``, ``latest``, ``final`` or a ``.pt`` file.
        observation_size, n_actions: of the data that it shall be judged on.
    Raises:
        CheckpointError: as ``load_policy``.
    """
    folder, which = (place.parent, place.name) if place.is_file() else (place, "latest")
    if which == "latest" and (folder / FINAL).is_file():
        which = FINAL
    metadata = _read_metadata(folder)
    path = folder / which if which.endswith(".pt") else _file(folder, which)
    policy = load_policy(folder, which, observation_size=observation_size, n_actions=n_actions, user="dataset")
    try:
        seen = SeenEpisodes.from_dict(metadata["episodes"]) if "episodes" in metadata else None
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{folder / 'metadata.json'}: 'episodes' is damaged ({error}).") from error
    best = (folder / "best").is_file() and _file(folder, "best") == path
    return SavedPolicy(
        path, policy, path.name.startswith(FINAL), metadata["preset"], metadata["dataset_sha256"], seen, best
    )


@dataclass(frozen=True)
class TrainedFor:
    """What a policy was trained for: the weight of a reward one step later, and the names of its actions, if any."""

    discount: float
    action_names: tuple[str, ...]


def trained_for(folder: Path) -> TrainedFor:
    """Return what the policy of a checkpoint folder was trained for.

    Raises:
        CheckpointError: the folder holds no checkpoint of ours.
    """
    metadata = _read_metadata(folder)
    return TrainedFor(
        float(_earlier_values(metadata)["agent.discount"]),
        tuple(str(name) for name in metadata.get("action_names", ())),
    )


def how_logs_are_read(places: Sequence[Path]) -> dict[str, Any]:
    """Return ``columns`` and ``action_names`` by which policies have read their log, for other logs of that kind.

    Raises:
        CheckpointError: there is no checkpoint of ours, or the policies read their logs differently.
    """
    ways = []
    for place in places:
        metadata = _read_metadata(place.parent if place.is_file() else place)
        columns = metadata["preset"].get("data", {}).get("columns")
        ways.append({"columns": columns, "action_names": metadata.get("action_names")})
    if any(way != ways[0] for way in ways):
        raise CheckpointError(
            "the policies read their logs by different data.columns or names of actions; judge them apart."
        )
    return ways[0]


def holds_checkpoint(folder: Path) -> bool:
    """Return whether a run has left a checkpoint in ``folder``."""
    return (folder / "metadata.json").is_file() and (folder / "latest").is_file()


def resume(folder: Path, run: Run) -> Resumption:
    """Bring a fresh run to where the latest checkpoint of ``folder`` was written.

    Raises:
        CheckpointError: as ``load_policy``; or the checkpoint is of other data or other values of the preset.
    """
    metadata = _read_metadata(folder)
    learned_online = [digest == LEARNED_ONLINE for digest in (metadata.get("dataset_sha256"), run.dataset_digest)]
    if learned_online[0] != learned_online[1]:
        ways = ("on logged data", "in an environment") if learned_online[1] else ("in an environment", "from a log")
        raise CheckpointError(
            f"{folder}: the checkpoint was trained {ways[0]}, and this run learns {ways[1]}, so it cannot go on from "
            "it. Choose the checkpoint's preset, or leave the checkpoint out to begin anew."
        )
    if metadata.get("dataset_sha256") != run.dataset_digest:
        raise CheckpointError(
            f"{folder}: the checkpoint was trained on another dataset, so this run cannot go on from it. "
            "Hand over that dataset, or leave the checkpoint out to begin anew."
        )
    decided = json.loads(json.dumps(dataclasses.asdict(run.preset.decided())))
    earlier, present, may_change = _earlier_values(metadata), _flat(decided), {*MAY_CHANGE, *run.preset.unread}
    changed = [name for name in present if name not in may_change and earlier.get(name) != present[name]]
    if changed:
        shown = ", ".join(f"{name} = {earlier.get(name)} (now {present[name]})" for name in changed[:3])
        raise CheckpointError(
            f"{folder}: the checkpoint was trained with {shown}, so this run cannot go on from it. "
            "Set the same values, or leave the checkpoint out to begin anew."
        )
    if metadata.get("normalization") != json.loads(json.dumps(_normalization(run))).get("normalization"):
        raise CheckpointError(
            f"{folder}: the checkpoint was trained with another normalization of the features, so this run cannot go "
            "on from it. Hand over that one in the channel 'normalization', or leave the checkpoint out."
        )
    path = _file(folder, "latest")
    try:
        content = _read_file(path)
        run.restore(content)
        best_estimate, metrics = float(content["best_estimate"]), str(content["metrics"])
    except DAMAGE as error:
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({type(error).__name__}).") from error
    return Resumption(metrics, best_estimate, _file(folder, "best") if best_estimate > -math.inf else None)


def as_begun(preset: PresetOfARun, folder: Path) -> tuple[PresetOfARun, list[str]]:
    """Return a preset with the values that the checkpoint's run had for keys that it did not know, and their names.

    Such a run goes on as it began, also in what this preset leaves open and that run had decided. A value that the
    preset sets to something else than the key's default stays, and ``resume`` will refuse it.

    Raises:
        CheckpointError: the folder holds no checkpoint of ours.
    """
    metadata = _read_metadata(folder)
    earlier, open_now, decided = _earlier_values(metadata), _values(preset), _values(preset.decided())
    lacking = _values_before(metadata)
    lacking |= {name: earlier[name] for name, value in open_now.items() if value != decided[name] != earlier[name]}
    adopted: list[str] = []
    sections: dict[str, Any] = {}
    for name, value in lacking.items():
        section, _, key = name.rpartition(".")
        if not hasattr(preset, section) or name in MAY_CHANGE:
            continue
        present = sections.get(section, getattr(preset, section))
        default = next(f.default for f in dataclasses.fields(present) if f.name == key)
        if getattr(present, key) == default != value:
            sections[section] = dataclasses.replace(present, **{key: value})
            adopted.append(f"{name}={value}")
    return dataclasses.replace(preset, **sections), adopted


def _values_before(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what the keys that a checkpoint lacks were worth to its run."""
    names, lacking = _flat(metadata["preset"]), {}
    for section, kind in SECTIONS.items():
        for key in dataclasses.fields(kind):
            name, before = f"{section}.{key.name}", key.metadata["before"]
            value = key.default if before is dataclasses.MISSING else before
            if name not in names and value is not dataclasses.MISSING:
                lacking[name] = value
    return lacking


def _earlier_values(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's preset by dotted key, with the keys that are newer than it."""
    lacking: dict[str, Any] = json.loads(json.dumps(_values_before(metadata)))
    return lacking | _flat(metadata["preset"])


def _agent(metadata: dict[str, Any]) -> Agent:
    """Return the agent of a checkpoint; keys that this version does not know are those of a newer one."""
    values = {name.removeprefix("agent."): value for name, value in _earlier_values(metadata).items()}
    names = {f.name for f in dataclasses.fields(Agent)}
    arguments: dict[str, Any] = {name: value for name, value in values.items() if name in names}
    arguments["hidden_sizes"] = tuple(arguments["hidden_sizes"])
    return Agent(**arguments)


def _values(preset: TrainingPreset | OnlinePreset) -> dict[str, Any]:
    return _flat(dataclasses.asdict(preset))


def _flat(preset: dict[str, Any]) -> dict[str, Any]:
    """Return a preset's values by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in preset.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _read_file(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(content, dict):
        raise TypeError("a checkpoint is a dictionary")
    return content


def _file(folder: Path, which: str) -> Path:
    pointer = folder / which
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: no readable file '{which}'; training may have ended too early.") from error
    path = folder / Path(name).name
    if not path.is_file():
        raise CheckpointError(f"{pointer} names {name!r}, which is not in the folder; copy the whole folder.")
    return path


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
    if metadata.get("version") not in READABLE_VERSIONS or metadata.get("algorithm") not in ALGORITHMS:
        versions = " and ".join(str(version) for version in READABLE_VERSIONS)
        raise CheckpointError(
            f"{folder}: version {metadata.get('version')} of algorithm {metadata.get('algorithm')!r}; "
            f"this program reads versions {versions} of {', '.join(ALGORITHMS)}."
        )
    return metadata
