"""``launcher tune``: hyperparameters chosen by a strategy, a training job each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.arguments import channels_of, hyperparameters_of, located, metrics_of
from launcher.cli.jobs import AsJson, see_through
from launcher.cli.printing import print_json, print_table
from launcher.errors import BadInputError
from launcher.paths import exists
from launcher.terminal import say, say_error

if TYPE_CHECKING:
    from launcher.sdk.parameters import ParameterRange
    from launcher.sdk.tuning_job import TuningJob

_SCALINGS = {
    "auto": "Auto",
    "linear": "Linear",
    "log": "Logarithmic",
    "reverse-log": "ReverseLogarithmic",
}
_STRATEGIES = {"bayesian": "Bayesian", "random": "Random", "grid": "Grid", "hyperband": "Hyperband"}
_EXAMPLES = "For example: --range lr=1e-5:1e-2:log, --range layers=1:4 or --range optimizer=adam,sgd"


def tune(
    target: Annotated[str, typer.Argument(metavar="SCRIPT_OR_PRESET", help="A script, or a preset of train.py.")],
    ranges: Annotated[
        list[str],
        typer.Option(
            "--range", "-R", help="NAME=LOW:HIGH[:log|linear|reverse-log], or NAME=VALUE,VALUE; may be repeated."
        ),
    ],
    objective: Annotated[str, typer.Option(help="The metric to tune for; a preset's metrics are there already.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="NAME=REGEX, group 1 is the value in a line of the log; may be repeated."),
    ] = None,
    minimize: Annotated[bool, typer.Option("--minimize", help="Less is better.")] = False,
    max_jobs: Annotated[int | None, typer.Option(help="Training jobs in all; every combination of a grid.")] = None,
    parallel: Annotated[int, typer.Option(help="Training jobs at once.")] = 1,
    strategy: Annotated[str, typer.Option(help="bayesian, random, grid or hyperband.")] = "bayesian",
    max_resource: Annotated[
        int | None, typer.Option(help="Hyperband: the epochs of a training job; read from its hyperparameters.")
    ] = None,
    min_resource: Annotated[int, typer.Option(help="Hyperband: epochs before a training job is judged.")] = 1,
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop training jobs by the median rule.")
    ] = False,
    target_value: Annotated[
        float | None, typer.Option("--target", help="Stop once the objective is as good as this.")
    ] = None,
    max_runtime: Annotated[int | None, typer.Option(help="Seconds for all of it, at least 120.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the chosen values.")] = None,
    source_dir: Annotated[str | None, typer.Option(help="The folder that holds the script.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="[CHANNEL=]PATH, s3://..., JOB or JOB:output/FILE.")
    ] = None,
    hyperparameters: Annotated[
        list[str] | None, typer.Option("--hyperparameter", "-p", help="NAME=VALUE, not tuned; may be repeated.")
    ] = None,
    job_name: Annotated[str | None, typer.Option(help="Up to 32 characters; made from the time by default.")] = None,
    output_path: Annotated[str | None, typer.Option(help="Where results go, a folder or s3://...")] = None,
    max_run: Annotated[int, typer.Option(help="Seconds after which a training job is stopped.")] = 86400,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", "-r", help="auto, docker, process or slurm; by default LAUNCHER_RUNTIME, else auto."),
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="local (folders) or s3.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once; the tuning job goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune hyperparameters: training jobs whose values are chosen by the results so far.

    launcher tune train.py --range lr=1e-5:1e-2:log --objective score --metric 'score=score: ([0-9.]+)' --max-jobs 20

    With --dry-run, --json prints the CreateHyperParameterTuningJob document, which "launcher run" takes.
    """
    from launcher.sdk.bundled import BUNDLED_METRIC_DEFINITIONS, bundled_estimator, bundled_inputs
    from launcher.sdk.estimator import Estimator
    from launcher.sdk.inputs import DEFAULT_CHANNEL
    from launcher.sdk.tuner import (
        HyperbandStrategyConfig,
        HyperparameterTuner,
        StrategyConfig,
        TuningJobCompletionCriteriaConfig,
    )

    if strategy.lower() not in _STRATEGIES:
        raise BadInputError(f"--strategy {strategy!r} is not known.", f"Use one of: {', '.join(_STRATEGIES)}.")
    options: dict[str, Any] = {"output_path": output_path, "max_run": max_run, "runtime": runtime, "mode": mode}
    definitions = metrics_of(metrics or [])
    values = hyperparameters_of(hyperparameters or [])
    channels: Any = channels_of(inputs or [])
    if (
        target.endswith((".py", ".sh"))
        or source_dir is not None
        or (exists(target) and not target.endswith(("yaml", "yml")))
    ):
        estimator = Estimator(
            entry_point=target,
            source_dir=source_dir,
            hyperparameters=values,
            metric_definitions=definitions,
            **options,
        )
        channels = located(channels, DEFAULT_CHANNEL)
    else:
        options["metric_definitions"] = [*BUNDLED_METRIC_DEFINITIONS, *definitions]
        estimator = bundled_estimator(target, "train.py", values, **options)
        channels = bundled_inputs("train.py", located(channels, "train"))
    hyperband = None
    if max_resource is not None:
        hyperband = StrategyConfig(HyperbandStrategyConfig(max_resource, min_resource))
    tuner = HyperparameterTuner(
        estimator,
        objective,
        _ranges(ranges),
        strategy=_STRATEGIES[strategy.lower()],
        objective_type="Minimize" if minimize else "Maximize",
        max_jobs=max_jobs,
        max_parallel_jobs=parallel,
        max_runtime_in_seconds=max_runtime,
        strategy_config=hyperband,
        early_stopping_type="Auto" if early_stopping else "Off",
        completion_criteria_config=None
        if target_value is None
        else TuningJobCompletionCriteriaConfig(target_objective_metric_value=target_value),
        random_seed=seed,
    )
    if dry_run:
        print_json(tuner.request(channels, job_name)) if as_json else print(tuner.plan(channels, job_name))
        return
    _see_through(tuner.submit(channels, job_name), detach=detach, as_json=as_json)


