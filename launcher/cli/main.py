"""The command line: ``launcher COMMAND``. Everything heavy is loaded by the command that needs it."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name

from launcher import __version__
from launcher.cli import (
    aws,
    cache,
    comparing,
    endpoints,
    explain,
    export,
    images,
    jobs,
    looking,
    on_aws,
    planning,
    pools,
    processing,
    programs,
    results,
    storage,
    transform,
    tuning,
)
from launcher.cli.arguments import channels_of, hyperparameters_of, located, metrics_of, variables_of
from launcher.cli.documents import placed, read_document
from launcher.cli.jobs import AsJson, JobName, job_handle
from launcher.cli.printing import print_json, print_table
from launcher.errors import BadInputError, JobFailedError, LauncherError
from launcher.paths import checked_path, exists
from launcher.secrets import masked_description
from launcher.terminal import abandon_broken_streams, open_standard_streams, say, say_error

if TYPE_CHECKING:
    from launcher.sdk.estimator import Estimator
    from launcher.sdk.training_job import TrainingJob

INTERRUPTED, BROKEN_PIPE = 130, 141


class _Commands(TyperGroup):
    """Turns named errors into one message and an exit code, whatever command raised them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except LauncherError as error:
            say_error(f"{type(error).__name__}: {error}{explain.pointer(error)}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            raise typer.Exit(BROKEN_PIPE) from None  # the reader has gone, as with `launcher ls | head -1`


app = typer.Typer(
    name="launcher",
    cls=_Commands,
    help="Amazon SageMaker training jobs on one machine: no AWS account, no server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

presets = typer.Typer(help="Show the bundled presets.", no_args_is_help=True)
app.add_typer(presets, name="presets")
app.add_typer(storage.app, name="storage")
app.add_typer(cache.app, name="cache")
app.add_typer(pools.app, name="pool")
app.add_typer(images.app, name="images")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(export.app, name="export")

RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime", "-r", help="auto, docker, process, slurm or another one; by default LAUNCHER_RUNTIME, else auto."
    ),
]
ModeName = Annotated[
    str | None, typer.Option("--mode", help="local (folders) or s3; by default LAUNCHER_MODE, else local.")
]
AnyMode = Annotated[
    str | None,
    typer.Option(
        "--mode", help="local (folders), s3, or aws: Amazon SageMaker itself; by default LAUNCHER_MODE, else local."
    ),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once; the job goes on.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")]


def _complete_preset(incomplete: str) -> list[str]:
    """Return the names of bundled presets for a shell that completes one."""
    return [name for name in _preset_lines() if name.startswith(incomplete)]


def _preset_lines() -> dict[str, str]:
    """Return what each bundled preset does, by its name: the first sentence of its file."""
    from launcher.settings import data_path

    lines = {}
    for path in sorted(data_path("presets").glob("*.y*ml")):
        begin = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()[:5]]
        lines[path.stem] = " ".join(begin).split(". ", 1)[0].rstrip(".") + "."
    return lines


def main() -> None:
    """Run the command line; a named error ends it with its own exit code and no traceback."""
    open_standard_streams()
    # A shell that completes a word may ask for any command's options.
    commands = app if "_LAUNCHER_COMPLETE" in os.environ else _only_named(app, sys.argv[1:])
    try:
        commands(prog_name="launcher")
    finally:
        abandon_broken_streams()


def _only_named(group: typer.Typer, words: Sequence[str]) -> typer.Typer:
    """Return the commands with the options of the one that the words name: to build all options takes 100 ms.

    The others keep their names and what they say of themselves, for the list of commands.
    """
    named = next((number for number, word in enumerate(words) if not word.startswith("-")), len(words))
    name, rest = "".join(words[named : named + 1]), words[named + 1 :]
    narrowed = copy.copy(group)
    narrowed.registered_commands = []
    for info in group.registered_commands:
        assert info.callback is not None
        if (info.name or get_command_name(info.callback.__name__)) != name:
            callback, info = info.callback, copy.copy(info)
            info.callback = _described(callback)
        narrowed.registered_commands.append(info)
    narrowed.registered_groups = []
    for subgroup in group.registered_groups:
        assert subgroup.typer_instance is not None
        commands, subgroup = subgroup.typer_instance, copy.copy(subgroup)
        subgroup.typer_instance = _only_named(commands, rest if subgroup.name == name else ())
        narrowed.registered_groups.append(subgroup)
    return narrowed


def _described(command: Callable[..., Any]) -> Callable[[], None]:
    """Return a command without parameters that is described as another."""

    def described() -> None: ...

    described.__name__, described.__doc__ = command.__name__, command.__doc__
    return described


