"""Learn a policy from logged episodes alone, and estimate after every epoch what it is worth.

A preset with the section ``online`` learns in an environment instead; see ``train_online``.
"""

import atexit
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from batch_rl.data.episodes import Episodes
from batch_rl.data.feature_types import (
    NORMALIZATION_FILE_NAME,
    FeatureParameters,
    read_normalization,
    write_normalization,
)
from batch_rl.data.normalization import describe_normalization
from batch_rl.errors import BatchRLError, DatasetError, PresetError
from batch_rl.formats.loading import find_dataset, holds_dataset, load_episodes, raise_small_propensities
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.checkpoint import PresetOfARun, as_begun, checkpoint_folders, holds_checkpoint, resume
from batch_rl.learning.divergence import ValueWatch, largest_possible_value
from batch_rl.learning.export import export_policy, require_onnx
from batch_rl.learning.scaling import UNITS, scaling_of
from batch_rl.learning.training import EpochResult, TrainingRun
from batch_rl.networks import choose_device
from batch_rl.ope import PolicyEvaluation
from batch_rl.presets.reading import choose_training_preset, preset_folders, preset_notes
from batch_rl.presets.schema import OnlinePreset, TrainingPreset
from batch_rl.reporting.log_lines import now
from batch_rl.reporting.metrics_csv import BATCH_COLUMNS, BATCH_FILE_NAME, MetricsFile, epoch_row
from batch_rl.reporting.plots import plot_estimates
from batch_rl.reporting.tensorboard import EventFile
from job_toolkit.environment import JobEnvironment, JobInputError, read_environment
from job_toolkit.failure import fail_job

CHANNELS = ("train", "training")  # SageMaker's usual name, and the SDK's when a channel has none
CHECKPOINT_CHANNEL = "checkpoint"  # of a run that ended early and is to go on
NORMALIZATION_CHANNEL = "normalization"  # parameters that were found, or mended, beforehand
EXIT_STOPPED = 128 + signal.SIGTERM
PLOT_FILE_NAME = "off_policy_evaluation.png"


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
    if preset.training.save_model and "onnx" in preset.training.export:
        require_onnx()
    if isinstance(preset, OnlinePreset):
        # Imported here: learning from a log needs no environment.
        from train_online import train_online

        earlier = earlier_checkpoint(environment)
        stopped = train_online(continued(preset, earlier), environment.paths, earlier, stop)
        return EXIT_STOPPED if stopped else 0
    choose_device(preset.training.device)
    dataset_path, episodes = prepare_episodes(dataset_folder(environment, Path(__file__).parent), preset)
    normalization = given_normalization(environment, preset)
    earlier = earlier_checkpoint(environment)
    preset = continued(preset, earlier)
    run = TrainingRun(episodes, preset, normalization=normalization)
    paths = environment.paths
    cut = run.data.truncated_episodes
    ended = f"{cut} episodes are truncated, the others terminated" if cut else "all count as terminated"
    print(
        f"{dataset_path.name}: {run.data.training_episodes} episodes ({run.data.training_rows} rows) train, "
        f"{len(run.held_out)} ({len(run.held_out.actions)} rows) evaluate; {ended}.\n"
        f"Evaluated policy: {run.scored_policy}. "
        f"Logged policy's discounted return on the held-out episodes: {run.logged_return:.2f}",
        flush=True,
    )
    print(f"Device> {run.device_description}", flush=True)
    if run.support_description:
        print(f"Support> an action is played where {run.support_description}.", flush=True)
    if run.preprocessor is not None:
        print(f"Normalization> {describe_normalization(run.preprocessor)}", flush=True)
        write_normalization(paths.output_data / NORMALIZATION_FILE_NAME, run.preprocessor.normalization)
    resumption = None
    if earlier is not None:
        resumption = resume(earlier, run)
        print(f"Resumed> {now()}, Epoch={run.epoch}, Updates={run.learner.updates}, from {earlier}", flush=True)
    folders = checkpoint_folders(run, paths.output_data / "checkpoint", paths.checkpoints, resumption)
    checkpoints = folders[0]
    watch = ValueWatch(
        largest_possible_value(run.data.largest_reward, preset.agent.discount),
        preset.agent,
        spread=UNITS * scaling_of(run.fitting, preset.agent.discount).scale,
        best_by=preset.training.best_by,
    )
    metrics_path = paths.intermediate / BATCH_FILE_NAME
    events = EventFile(paths.intermediate / "tensorboard") if preset.training.tensorboard else None
    with MetricsFile(metrics_path, BATCH_COLUMNS, earlier=resumption.metrics if resumption else "") as metrics:
        while run.epoch < preset.training.epochs:
            result = run.run_epoch(stop)
            if result is None:
                for folder in folders:
                    folder.save(None, metrics.text())
                break
            row = epoch_row(run, result)
            metrics.append(row)
            if events is not None:
                events.append(result.epoch, row)
            for folder in folders:
                folder.save(result.estimates.value(preset.training.best_by), metrics.text())
            print(epoch_line(result, preset.training.epochs), flush=True)
            if run.epoch == preset.training.epochs and result.estimates.trajectory:
                print(*estimate_lines(result.estimates.trajectory), sep="\n", flush=True)
            for warning in watch.warnings(result):
                print(f"Warning> {now()}, {warning}", flush=True)
    served = run
    if preset.training.final_fit == "all_episodes" and run.epoch == run.epochs:
        final = TrainingRun(episodes, preset, normalization=normalization, final=True)
        if final.fit(stop):
            served = final
            checkpoints.save_final(final)
            print(
                f"Final fit> {now()}, {final.epochs} epochs on all {len(final.fitting)} episodes. The estimates above "
                "are of the policy that learned without the held-out ones, not of this one.",
                flush=True,
            )
    print(f"Checkpoint> {now()}, Saving in path=['{checkpoints.folder}']", flush=True)
    if preset.training.save_model:
        for path in export_policy(served.policy(), paths.model, preset.training.export):
            print(f"Model> {path}", flush=True)
    if run.epoch > 0:
        plot_estimates(metrics_path, [paths.output_data / PLOT_FILE_NAME, paths.intermediate / PLOT_FILE_NAME])
    if stop.received:
        print(f"Stopped after {run.epoch} epochs and {run.learner.updates} updates.", flush=True)
    return EXIT_STOPPED if stop.received else 0


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