def run_document(document: dict[str, Any], *, detach: bool, dry_run: bool, as_json: bool) -> None:
    """Run a CreateHyperParameterTuningJob document."""
    from launcher.sdk.tuning_job import TuningJob
    from launcher.settings import home_path
    from launcher.tuning.submission import plan_tuning, submit_tuning

    if dry_run:
        plan = plan_tuning(document, home_path())
        for line in plan.warnings:
            say_error(f"warning: {line}")
        print_json(document) if as_json else print(plan)
        return
    _see_through(TuningJob(submit_tuning(document, home_path()).name), detach=detach, as_json=as_json)


def _see_through(job: TuningJob, *, detach: bool, as_json: bool) -> None:
    if not (detach or as_json):
        say(f"Tuning job {job.name} in {job.path}")
    see_through(job, _print_results, detach=detach, as_json=as_json)


def _print_results(job: TuningJob) -> None:
    """Print the training jobs, the best first."""
    description = job.describe()
    best = description.get("BestTrainingJob", {}).get("FinalHyperParameterTuningJobObjectiveMetric", {})
    sign = -1 if best.get("Type") == "Minimize" else 1

    def value(summary: dict[str, Any]) -> float | None:
        metric: dict[str, Any] = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {})
        return metric.get("Value")

    def rank(summary: dict[str, Any]) -> tuple[bool, float]:
        result = value(summary)
        return result is None, -sign * (result or 0.0)

    rows = [("JOB", "STATUS", best.get("MetricName", "OBJECTIVE"), "VALUES")]
    for summary in sorted(job.training_jobs(), key=rank):
        result = value(summary)
        values = " ".join(f"{name}={text}" for name, text in summary["TunedHyperParameters"].items())
        shown = "" if result is None else f"{result:g}"
        rows.append((summary["TrainingJobName"], summary["TrainingJobStatus"], shown, values))
    print_table(rows)
    say(f"{job.name}: {job.status}")


def _ranges(texts: list[str]) -> dict[str, ParameterRange]:
    """Return the ranges of ``--range``."""
    ranges: dict[str, ParameterRange] = {}
    for text in texts:
        name, _, given = text.partition("=")
        if not name or not given:
            raise BadInputError(f"--range {text!r} is not NAME=LOW:HIGH or NAME=VALUE,VALUE.", _EXAMPLES)
        if name in ranges:
            raise BadInputError(
                f"--range {text!r}: '{name}' is given twice.", "Give each hyperparameter a single range."
            )
        ranges[name] = _range(text, given)
    return ranges


def _range(text: str, given: str) -> ParameterRange:
    from launcher.sdk.parameters import CategoricalParameter, ContinuousParameter, IntegerParameter

    if ":" not in given:
        return CategoricalParameter([value.strip() for value in given.split(",")])
    low, high, *scaling = given.split(":")
    if len(scaling) > 1 or (scaling and scaling[0] not in _SCALINGS):
        raise BadInputError(f"--range {text!r}: the scale is one of: {', '.join(_SCALINGS)}.", _EXAMPLES)
    scale = _SCALINGS[scaling[0]] if scaling else "Auto"
    try:
        return IntegerParameter(int(low), int(high), scale)
    except ValueError:
        pass
    try:
        return ContinuousParameter(float(low), float(high), scale)
    except ValueError:
        raise BadInputError(f"--range {text!r}: {low!r} and {high!r} are no numbers.", _EXAMPLES) from None