@app.callback(invoke_without_command=True)
def _launcher(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    gc.enable()  # from here on a command runs
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    runtime: RuntimeName = None,
    mode: ModeName = None,
    seed: Annotated[int | None, typer.Option(help="For data, training and evaluation.")] = None,
    as_json: AsJson = False,
) -> None:
    """Collect CartPole data, train offline, evaluate, and print what came of it."""
    from rich.console import Console

    from launcher.cli.demo import print_summary, run_demo

    console = Console(stderr=as_json)
    result = run_demo(console, runtime=runtime, mode=mode, seed=seed)
    if not as_json:
        print_summary(console, result)
        return
    print_json(
        {
            "jobs": [job.name for job in (result.collecting, result.training, result.evaluation, result.playing)],
            "random_reward": result.random_reward,
            "learned_reward": result.learned_reward,
            "episodes": result.episodes,
            "truth": result.truth and {name: result.truth[name] for name in ("policy", "discounted_mean")},
            "model_data": result.training.model_data,
        }
    )


@app.command()
def fit(
    entry_point: Annotated[str | None, typer.Argument(help="The script to run; train.py by default.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A bundled preset, or a YAML file.", autocompletion=_complete_preset)
    ] = None,
    source_dir: Annotated[str | None, typer.Option(help="The folder that holds the script.")] = None,
    image_uri: Annotated[str | None, typer.Option(help="An image of your own.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="[CHANNEL=]PATH, s3://..., JOB or JOB:output/FILE.")
    ] = None,
    writable: Annotated[
        list[str] | None, typer.Option(help="A channel that the job may write to: it gets a copy; may be repeated.")
    ] = None,
    input_mode: Annotated[str, typer.Option(help="How channels arrive: File, FastFile or Pipe.")] = "File",
    hyperparameters: Annotated[
        list[str] | None, typer.Option("--hyperparameter", "-p", help="NAME=VALUE; may be repeated.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="NAME=REGEX, group 1 is the value in a line of the log; may be repeated."),
    ] = None,
    dependencies: Annotated[
        list[str] | None, typer.Option(help="A file or folder packed beside the script; may be repeated.")
    ] = None,
    job_name: Annotated[str | None, typer.Option(help="Made from the time by default.")] = None,
    output_path: Annotated[str | None, typer.Option(help="Where results go, a folder or s3://...")] = None,
    checkpoint_s3_uri: Annotated[
        str | None, typer.Option(help="Where checkpoints are kept and restored from, a folder or s3://...")
    ] = None,
    instance_type: Annotated[
        str, typer.Option(help="The job gets its CPUs, memory and GPUs, as far as they are here.")
    ] = "local",
    instance_count: Annotated[int, typer.Option(help="Hosts.")] = 1,
    distribution: Annotated[
        str | None, typer.Option(help="How the hosts train together: torch_distributed.", metavar="WAY")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(help="Faults to cause on purpose, such as kill or kill:algo-2@30s.")
    ] = None,
    max_run: Annotated[int, typer.Option(help="Seconds after which the job is stopped.")] = 86400,
    runtime: RuntimeName = None,
    mode: AnyMode = None,
    role: on_aws.RoleArn = None,
    bucket: on_aws.BucketName = None,
    queue: Annotated[
        str | None, typer.Option(help="With --mode aws: a queue of AWS Batch that the job waits in.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Wait for a debugger; launcher debug says how.")] = False,
    detach: Detach = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a training job: a bundled entry point with a preset, a script, or an image.

    launcher fit --preset preset-cartpole-ddqnbcq -i train=cartpole_dataset.csv

    launcher fit train.py --source-dir src -i training=data -p epochs=3

    With --dry-run, --json prints the CreateTrainingJob document, which "launcher run" takes. --mode aws sends it to
    Amazon SageMaker itself, with the credentials that boto3 finds; --dry-run then asks nothing there.
    """
    from launcher.sdk.bundled import BUNDLED_CHANNELS, BUNDLED_METRIC_DEFINITIONS, bundled_estimator, bundled_inputs
    from launcher.sdk.estimator import Estimator as PlainEstimator
    from launcher.sdk.inputs import DEFAULT_CHANNEL

    options: dict[str, Any] = {
        "output_path": output_path,
        "checkpoint_s3_uri": checkpoint_s3_uri,
        "instance_type": instance_type,
        "instance_count": instance_count,
        "distribution": None if distribution is None else {distribution: {"enabled": True}},
        "faults": faults,
        "max_run": max_run,
        "input_mode": input_mode,
        "runtime": runtime,
        "mode": mode,
        "role": role,
    }
    if bucket is not None:
        options["sagemaker_session"] = on_aws.session_of(mode, bucket)
    options |= {"environment": variables_of(env or []), "dependencies": dependencies}
    definitions = metrics_of(metrics or [])
    values = hyperparameters_of(hyperparameters or [])
    if entry_point == "":
        raise BadInputError("the entry point is an empty text.", "Name a script, or leave it out for train.py.")
    if image_uri is None:
        entry_point = entry_point or "train.py"
    estimator: Estimator
    channels: Any = channels_of(inputs or [])
    if preset is not None and source_dir is None and entry_point is not None:
        options["metric_definitions"] = [*BUNDLED_METRIC_DEFINITIONS, *definitions]
        estimator = bundled_estimator(preset, entry_point, values, image_uri=image_uri, **options)
        channels = bundled_inputs(entry_point, located(channels, BUNDLED_CHANNELS.get(entry_point, "train")))
    else:
        channels = located(channels, DEFAULT_CHANNEL)
        values |= {"preset": preset} if preset is not None else {}
        estimator = PlainEstimator(
            image_uri,
            entry_point=entry_point,
            source_dir=source_dir,
            hyperparameters=values,
            metric_definitions=definitions,
            **options,
        )
    channels = _with_copies(channels, writable or [])
    if dry_run:
        if as_json or on_aws.is_aws(mode):
            print_json(estimator.request(channels, job_name=job_name, debug=debug))
        else:
            print(estimator.plan(channels, job_name=job_name, debug=debug))
        return
    if queue is not None:
        if debug:
            raise BadInputError(
                "--debug and --queue are both given.", "A debugger waits for jobs of this machine alone."
            )
        service_job = estimator.enqueue(queue, channels, job_name)
        print_json({"jobId": service_job}) if as_json else say(service_job)
        return
    _see_through(estimator.submit(channels, job_name=job_name, debug=debug), detach=detach, as_json=as_json)


@app.command()
def run(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A JSON file, or '-' for the standard input.")],
    runtime: RuntimeName = None,
    mode: AnyMode = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a CreateTrainingJob document, as boto3's create_training_job takes it.

    CreateProcessingJob, CreateTransformJob and CreateHyperParameterTuningJob documents run as well. A CreateModel
    document makes the model that a transform job names.

    The source archive that it names, and its channels, must be there: what writes such a document uploads them first.
    """
    from launcher.jobs.store import JobStore
    from launcher.running.accepting import accept, plan_job, submit
    from launcher.sdk.training_job import TrainingJob
    from launcher.settings import home_path

    document = read_document(request)
    if on_aws.is_aws(mode):
        sending = on_aws.submission_of(document)
        if dry_run:
            print_json(sending.request)
        else:
            _see_through(sending.send(on_aws.aws_session().wire), detach=detach, as_json=as_json)
        return
    if "ProcessingJobName" in document:
        processing.run_document(document, runtime=runtime, mode=mode, detach=detach, dry_run=dry_run, as_json=as_json)
        return
    if "TransformJobName" in document or ("ModelName" in document and "TrainingJobName" not in document):
        transform.run_document(document, runtime=runtime, mode=mode, detach=detach, dry_run=dry_run, as_json=as_json)
        return
    document = placed(document, runtime=runtime, mode=mode)
    if "HyperParameterTuningJobName" in document:
        tuning.run_document(document, detach=detach, dry_run=dry_run, as_json=as_json)
        return
    store = JobStore(home_path())
    if dry_run:
        job = accept(document)
        plan = plan_job(job, store)
        if as_json:
            print_json(document)
        else:
            for line in job.warnings:
                say_error(f"warning: {line}")
            print(plan)
        return
    name = submit(document, store).name
    _see_through(TrainingJob(name, store), detach=detach, as_json=as_json)


def _see_through(job: TrainingJob, *, detach: bool, as_json: bool) -> None:
    """Follow a job to its end, or leave it to another process, and print what came of it."""
    if not (detach or as_json):
        say(job.announcement)
    if detach:
        job.detach()
    else:
        try:
            job.wait(logs="None" if as_json else "All")
        except JobFailedError:
            if not as_json:
                with contextlib.suppress(LauncherError, OSError):  # why the job failed is to be said in any case
                    results.print_what_failed_left(job)
            raise
    if as_json:
        print_json(masked_description(job.describe()))
    elif detach:
        say(job.name)
    else:
        results.print_results(job)
        if job.status != "Completed":
            raise typer.Exit(1)


app.command()(planning.plan)
app.command()(transform.transform)
app.command()(tuning.tune)
app.command()(processing.process)
app.command()(aws.up)
app.command()(aws.down)
app.command()(aws.status)
app.command("env")(aws.environment)
app.command("ui")(aws.show_console)
app.command("ls")(jobs.list_jobs)
app.command()(jobs.describe)
app.command()(jobs.report)
app.command()(jobs.logs)
app.command()(jobs.stop)
app.command()(results.outputs)
app.command()(results.metrics)
app.command()(looking.watch)
app.command()(looking.top)
app.command()(looking.shell)
app.command()(looking.debug)
app.command()(comparing.diff)
app.command()(comparing.replay)
app.command("rm")(jobs.remove)
app.command()(images.push)
app.command()(jobs.collect)
app.command("gc")(jobs.collect_garbage)
app.command()(endpoints.deploy)
app.command("exec")(programs.execute)
app.command()(explain.explain)


@app.command()
def plot(
    job: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .png or .html file; a PNG beside the metrics by default.")
    ] = None,
) -> None:
    """Draw a training job's loss, and its off-policy estimates with their intervals, over its epochs."""
    from launcher.cli.plots import plot_job

    print(plot_job(job_handle(job), output))


@app.command()
def ope(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Logged episodes: a file, its folder, JOB or JOB:output/FILE.")
    ],
    checkpoints: Annotated[
        list[str],
        typer.Option(
            "--checkpoint", "-c", help="A checkpoint folder, a file in it, or a training job; several are ranked."
        ),
    ],
    policy: Annotated[str, typer.Option(help="softmax of the values, or greedy.")] = "softmax",
    temperature: Annotated[float | None, typer.Option(help="Of the softmax; the checkpoint's own by default.")] = None,
    estimators: Annotated[
        str, typer.Option("--estimators", "-e", help="Names, separated by commas.")
    ] = "FQE,IPS,WIS,PDIS,weighted PDIS,DM,sequential DR,WDR,MAGIC",
    discount: Annotated[float | None, typer.Option(help="That of the training by default.")] = None,
    interval: Annotated[str, typer.Option(help="bootstrap, student_t or none.")] = "bootstrap",
    level: Annotated[float, typer.Option(help="The confidence level of the intervals.")] = 0.95,
    rank_by: Annotated[str, typer.Option(help="The estimator that ranks several policies, and that a gate reads.")] = (
        "FQE"
    ),
    behavior_policy: Annotated[
        str, typer.Option(help="logged; or estimate, for data that do not say how likely the actions were.")
    ] = "logged",
    gate: Annotated[
        str | None,
        typer.Option(help="Such as 'lower > behavior' or 'value >= 20'; exit code 3 where it is not so."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--every", help="Judge every epoch's policy that the folder still holds.")
    ] = False,
    truths: Annotated[
        list[float] | None, typer.Option("--truth", help="A policy's real value, in the order of the policies.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of resampling and of fitting values.")] = 0,
    output_format: Annotated[str, typer.Option("--format", "-f", help="table, json or csv.")] = "table",
) -> None:
    """Estimate what trained policies are worth from logged data, without training or environment.

    launcher ope --dataset cartpole_dataset.csv --checkpoint latest
    """
    from launcher.cli.ope import GATE_NOT_PASSED, as_csv, as_table, judge_policies, renamed
    from launcher.sdk.job_results import referred_location

    for option, given, choices in (
        ("--format", output_format, ("table", "json", "csv")),
        ("--policy", policy, ("softmax", "greedy")),
        ("--interval", interval, ("bootstrap", "student_t", "none")),
        ("--behavior-policy", behavior_policy, ("logged", "estimate")),
    ):
        if given not in choices:
            raise BadInputError(f"{option} {given!r} is not known.", f"Use one of: {', '.join(choices)}.")
    if temperature is not None and not temperature > 0:
        raise BadInputError(f"--temperature {temperature:g} must be above 0.", "Towards 0 it is --policy greedy.")
    paths = [_checkpoint(text) for text in checkpoints]
    judgement = judge_policies(
        checked_path(referred_location(dataset, tell=say_error), "--dataset"),
        paths,
        policy=policy,
        temperature=temperature,
        estimators=[name.strip() for name in estimators.split(",") if name.strip()],
        discount=discount,
        interval=interval,
        level=level,
        rank_by=rank_by,
        every=every,
        truths=truths or [],
        seed=seed,
        behavior_policy=behavior_policy,
        gate=gate,
    )
    if output_format == "json":
        print_json(judgement)
    else:
        jobs_of = {str(path.resolve()): text for text, path in zip(checkpoints, paths, strict=True) if not exists(text)}
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        table = output_format == "table"
        print(as_table(renamed(judgement, jobs_of), width) if table else as_csv(judgement).rstrip("\n"))
    if judgement["gate"] is not None and not judgement["gate"]["passed"]:
        raise typer.Exit(GATE_NOT_PASSED)


@app.command()
def select(
    dataset: Annotated[Path, typer.Option("--dataset", "-d", help="Logged episodes: a file, or its folder.")],
    presets: Annotated[
        list[str], typer.Option("--preset", help="A preset of train.py, by name or file; may be repeated.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE,VALUE: values to try; may be repeated.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="Try so many combinations, drawn at random; all by default.")
    ] = None,
    environment_preset: Annotated[
        str | None, typer.Option("--evaluate", help="A preset of evaluate.py, which plays each policy for the regret.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Cut the played episodes after so many steps.")] = None,
    seed: Annotated[int, typer.Option(help="Of drawing, training, judging and playing.")] = 0,
    runtime: RuntimeName = None,
    as_json: AsJson = False,
) -> None:
    """Train a job for each combination of values, and choose one by logged episodes that none has learned from.

    launcher select -d log.csv --preset preset-cartpole-ddqnbcq --set agent.learning_rate=1e-3,1e-4
    """
    from launcher.cli.select import as_report, as_table, combinations, read_grid, select_values

    selection = select_values(
        checked_path(dataset, "--dataset"),
        combinations(presets, read_grid(settings or []), draw=draw, seed=seed),
        environment_preset=environment_preset,
        max_steps=max_steps,
        runtime=runtime,
        seed=seed,
        say=say,
    )
    if as_json:
        print_json(as_report(selection))
    else:
        print(as_table(selection))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine, what is missing, and the command that mends it."""
    from dataclasses import asdict

    from launcher.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        console = Console()
        colours = {"ok": "green", "note": "yellow", "missing": "red"}
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            table.add_row(f"[{colours[finding.state]}]{finding.state}[/]", finding.topic, escape(finding.detail))
        console.print(table)
        for finding in findings:
            if finding.remedy:  # a command to be copied is never cut or filled up
                console.print(f"\n{finding.topic}:\n  {escape(finding.remedy)}", soft_wrap=True, highlight=False)
    runtimes = [finding for finding in findings if finding.topic.endswith(" runtime")]
    if not any(finding.state == "ok" for finding in runtimes):
        raise typer.Exit(1)


@presets.command("ls")
def list_presets() -> None:
    """List the bundled presets, and what each does."""
    lines = _preset_lines()
    print_table([("PRESET", "WHAT IT DOES"), *lines.items()], fit=True)


@presets.command("show")
def show_preset(
    name: Annotated[str, typer.Argument(help="A bundled preset.", autocompletion=_complete_preset)],
    as_json: AsJson = False,
) -> None:
    """Print every value of a preset, what it means, what it may be, and its other names."""
    from launcher.sdk.preflight import describe_preset

    preset = describe_preset(name)
    if as_json:
        print_json(preset)
        return
    print(f"{preset['path']}, for {preset['entry_point']}")
    for key in preset["keys"]:
        print(f"\n{key['key']} = {json.dumps(key['value'])}")
        print(f"    {key['meaning']}{f'; {allowed}' if (allowed := key['allowed']) else ''}")
        for other in key["other_names"]:
            print(f"    also {other}")


def _checkpoint(text: str) -> Path:
    """Return a checkpoint's path, given as one or by the training job that left it."""
    if exists(text) or "/" in text:
        return checked_path(text, "--checkpoint")
    from launcher.sdk.job_results import CHECKPOINT_CHANNEL, results_path

    return results_path(job_handle(text).outputs, channel=CHECKPOINT_CHANNEL)


def _with_copies(channels: Any, writable: list[str]) -> Any:
    """Return the channels, with copies for those that the job may write to."""
    if not writable:
        return channels
    from launcher.sdk.inputs import DEFAULT_CHANNEL, TrainingInput

    named = {DEFAULT_CHANNEL: channels} if isinstance(channels, str) else dict(channels or {})
    for name in writable:
        if name not in named:
            raise BadInputError(f"--writable {name}: there is no channel '{name}'.", "Name one that --input gives.")
        named[name] = TrainingInput(named[name], writable=True)
    return named
