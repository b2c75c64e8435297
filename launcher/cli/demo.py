"""The main job from end to end with what is built in: collect, train offline, evaluate, and say what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from launcher.errors import RuntimeUnavailableError
from launcher.sdk.bundled import bundled_estimator, bundled_inputs
from launcher.sdk.inputs import Inputs
from launcher.sdk.session import Session
from launcher.sdk.training_job import TrainingJob

if TYPE_CHECKING:
    import pandas as pd

EVALUATION_EPISODES = 100
PLAYED_STEPS = 1000  # what comes later counts for less than 0.01 at the preset's discount
MOST_DISCOUNTED = 1 / (1 - 0.99)  # rewards of 1 for ever, at the preset's discount
_SHOWN_EPOCHS = 12
_JUDGES = ("FQE", "WDR")  # the estimate to trust first
_WHY = {"FQE": "the estimate to trust", "WDR": "rests on few episodes"}
_ESTIMATES = re.compile(r" (WIS|WDR)=([-\d.]+)")
_EPOCH = re.compile(r"^Off-Policy Evaluation>.*\bEpoch=(\d+)")
_EPISODE = re.compile(r"^Testing>.*\bEpisode=(\d+)")


@dataclass(frozen=True)
class DemoResult:
    """What the jobs found.

    Attributes:
        random_reward: mean reward of an episode in the data.
        estimates: the metric CSV, a row an epoch.
        learned_reward: mean reward of the learned policy's episodes.
        judgement: of the last epoch's policy on the held-out episodes, as ``launcher ope --format json`` prints it;
            None where this interpreter lacks the libraries.
        not_judged: why there is none.
        truth: what the judged policy earned when it was played, as ``evaluate.py`` writes it.
    """

    collecting: TrainingJob
    training: TrainingJob
    evaluation: TrainingJob
    playing: TrainingJob
    random_reward: float
    estimates: pd.DataFrame
    learned_reward: float
    episodes: int
    judgement: dict[str, Any] | None
    not_judged: str = ""
    truth: dict[str, Any] | None = None


def run_demo(
    console: Console, *, runtime: str | None = None, mode: str | None = None, seed: int | None = None
) -> DemoResult:
    """Run the jobs, with a bar for each.

    Args:
        console: where the bars go.
        runtime: as ``Estimator`` takes it.
        mode: as ``Estimator`` takes it; in S3 mode one job's results reach the next one through the bucket.
        seed: for data, training and evaluation; default: the presets' own.
    Raises:
        JobFailedError: one of them failed.
    """
    import pandas as pd

    session = Session(mode=mode)

    def handed_over(job: TrainingJob, path: Path) -> str:
        if session.mode == "local":
            return str(path)
        return session.upload_data(path, key_prefix=f"{job.name}/{path.name}")

    seeds = {} if seed is None else {"seed": seed}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def run(
            title: str,
            preset: str,
            entry_point: str,
            inputs: Inputs,
            total: int,
            count: Callable[[str], int],
            options: dict[str, Any] | None = None,
        ) -> TrainingJob:
            task = progress.add_task(title, total=total)

            def on_line(_host: str, line: str) -> None:
                if done := count(line):
                    estimates = ", ".join(f"{name} {float(value):.1f}" for name, value in _ESTIMATES.findall(line))
                    shown = f"{title} ({estimates})" if estimates else title
                    progress.update(task, completed=done, description=shown)

            played = {"evaluate_episodes": total} if entry_point == "evaluate.py" else {}
            hyperparameters = {**seeds, **played, **(options or {})}
            estimator = bundled_estimator(preset, entry_point, hyperparameters, runtime=runtime, mode=mode)
            job = estimator.submit(bundled_inputs(entry_point, inputs))
            job.wait(on_line=on_line)
            progress.update(task, completed=progress.tasks[task].total)
            return job

        collecting = run("Collect 100 x 5 random episodes", "preset-cartpole-random", "collect.py", None, 1, _no_count)
        data_path = collecting.outputs.data_path
        dataset = handed_over(collecting, data_path)
        training = run(
            "Train DDQN + BCQ offline, epochs", "preset-cartpole-ddqnbcq", "train.py", dataset, 60, _count_epochs
        )
        checkpoint = handed_over(training, training.outputs.data_path / "checkpoint")
        evaluation = run(
            "Evaluate the greedy policy, episodes",
            "preset-cartpole-ddqnbcq-env",
            "evaluate.py",
            checkpoint,
            EVALUATION_EPISODES,
            _count_episodes,
        )
        played = run(
            "Play the judged policy without a limit, episodes",
            "preset-cartpole-ddqnbcq-env",
            "evaluate.py",
            checkpoint,
            EVALUATION_EPISODES,
            _count_episodes,
            {"evaluation.policy": "softmax", "environment.max_steps": PLAYED_STEPS},
        )
        judging = progress.add_task("Judge it by the held-out episodes", total=1)
        judgement, not_judged = _judge(
            data_path, training.outputs.data_path / "checkpoint", 0 if seed is None else seed
        )
        progress.update(judging, completed=1)
    rows = pd.concat([pd.read_csv(path) for path in sorted(data_path.glob("*.csv"))])
    result, truth = (
        json.loads((job.outputs.data_path / "evaluation.json").read_text(encoding="utf-8"))
        for job in (evaluation, played)
    )
    return DemoResult(
        collecting=collecting,
        training=training,
        evaluation=evaluation,
        playing=played,
        random_reward=float(rows["reward"].sum() / rows["episode_id"].nunique()),
        estimates=training.metrics(),
        learned_reward=float(result["mean"]),
        episodes=int(result["episodes"]),
        judgement=judgement,
        not_judged=not_judged,
        truth=truth,
    )


def _judge(dataset: Path, checkpoint: Path, seed: int) -> tuple[dict[str, Any] | None, str]:
    """Estimate what the scored policy is worth; where libraries are missing, return None and why."""
    from launcher.cli.ope import judge_policies

    try:
        return judge_policies(dataset, [checkpoint], estimators=list(_JUDGES), seed=seed), ""
    except RuntimeUnavailableError as error:
        return None, str(error)


def print_summary(console: Console, result: DemoResult) -> None:
    """Print what a person wants to know: what the estimates said, reward before and now, where everything is."""
    _print_judgement(console, result)
    _print_epochs(console, result.estimates)
    console.print(f"[bold]Random policy[/bold], which made the data: mean reward {result.random_reward:.1f}")
    console.print(
        f"[bold]Learned policy[/bold], from that data alone:  mean reward {result.learned_reward:.1f} "
        f"over {result.episodes} episodes"
    )
    _print_truth(console, result)
    intermediate = result.training.outputs.intermediate_path
    console.print("[bold]Where everything is[/bold]")
    plots = sorted(intermediate.glob("*.png"))
    for title, path in (
        ("dataset", next(iter(sorted(result.collecting.outputs.data_path.glob("*.csv"))), None)),
        ("model", result.training.model_data.removeprefix("file://")),
        ("checkpoint", result.training.outputs.data_path / "checkpoint"),
        ("estimates", next(iter(sorted(intermediate.glob("worker_*.csv"))), None)),
        ("plot", plots[0] if plots else None),
        ("evaluation", result.evaluation.outputs.data_path / "evaluation.json"),
        ("log", result.training.log_path),
    ):
        if path is not None:
            console.print(f"  {title:<11}{path}", soft_wrap=True, highlight=False)


def _print_judgement(console: Console, result: DemoResult) -> None:
    """Print the estimates to trust, with their intervals, and the logged policy on the same scale."""
    if result.judgement is None:
        console.print(f"The learned policy was not judged on this machine: {result.not_judged}", highlight=False)
        return
    judgement, (policy,) = result.judgement, result.judgement["policies"]
    least, most = judgement["bounds"]
    possible = "" if least is None or most is None else f"; from {least:.0f} to {most:.0f} is possible"
    table = Table(
        title=f"What {policy['policy']} is worth, by {judgement['episodes']} held-out episodes alone\n"
        f"(discounted reward per episode{possible})"
    )
    level = next((estimate["level"] for estimate in policy["estimates"] if estimate["level"] is not None), None)
    table.add_column("policy")
    table.add_column("estimate")
    table.add_column("value", justify="right")
    table.add_column("interval" if level is None else f"{level:.0%} interval", justify="right")
    table.add_column("")
    for estimate in policy["estimates"]:
        table.add_row("learned", estimate["estimator"], *_cells(estimate), _WHY[estimate["estimator"]])
    if (behavior := judgement["behavior"]) is not None:
        table.add_row("random", "mean of the log", *_cells(behavior), "what there is to beat")
    console.print(table)


def _print_truth(console: Console, result: DemoResult) -> None:
    """Print what the judged policy really earns beside what the log alone said of it."""
    if result.truth is None or result.judgement is None:
        return
    truth = float(result.truth["discounted_mean"])
    lower, upper = result.truth["discounted_mean_interval"]
    console.print(
        f"[bold]The truth[/bold]: {result.truth['policy']}, played without a limit, earns {truth:.1f} "
        f"({lower:.1f} to {upper:.1f}), discounted, by {result.truth['episodes']} episodes",
        highlight=False,
    )
    estimate = result.judgement["policies"][0]["estimates"][0]
    value, interval = _cells(estimate)
    said = f"{estimate['estimator']} said {value} from the log alone"
    if estimate["lower"] is None:
        console.print(f"  {said}, and no interval", highlight=False)
        return
    holds = "holds" if estimate["lower"] <= truth <= estimate["upper"] else "does not hold"
    console.print(f"  {said}; its interval, {interval}, {holds} the truth", highlight=False)


def _cells(estimate: dict[str, Any]) -> tuple[str, str]:
    value = "undefined" if estimate["value"] is None else f"{estimate['value']:.1f}"
    if estimate.get("uncut") is not None:
        value += f" (cut; it says {estimate['uncut']:.1f})"
    if estimate["lower"] is None:
        return value, "none"
    return value, f"{estimate['lower']:.1f} to {estimate['upper']:.1f}"


def _print_epochs(console: Console, estimates: pd.DataFrame) -> None:
    """Print Coach's columns over the epochs; a value that no policy can have is marked."""
    table = Table(title="Every epoch, in Coach's columns (less reliable)")
    columns = {
        "Epoch": "epoch",
        "Weighted Importance Sampling": "WIS",
        "Sequential Doubly Robust": "sequential DR",
        "Effective Sample Size": "effective episodes",
        "Loss/Mean": "loss",
    }
    shown = {name: title for name, title in columns.items() if name in estimates}
    for title in shown.values():
        table.add_column(title, justify="right")
    impossible = False
    step = max(1, -(-len(estimates) // _SHOWN_EPOCHS))
    for position in sorted({*range(0, len(estimates), step), len(estimates) - 1}):
        row = estimates.iloc[position]
        cells = []
        for name in shown:
            marked = name == "Sequential Doubly Robust" and row[name] > MOST_DISCOUNTED
            impossible |= marked
            cells.append(f"{row[name]:.0f}" if name == "Epoch" else f"{row[name]:.2f}{'*' if marked else ''}")
        table.add_row(*cells)
    if impossible:
        table.caption = f"* more than the {MOST_DISCOUNTED:.0f} that a policy can earn"
    console.print(table)


def _no_count(_line: str) -> int:
    return 0


def _count_epochs(line: str) -> int:
    match = _EPOCH.match(line)
    return int(match[1]) if match else 0


def _count_episodes(line: str) -> int:
    match = _EPISODE.match(line)
    return int(match[1]) if match else 0