def prepare_episodes(channel: Path, preset: TrainingPreset) -> tuple[Path, Episodes | DealtEpisodes]:
    """Read the dataset and do to it what the preset says; print what was assumed and changed.

    Raises:
        DatasetError: the dataset is refused; all of its faults have been printed.
    """
    estimating = preset.data.behavior_policy == "estimate"
    try:
        if preset.data.rows_in_memory is not None:
            return deal_episodes(channel, preset, preset.data.rows_in_memory)
        path, episodes = load_episodes(channel, require_propensities=not estimating)
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
    folder = environment.paths.checkpoints
    return folder if holds_checkpoint(folder) else None


def continued(preset: PresetOfARun, earlier: Path | None) -> PresetOfARun:
    """Return the preset as the checkpoint's run had it, where that did not know all of today's keys."""
    if earlier is None:
        return preset
    preset, adopted = as_begun(preset, earlier)
    if adopted:
        print(f"Resumed> an older version wrote the checkpoint, so {', '.join(adopted)} as it was there.", flush=True)
    return preset


def epoch_line(result: EpochResult, epochs: int) -> str:
    """Return the log line of an epoch, with the fields that Coach's line has first."""
    estimates, trajectory = result.estimates, result.estimates.trajectory
    wdr = f", WDR={trajectory['WDR'].value:.4f}" if trajectory and "WDR" in trajectory.values else ""
    return (
        f"Off-Policy Evaluation> {now()}, Epoch={result.epoch}, IPS={estimates.one_step_ips:.4f}, "
        f"DM={estimates.one_step_dm:.4f}, DR={estimates.one_step_dr:.4f}, WIS={estimates.wis:.4f}, "
        f"Sequential-DR={estimates.sequential_dr:.4f}, "
        f"Effective sample size={estimates.weights.effective_sample_size:.1f}, "
        f"Mean weight={estimates.weights.mean_weight:.3g}{wdr}, Loss={result.losses.mean():.4f}, "
        f"Q={result.batch_q.mean():.2f}, Epochs={epochs}"
    )


def estimate_lines(evaluation: PolicyEvaluation) -> list[str]:
    """Return what the last epoch's policy is worth by each estimator, and what to beware of."""
    lines = []
    for estimate in evaluation.values.values():
        ends = f", Low={estimate.interval.lower:.4f}, High={estimate.interval.upper:.4f}" if estimate.interval else ""
        level = f", Level={estimate.interval.level:g}" if estimate.interval else ""
        lines.append(
            f"Estimate> {now()}, {estimate.name}={estimate.value:.4f}{ends}{level}, Policy={evaluation.policy}"
        )
    return lines + [f"Warning> {now()}, {note}" for note in evaluation.notes]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BatchRLError, JobInputError) as error:
        fail_job(f"{type(error).__name__}: {error}")
