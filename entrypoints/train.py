"""Learn a policy from logged episodes alone, and estimate after every epoch what it is worth.

A preset with the section ``online`` learns in an environment instead; see ``train_online``.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import TypeVar

from batch_rl.data.episodes import Episodes
from batch_rl.data.feature_types import NORMALIZATION_FILE_NAME, FeatureParameters, read_normalization
from batch_rl.errors import BatchRLError, DatasetError, PresetError
from batch_rl.formats.loading import find_dataset, holds_dataset, load_episodes, raise_small_propensities
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.presets.reading import choose_training_preset, preset_folders, preset_name, preset_notes
from batch_rl.presets.schema import OnlinePreset, TrainingPreset
from job_toolkit.environment import JobEnvironment, JobInputError, read_environment
from job_toolkit.failure import fail_job

CHANNELS = ("train", "training")  # SageMaker's usual name, and the SDK's when a channel has none
CHECKPOINT_CHANNEL = "checkpoint"  # of a run that ended early and is to go on
NORMALIZATION_CHANNEL = "normalization"  # parameters that were found, or mended, beforehand
EXIT_STOPPED = 128 + signal.SIGTERM
SomePreset = TypeVar("SomePreset", TrainingPreset, OnlinePreset)


class StopRequest:
    """Remembers a SIGTERM, so that training ends after a whole update and leaves whole files."""

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True

    def __call__(self) -> bool:
        """Return whether the job shall end."""
        return self.received


def main() -> int:
    """Train; return 0, or 143 when a SIGTERM ended it early, with everything learned so far on disk."""
    stop = StopRequest()
    environment = read_environment()
    presets = preset_folders(Path(__file__))
    preset = choose_training_preset(environment.hyperparameters, presets)
    for note in preset_notes(environment.hyperparameters, presets):
        print(f"Preset> {note}.", flush=True)
    if preset.training.save_model and not preset.training.export:
        raise PresetError("training.export is empty; name a format, or set training.save_model to false.")
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if len(environment.hosts) > 1 and not together:
        print(
            f"Hosts> this job has {len(environment.hosts)} hosts, and each learns alone. They learn together with "
            "distribution={'torch_distributed': {'enabled': True}}.",
            flush=True,
        )
    if isinstance(preset, OnlinePreset):
        if together:
            raise PresetError(
                "learning in an environment takes a single host; leave distribution out, or learn from a log."
            )
        # Imported here: learning from a log needs no environment.
        from train_online import train_online

        earlier = earlier_checkpoint(environment)
        stopped = train_online(continued(preset, earlier), environment.paths, earlier, stop)
        return EXIT_STOPPED if stopped else 0
    dataset, hosts = dataset_folder(environment, Path(__file__).parent), None
    if together and is_sharded(environment, dataset):
        from batch_rl.learning.hosts import join_hosts
        from batch_rl.learning.sharing import gather_files

        hosts = join_hosts()
        dataset = gather_files(dataset, hosts)
        print("Data> each host had a part of the dataset, and has handed it to the others.", flush=True)
    path, episodes = prepare_episodes(dataset, preset)
    normalization = given_normalization(environment, preset)
    # Imported here: torch takes seconds to load, and data are refused without it.
    from batch_rl.learning.hosts import join_hosts
    from train_offline import Log, train_offline

    hosts = hosts or join_hosts()
    earlier = earlier_checkpoint(environment)
    stopped = train_offline(
        continued(preset, earlier),
        Log(path, episodes, environment.job_name, preset_name(environment.hyperparameters)),
        environment.paths,
        normalization=normalization,
        earlier=earlier,
        stop=stop,
        hosts=hosts,
    )
    hosts.leave()
    return EXIT_STOPPED if stopped else 0


def dataset_folder(environment: JobEnvironment, source: Path) -> Path:
    """Return the folder with the dataset: a channel's, else the source folder, where a dataset lies beside the script.

    Raises:
        JobInputError: the job has no such channel, and nothing lies beside the script.
        DatasetError: several datasets lie beside the script.
    """
    for name in CHANNELS:
        if name in environment.channels:
            return environment.channel(name)
    if holds_dataset(source):
        dataset = find_dataset(source)[0]
        print(f"Data> this job has no channel '{CHANNELS[0]}': {dataset}, which lies beside the script, is read.")
        return source
    try:
        return environment.channel(CHANNELS[0])
    except JobInputError as error:
        raise JobInputError(
            f"{error} Or put the dataset into the source folder, beside {Path(__file__).name}."
        ) from None


def is_sharded(environment: JobEnvironment, dataset: Path) -> bool:
    """Return whether the channel with the dataset gives each host a part of it."""
    config = environment.input_data_config.get(dataset.name)
    return (
        dataset.parent == environment.paths.input_data
        and isinstance(config, dict)
        and config.get("S3DistributionType") == "ShardedByS3Key"
    )


def prepare_episodes(channel: Path, preset: TrainingPreset) -> tuple[Path, Episodes | DealtEpisodes]:
    """Read the dataset and treat it as the preset says; print every assumption and change.

    Raises:
        DatasetError: the dataset is refused; all of its faults have been printed.
    """
    estimating = preset.data.behavior_policy == "estimate"
    try:
        if preset.data.rows_in_memory is not None:
            return deal_episodes(channel, preset, preset.data.rows_in_memory)
        path, episodes = load_episodes(
            channel,
            require_propensities=not estimating,
            columns=preset.data.columns,
            action_names=preset.data.action_names,
        )
    except DatasetError as error:
        if error.report is not None and len(error.report.problems) > 1:
            print(error.report, flush=True)
        raise
    for assumption in episodes.assumptions:
        print(f"Assumed> {assumption}.")
    if estimating:
        # Imported here: most logs have their propensities.
        from batch_rl.learning.behavior_estimate import estimate_behavior

        episodes, estimate = estimate_behavior(
            episodes,
            preset.seed,
            hidden_sizes=preset.agent.hidden_sizes,
            updates=preset.bcq.imitation_updates,
            epochs=preset.bcq.imitation_epochs,
        )
        print(f"Behavior policy> {estimate}.")
    if preset.data.least_propensity:
        episodes, share = raise_small_propensities(episodes, preset.data.least_propensity)
        print(f"Clipping> {share:.2%} of the propensities were raised to {preset.data.least_propensity:g}.")
    return path, episodes


def deal_episodes(channel: Path, preset: TrainingPreset, rows_in_memory: int) -> tuple[Path, DealtEpisodes]:
    """Read the dataset once and lay it out in parts, in a folder that goes when the process does.

    Raises:
        DatasetError: the dataset is refused.
        PresetError: the preset asks for what needs all rows at once.
    """
    for name, value, usable in (
        ("data.behavior_policy", preset.data.behavior_policy, "logged"),
        ("training.final_fit", preset.training.final_fit, "none"),
    ):
        if value != usable:
            raise PresetError(f"{name}={value} needs all rows at once; leave data.rows_in_memory out, or that.")
    folder = Path(tempfile.mkdtemp(prefix="batch-rl-parts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    dealt = DealtEpisodes(
        channel,
        folder,
        rows_in_memory=rows_in_memory,
        train_fraction=preset.data.train_fraction,
        seed=preset.seed,
        least_propensity=preset.data.least_propensity,
        columns=preset.data.columns,
        action_names=preset.data.action_names or None,
    )
    for assumption in dealt.assumptions:
        print(f"Assumed> {assumption}.")
    if preset.data.least_propensity:
        least = preset.data.least_propensity
        print(f"Clipping> {dealt.raised_share:.2%} of the propensities were raised to {least:g}.")
    print(
        f"Parts> {dealt.rows} rows of {dealt.episodes} episodes in {dealt.n_parts} parts of about {rows_in_memory} "
        "rows, and the held-out ones. All models but the policy are fitted to the first part."
    )
    return dealt.first_file, dealt


def given_normalization(environment: JobEnvironment, preset: TrainingPreset) -> dict[int, FeatureParameters] | None:
    """Return the parameters in the channel of that name; None where there is none.

    Raises:
        DatasetError: the channel holds no such file, or a damaged one.
        PresetError: there is a channel that the preset would ignore.
    """
    if NORMALIZATION_CHANNEL not in environment.channels:
        return None
    if preset.data.normalization == "none":
        raise PresetError(
            f"the job has a channel '{NORMALIZATION_CHANNEL}', and data.normalization is none; set it to reagent, or "
            "leave the channel out."
        )
    return read_normalization(environment.channel(NORMALIZATION_CHANNEL) / NORMALIZATION_FILE_NAME)


def earlier_checkpoint(environment: JobEnvironment) -> Path | None:
    """Return the folder that this job continues from: its channel of that name, or what the platform kept."""
    if CHECKPOINT_CHANNEL in environment.channels:
        return environment.channel(CHECKPOINT_CHANNEL)
    # Imported here, as in ``continued``: it loads torch.
    from batch_rl.learning.checkpoint import holds_checkpoint

    folder = environment.paths.checkpoints
    return folder if holds_checkpoint(folder) else None


def continued(preset: SomePreset, earlier: Path | None) -> SomePreset:
    """Return the preset as the checkpoint's run had it, where that had decided something else, or knew fewer keys."""
    if earlier is None:
        return preset
    from batch_rl.learning.checkpoint import as_begun

    preset, adopted = as_begun(preset, earlier)
    if adopted:
        print(f"Resumed> as the checkpoint's run began: {', '.join(adopted)}.", flush=True)
    return preset


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}", error.exit_code)
