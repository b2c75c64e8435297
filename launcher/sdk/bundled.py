"""``launcher.fit``: the bundled entry points, which read a preset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from launcher.errors import PresetError
from launcher.paths import checked_path
from launcher.sdk.estimator import Estimator
from launcher.sdk.inputs import Input, Inputs
from launcher.sdk.job_results import loose_location
from launcher.sdk.training_job import JobOutputs, TrainingJob
from launcher.settings import data_path

BUNDLED_METRIC_DEFINITIONS = [
    {"Name": "reward-training", "Regex": "^Training>.*Total reward=(.*?),"},
    {"Name": "reward-testing", "Regex": "^Testing>.*Total reward=(.*?),"},
    {"Name": "weighted-importance-sampling", "Regex": r"^Off-Policy Evaluation>.*\bWIS=([^,\s]+)"},
    {"Name": "sequential-doubly-robust", "Regex": r"^Off-Policy Evaluation>.*\bSequential-DR=([^,\s]+)"},
]

NAMES_JOB_OR_TIME = (
    "results/intermediate/run.json",
    "results/*/off_policy_evaluation.*",  # its caption
    "results/intermediate/tensorboard/*",
)
"""Files of the bundled entry points that name the job, the day or the time, and so differ from run to run."""

BUNDLED_CHANNELS = {"evaluate.py": "checkpoint"}
"""The channel that a bare path means, by entry point; ``train`` for the others."""


def fit(
    preset: str,
    inputs: Inputs = None,
    *,
    entry_point: str = "train.py",
    hyperparameters: Mapping[str, Any] | None = None,
    wait: bool = True,
    logs: str | bool = "All",
    job_name: str | None = None,
    debug: bool = False,
    **options: Any,
) -> TrainingJob:
    """Run one of the bundled entry points with a preset: the one-line form of a job.

    Args:
        preset: the name of a bundled preset, or the path of a YAML file.
        inputs: as ``Estimator.fit`` takes them; training reads the channel ``train``.
        entry_point: ``collect.py``, ``prepare.py``, ``train.py`` or ``evaluate.py``.
        hyperparameters: a dotted name overrides a value of the preset.
        options: anything that ``Estimator`` takes.
    Returns:
        The job, which has ended unless ``wait`` is False.
    Raises:
        JobFailedError, BadInputError, KeyboardInterrupt: as ``Estimator.fit``.
    """
    estimator = bundled_estimator(preset, entry_point, hyperparameters, **options)
    estimator.fit(bundled_inputs(entry_point, inputs), wait=wait, logs=logs, job_name=job_name, debug=debug)
    return estimator._latest


def bundled_estimator(
    preset: str, entry_point: str = "train.py", hyperparameters: Mapping[str, Any] | None = None, **options: Any
) -> Estimator:
    """Return an estimator for a bundled entry point, its presets packed beside it.

    Raises:
        PresetError: a path was given, and there is no such file.
    """
    if not isinstance(preset, str) or not preset:
        raise PresetError(f"the preset {preset!r} is not a name.", "Name a preset, or the path of a YAML file.")
    if "/" in preset or preset.endswith((".yaml", ".yml")):
        path = checked_path(preset, "preset", PresetError)
        if not path.is_file():
            raise PresetError(f"preset {preset}: there is no such file.", "Give its path, or the name of a preset.")
        preset = path.name
    else:
        path = checked_path(data_path("presets") / f"{preset}.yaml", "preset", PresetError)
        path = path if path.is_file() else path.with_suffix(".yml")
        # Without that file pack the whole folder: the check of presets then names the nearest.
        path = path if path.is_file() else path.parent
    options.setdefault("metric_definitions", BUNDLED_METRIC_DEFINITIONS)
    options.setdefault("base_job_name", preset.removesuffix(".yaml").removesuffix(".yml"))
    options.setdefault("source_dir", str(data_path("entrypoints")))
    return Estimator(
        entry_point=entry_point,
        hyperparameters={"preset": preset, **(hyperparameters or {})},
        dependencies=[str(path), *(options.pop("dependencies", None) or ())],
        **options,
    )


def bundled_inputs(entry_point: str, inputs: Inputs) -> Inputs:
    """Return ``inputs``; a bare path or job becomes the channel that the entry point reads.

    Bundled programs read files and no archives: an archive that a job left is unpacked.

    Raises:
        ChannelError: another archive was given.
    """
    if isinstance(inputs, str | os.PathLike | TrainingJob | JobOutputs):
        inputs = {BUNDLED_CHANNELS.get(entry_point, "train"): inputs}
    if not isinstance(inputs, Mapping):
        return inputs
    return {name: _loose(name, value) for name, value in inputs.items()}


def _loose(channel: str, value: Input) -> Input:
    if isinstance(value, str | os.PathLike) and isinstance(channel, str):
        return loose_location(os.fspath(value), channel)
    return value
