"""The part of ``train.py`` that learns from logged episodes: epochs with their estimates, checkpoints, the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batch_rl.data.episodes import Episodes
from batch_rl.data.feature_types import NORMALIZATION_FILE_NAME, Normalization, write_normalization
from batch_rl.data.normalization import describe_normalization
from batch_rl.formats.parts import DealtEpisodes
from batch_rl.learning.checkpoint import checkpoint_folders, resume
from batch_rl.learning.divergence import ValueWatch, largest_possible_value
from batch_rl.learning.export import export_policy, require_onnx
from batch_rl.learning.hosts import ALONE, Hosts
from batch_rl.learning.scaling import UNITS, scaling_of
from batch_rl.learning.training import EpochResult, TrainingRun
from batch_rl.ope import EstimatedValue, PolicyEvaluation
from batch_rl.presets.schema import TrainingPreset
from batch_rl.reporting.log_lines import now
from batch_rl.reporting.metrics_csv import BATCH_COLUMNS, BATCH_FILE_NAME, MetricsFile, epoch_row
from batch_rl.reporting.plots import plot_estimates, write_origin
from batch_rl.reporting.tensorboard import EventFile
from job_toolkit.paths import JobPaths

PLOT_FILE_NAME = "off_policy_evaluation.png"
LINE_COLUMNS = 80


@dataclass(frozen=True)
class Log:
    """Logged episodes, and what people call the job that learns from them."""

    path: Path
    episodes: Episodes | DealtEpisodes
    job_name: str
    preset_name: str


def train_offline(
    preset: TrainingPreset,
    log: Log,
    paths: JobPaths,
    *,
    normalization: Normalization | None,
    earlier: Path | None,
    stop: Callable[[], bool],
    hosts: Hosts = ALONE,
) -> bool:
    """Learn until the preset's end, or until ``stop``, which counts after every update.

    Args:
        normalization: of the features, where the job was given one.
        earlier: the checkpoint folder that the run goes on from.
        hosts: that learn together. The first one alone writes files, and tells of the run.
    Returns:
        Whether it was stopped before its end.
    """
    if preset.training.save_model and "onnx" in preset.training.export:
        require_onnx()
    run = TrainingRun(log.episodes, preset, normalization=normalization, hosts=hosts)
    if hosts.count > 1:
        print(f"Hosts> {hosts.count} learn together, each from its share of every batch.", flush=True)
    if not hosts.is_first:
        return _learn_along(run, log, earlier, stop)
    cut = run.data.truncated_episodes
    ended = f"{cut} episodes are truncated, the others terminated" if cut else "all count as terminated"
    print(
        f"{log.path.name}: {run.data.training_episodes} episodes ({run.data.training_rows} rows) train, "
        f"{len(run.held_out)} ({len(run.held_out.actions)} rows) evaluate; {ended}.\n"
        f"Evaluated policy: {run.scored_policy}. "
        f"Logged policy's discounted return on the held-out episodes: {run.logged_return:.2f}",
        flush=True,
    )
    if run.action_names:
        print(f"Actions> {', '.join(f'{number} = {name}' for number, name in enumerate(run.action_names))}", flush=True)
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
    _check_same_start(run)
    folders = checkpoint_folders(run, paths.output_data / "checkpoint", paths.checkpoints, resumption)
    checkpoints = folders[0]
    watch = ValueWatch(
        largest_possible_value(run.data.largest_reward, preset.agent.discount),
        preset.agent,
        spread=UNITS * scaling_of(run.fitting, preset.agent.discount).scale,
        best_by=preset.best_by,
    )
    metrics_path = paths.intermediate / BATCH_FILE_NAME
    origin = {"job": log.job_name, "preset": log.preset_name, "dataset": log.path.name, "date": now().split()[0]}
    write_origin(paths.intermediate, origin, action_names=run.action_names)
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
                folder.save(result.estimates.value(preset.best_by), metrics.text())
            print(epoch_line(result), flush=True)
            if run.epoch == preset.training.epochs and result.estimates.trajectory:
                print(*estimate_lines(result.estimates.trajectory, result.estimates.fqe), sep="\n", flush=True)
            for warning in watch.warnings(result):
                print(f"Warning> {now()}, {warning}", flush=True)
    served = run
    if preset.training.final_fit == "all_episodes" and run.epoch == run.epochs:
        final = TrainingRun(log.episodes, preset, normalization=normalization, final=True, hosts=hosts)
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
        for path in export_policy(served.policy(), paths.model, preset.training.export, action_names=run.action_names):
            print(f"Model> {path}", flush=True)
    if run.epoch > 0:
        plot_estimates(metrics_path, [paths.output_data / PLOT_FILE_NAME, paths.intermediate / PLOT_FILE_NAME])
    stopped = stop() or hosts.stopping
    if stopped:
        print(f"Stopped after {run.epoch} epochs and {run.learner.updates} updates.", flush=True)
    return stopped


def _learn_along(run: TrainingRun, log: Log, earlier: Path | None, stop: Callable[[], bool]) -> bool:
    """Take part in a run that the first host tells of; return whether it was stopped before its end."""
    if earlier is not None:
        resume(earlier, run)
    _check_same_start(run)
    while run.epoch < run.preset.training.epochs:
        if run.run_epoch(stop) is None:
            break
        print(f"Hosts> {now()}, Epoch={run.epoch}, Updates={run.learner.updates}", flush=True)
    if run.preset.training.final_fit == "all_episodes" and run.epoch == run.epochs:
        normalization = run.preprocessor.normalization if run.preprocessor is not None else None
        TrainingRun(log.episodes, run.preset, normalization=normalization, final=True, hosts=run.hosts).fit(stop)
    return stop() or run.hosts.stopping


def _check_same_start(run: TrainingRun) -> None:
    run.hosts.check_same("the epoch and the update that training goes on from", (run.epoch, run.learner.updates))


def epoch_line(result: EpochResult) -> str:
    """Return the log line of an epoch, of at most 80 columns; the metric file has every number of it."""
    estimates, trajectory = result.estimates, result.estimates.trajectory
    values = {"WIS": estimates.wis, "Sequential-DR": estimates.sequential_dr}
    if trajectory and "WDR" in trajectory.values:
        values["WDR"] = trajectory["WDR"].value
    return shown_epoch(result.epoch, values)


def shown_epoch(epoch: int, values: Mapping[str, float]) -> str:
    """Return an epoch's estimates as a line; the last ones are left out where the numbers are too long for it."""
    texts = [f"{name}={value:.4g}" for name, value in values.items()]
    while len(line := f"Off-Policy Evaluation> Epoch={epoch}, {', '.join(texts)}") > LINE_COLUMNS:
        texts.pop()
    return line


def estimate_lines(evaluation: PolicyEvaluation, fqe: EstimatedValue | None) -> list[str]:
    """Return what the last epoch's policy is worth by each estimator, and what to beware of."""
    lines = []
    for estimate in (*([fqe] if fqe else []), *evaluation.values.values()):
        interval = estimate.interval
        ends = f", Low={interval.lower:.4f}, High={interval.upper:.4f}, Level={interval.level:g}" if interval else ""
        lines.append(f"Estimate> {now()}, {estimate.name}={estimate.value:.4f}{ends}, Policy={evaluation.policy}")
    return lines + [f"Warning> {now()}, {note}" for note in evaluation.notes]
