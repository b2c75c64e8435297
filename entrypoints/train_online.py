"""The part of ``train.py`` that learns in an environment: no dataset, evaluations on the way instead of estimates."""

import math
from collections.abc import Callable
from pathlib import Path

from batch_rl.learning.checkpoint import checkpoint_folders, load_policy, resume
from batch_rl.learning.export import export_policy, require_onnx
from batch_rl.learning.online import EpisodeResult, OnlineRun
from batch_rl.presets.schema import OnlinePreset
from batch_rl.reporting.log_lines import episode_line, evaluation_line, now
from batch_rl.reporting.metrics_csv import EPISODE_FILE_NAME, MetricsFile
from job_toolkit.paths import JobPaths

SIGNALS = ("Loss", "Grads (unclipped)", "Q", "Learning Rate")
STATISTICS = ("Mean", "Stdev", "Max", "Min")
COLUMNS = (
    "Episode #",
    "Update Target Network",
    "Training Iter",
    "In Heatup",
    "ER #Transitions",
    "Episode Length",
    "Total steps",
    "Epsilon",
    "Training Reward",
    "Evaluation Reward",
    "Success Rate",
    *(f"{signal}/{statistic}" for signal in SIGNALS for statistic in STATISTICS),
)


def train_online(preset: OnlinePreset, paths: JobPaths, earlier: Path | None, stop: Callable[[], bool]) -> bool:
    """Learn until the preset's end, or until ``stop``, which counts at the end of an episode.

    Args:
        earlier: the checkpoint folder that the run goes on from.
    Returns:
        Whether it was stopped before its end.
    """
    if preset.training.save_model and "onnx" in preset.training.export:
        require_onnx()
    run, online = OnlineRun(preset), preset.online
    learner = run.learner
    end = f"until step {online.steps}" if online.episodes is None else f"for {online.episodes} episodes"
    print(
        f"Learning in {preset.environment.name} {end}, after {online.heatup_steps} random steps; "
        f"{online.evaluation_episodes} episodes of the greedy policy after every {online.evaluate_every_episodes} "
        "evaluate it.",
        flush=True,
    )
    resumption = None
    if earlier is not None:
        resumption = resume(earlier, run)
        print(f"Resumed> {now()}, Epoch={run.epoch}, Episode={learner.episodes}, from {earlier}", flush=True)
    folders = checkpoint_folders(run, paths.output_data / "checkpoint", paths.checkpoints, resumption)
    checkpoints = folders[0]
    metrics_path = paths.intermediate / EPISODE_FILE_NAME
    with MetricsFile(metrics_path, COLUMNS, earlier=resumption.metrics if resumption else "") as metrics:
        saved = True
        while not run.finished and not stop():
            result = run.run_episode()
            phase = "Heatup" if result.heatup else "Training"
            print(
                episode_line(
                    phase,
                    episode=result.number,
                    reward=result.reward,
                    exploration=round(result.epsilon, 4),
                    steps=learner.steps,
                    updates=learner.updates,
                ),
                flush=True,
            )
            rewards = run.evaluate() if run.evaluation_due else []
            metrics.append(_row(run, result, rewards))
            saved = bool(rewards)
            if rewards:
                _print_evaluation(run, rewards)
                for folder in folders:
                    folder.save(math.fsum(rewards) / len(rewards), metrics.text())
        if not saved:
            for folder in folders:
                folder.save(None, metrics.text())
    print(f"Checkpoint> {now()}, Saving in path=['{checkpoints.folder}']", flush=True)
    if preset.training.save_model:
        which = "best" if (checkpoints.folder / "best").is_file() else "latest"
        policy = load_policy(checkpoints.folder, which, observation_size=run.observation_size, n_actions=run.n_actions)
        for path in export_policy(policy, paths.model, preset.training.export):
            print(f"Model> {path}, the {which} checkpoint's policy", flush=True)
    if not run.finished:
        print(f"Stopped after {learner.episodes} episodes and {learner.updates} updates.", flush=True)
    return not run.finished


def _success_rate(run: OnlineRun, rewards: list[float]) -> float | None:
    threshold = run.reward_threshold
    return None if threshold is None else sum(reward >= threshold for reward in rewards) / len(rewards)


def _print_evaluation(run: OnlineRun, rewards: list[float]) -> None:
    for number, reward in enumerate(rewards, start=1):
        print(
            episode_line(
                "Testing",
                episode=number,
                reward=reward,
                exploration=0,
                steps=run.learner.steps,
                updates=run.learner.updates,
            )
        )
    success_rate = _success_rate(run, rewards)
    mean = math.fsum(rewards) / len(rewards)
    print(evaluation_line(math.nan if success_rate is None else success_rate, mean), flush=True)


def _row(run: OnlineRun, result: EpisodeResult, rewards: list[float]) -> dict[str, object]:
    learner = run.learner
    row: dict[str, object] = {
        "Episode #": result.number,
        "Update Target Network": learner.updates // run.preset.agent.target_copy_updates,
        "Training Iter": learner.updates,
        "In Heatup": int(result.heatup),
        "ER #Transitions": len(learner.replay),
        "Episode Length": result.length,
        "Total steps": learner.steps,
        "Epsilon": result.epsilon,
        "Training Reward": result.reward,
    }
    if rewards:
        row |= {"Evaluation Reward": math.fsum(rewards) / len(rewards), "Success Rate": _success_rate(run, rewards)}
    if len(result.statistics):
        for signal, values in zip(SIGNALS, result.statistics.T, strict=True):
            numbers = (values.mean(), values.std(), values.max(), values.min())
            row |= {f"{signal}/{name}": float(number) for name, number in zip(STATISTICS, numbers, strict=True)}
    return row
