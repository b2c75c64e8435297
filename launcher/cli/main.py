"""The command line: ``launcher COMMAND``. Everything heavy is loaded by the command that needs it."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from launcher import __version__
from launcher.cli import cache, storage
from launcher.errors import BadInputError, LauncherError

if TYPE_CHECKING:
    from launcher.sdk.estimator import Estimator

INTERRUPTED = 130


class _Commands(TyperGroup):
    """Turns named errors into one message and an exit code, whatever command raised them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except LauncherError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None


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

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, or 'latest'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
RuntimeName = Annotated[
    str | None, typer.Option("--runtime", "-r", help="auto, docker or process; LAUNCHER_RUNTIME is the default.")
]
ModeName = Annotated[
    str | None, typer.Option("--mode", help="local (folders) or s3; LAUNCHER_MODE is the default, else local.")
]


def main() -> None:
    """Run the command line; a named error ends it with its own exit code and no traceback."""
    app(prog_name="launcher")


@app.callback(invoke_without_command=True)
def _launcher(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
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
    _print_json(
        {
            "jobs": [job.name for job in (result.collecting, result.training, result.evaluation)],
            "random_reward": result.random_reward,
            "learned_reward": result.learned_reward,
            "episodes": result.episodes,
            "model_data": result.training.model_data,
        }
    )


@app.command()
def fit(
    entry_point: Annotated[str | None, typer.Argument(help="The script to run; train.py by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="A bundled preset, or a YAML file.")] = None,
    source_dir: Annotated[str | None, typer.Option(help="The folder that holds the script.")] = None,
    image_uri: Annotated[str | None, typer.Option(help="An image of your own.")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="PATH or s3://..., or CHANNEL=PATH; may be repeated.")
    ] = None,
    hyperparameters: Annotated[
        list[str] | None, typer.Option("--hyperparameter", "-p", help="NAME=VALUE; may be repeated.")
    ] = None,
    job_name: Annotated[str | None, typer.Option(help="Made from the time by default.")] = None,
    output_path: Annotated[str | None, typer.Option(help="Where results go, a folder or s3://...")] = None,
    checkpoint_s3_uri: Annotated[
        str | None, typer.Option(help="Where checkpoints are kept and restored from, a folder or s3://...")
    ] = None,
    instance_type: Annotated[str, typer.Option(help="Told to the job.")] = "local",
    instance_count: Annotated[int, typer.Option(help="Hosts.")] = 1,
    max_run: Annotated[int, typer.Option(help="Seconds after which the job is stopped.")] = 86400,
    runtime: RuntimeName = None,
    mode: ModeName = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once; the job goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a training job: a bundled entry point with a preset, a script, or an image.

    launcher fit --preset preset-cartpole-ddqnbcq -i train=cartpole_dataset.csv

    launcher fit train.py --source-dir src -i training=data -p epochs=3
    """
    from launcher.sdk.estimator import Estimator as PlainEstimator
    from launcher.sdk.estimator import bundled_estimator, bundled_inputs

    options: dict[str, Any] = {
        "output_path": output_path,
        "checkpoint_s3_uri": checkpoint_s3_uri,
        "instance_type": instance_type,
        "instance_count": instance_count,
        "max_run": max_run,
        "runtime": runtime,
        "mode": mode,
    }
    values = dict(_hyperparameter(text) for text in hyperparameters or ())
    if image_uri is None:
        entry_point = entry_point or "train.py"
    estimator: Estimator
    channels: Any = _channels(inputs or [])
    if preset is not None and source_dir is None and entry_point is not None:
        estimator = bundled_estimator(preset, entry_point, values, image_uri=image_uri, **options)
        channels = bundled_inputs(entry_point, channels)
    else:
        values |= {"preset": preset} if preset is not None else {}
        estimator = PlainEstimator(
            image_uri, entry_point=entry_point, source_dir=source_dir, hyperparameters=values, **options
        )
    if dry_run:
        print(estimator.plan(channels, job_name=job_name))
        return
    estimator.fit(channels, wait=not detach, logs="None" if as_json or detach else "All", job_name=job_name)
    job = estimator.latest_training_job
    if job is None:
        raise LauncherError("the job was not recorded.")
    if as_json:
        _print_json(job.describe())
    elif detach:
        print(job.name)
    else:
        for line in job.warnings:
            print(f"warning: {line}", file=sys.stderr)
        print(f"{job.name}: {job.status}. Results: {job.model_data.removeprefix('file://').rsplit('/', 1)[0]}")
        if job.status != "Completed":
            raise typer.Exit(1)


@app.command("ls")
def list_jobs(as_json: AsJson = False) -> None:
    """List all jobs, the oldest first."""
    from launcher.jobs.store import JobStore, utc
    from launcher.settings import home_path

    store = JobStore(home_path())
    records = [(name, store.load(name)) for name in store.names()]
    if as_json:
        _print_json(
            [
                {"TrainingJobName": name, "TrainingJobStatus": record.status, "CreationTime": utc(record.created)}
                for name, record in records
            ]
        )
        return
    if not records:
        print(f"no jobs in {store.jobs_path}")
        return
    rows = [("JOB", "STATUS", "RUNTIME", "CREATED", "SECONDS")]
    for name, record in records:
        last = record.ended or (record.modified if record.terminal else time.time())
        seconds = f"{last - record.created:.0f}"
        created = utc(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        rows.append((name, record.status, record.training_spec.runtime, created, seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def describe(job: JobName, as_json: AsJson = False) -> None:
    """Describe a job, in the shape of DescribeTrainingJob."""
    description = _job(job).describe()
    if as_json:
        _print_json(description)
    else:
        import yaml

        print(yaml.safe_dump(json.loads(_to_json(description)), sort_keys=False), end="")


@app.command()
def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Print a job's log."""
    from launcher.terminal import neutralised

    found = _job(job)
    if follow:
        found.wait()
    else:
        for line in found.logs().splitlines():
            print(neutralised(line))


@app.command()
def stop(job: JobName) -> None:
    """Stop a job: SIGTERM, two minutes, SIGKILL; what it has written is kept."""
    found = _job(job)
    found.stop()
    print(f"{found.name}: {found.status}")


@app.command()
def plot(
    job: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .png or .html file; a PNG beside the metrics by default.")
    ] = None,
) -> None:
    """Draw a training job's loss, and its off-policy estimates with their intervals, over its epochs."""
    from launcher.cli.plots import plot_job

    print(plot_job(_job(job), output))


@app.command()
def ope(
    dataset: Annotated[Path, typer.Option("--dataset", "-d", help="Logged episodes: a file, or its folder.")],
    checkpoints: Annotated[
        list[str],
        typer.Option(
            "--checkpoint", "-c", help="A checkpoint folder, a file in it, or a training job; several are ranked."
        ),
    ],
    policy: Annotated[str, typer.Option(help="softmax of the values, or greedy.")] = "softmax",
    temperature: Annotated[float | None, typer.Option(help="Of the softmax; the checkpoint's own by default.")] = None,
    estimators: Annotated[
        str, typer.Option("--estimators", "-e", help="Names with commas between them.")
    ] = "FQE,IPS,WIS,PDIS,weighted PDIS,DM,sequential DR,WDR,MAGIC",
    discount: Annotated[float | None, typer.Option(help="That of the training by default.")] = None,
    interval: Annotated[str, typer.Option(help="bootstrap, student_t or none.")] = "bootstrap",
    level: Annotated[float, typer.Option(help="With which an interval should hold the value.")] = 0.95,
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
    every: Annotated[bool, typer.Option("--every", help="Each epoch's policy that a folder still holds.")] = False,
    truths: Annotated[
        list[float] | None, typer.Option("--truth", help="A policy's real value, in the order of the policies.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of resampling and of fitting values.")] = 0,
    output_format: Annotated[str, typer.Option("--format", "-f", help="table, json or csv.")] = "table",
) -> None:
    """Evaluate trained policies on logged data, without training or environment.

    launcher ope --dataset cartpole_dataset.csv --checkpoint latest
    """
    from launcher.cli.ope import GATE_NOT_PASSED, as_csv, as_table, judge_policies

    for option, given, known in (
        ("--format", output_format, ("table", "json", "csv")),
        ("--policy", policy, ("softmax", "greedy")),
        ("--interval", interval, ("bootstrap", "student_t", "none")),
        ("--behavior-policy", behavior_policy, ("logged", "estimate")),
    ):
        if given not in known:
            raise BadInputError(f"{option} {given!r} is not known.", f"Use one of: {', '.join(known)}.")
    if temperature is not None and not temperature > 0:
        raise BadInputError(f"--temperature {temperature:g} must be above 0.", "Towards 0 it is --policy greedy.")
    found = judge_policies(
        dataset,
        [_checkpoint(text) for text in checkpoints],
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
        _print_json(found)
    else:
        print(as_table(found) if output_format == "table" else as_csv(found).rstrip("\n"))
    if found["gate"] is not None and not found["gate"]["passed"]:
        raise typer.Exit(GATE_NOT_PASSED)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine, what is missing, and the command that mends it."""
    from dataclasses import asdict

    from launcher.cli.doctor import examine

    findings = examine()
    if as_json:
        _print_json([asdict(one) for one in findings])
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        colours = {"ok": "green", "note": "yellow", "missing": "red"}
        for one in findings:
            remedy = f"\n-> {one.remedy}" if one.remedy else ""
            table.add_row(f"[{colours[one.state]}]{one.state}[/]", one.topic, escape(one.detail + remedy))
        Console().print(table)
    runtimes = [one for one in findings if one.topic.endswith(" runtime")]
    if not any(one.state == "ok" for one in runtimes):
        raise typer.Exit(1)


@presets.command("ls")
def list_presets() -> None:
    """List the bundled presets."""
    from launcher.settings import data_path

    for path in sorted(data_path("presets").glob("*.yaml")):
        print(path.stem)


@presets.command("show")
def show_preset(name: Annotated[str, typer.Argument(help="A bundled preset.")], as_json: AsJson = False) -> None:
    """Print every value of a preset, what it means, what it may be, and its other names."""
    from launcher.sdk.preflight import describe_preset

    found = describe_preset(name)
    if as_json:
        _print_json(found)
        return
    print(f"{found['path']}, for {found['entry_point']}")
    for key in found["keys"]:
        print(f"\n{key['key']} = {json.dumps(key['value'])}")
        print(f"    {key['meaning']}{f'; {allowed}' if (allowed := key['allowed']) else ''}")
        for other in key["other_names"]:
            print(f"    also {other}")


@app.command(hidden=True)
def drive(job: JobName) -> None:
    """See a job through to its end; what a detached job runs."""
    from launcher.jobs.store import JobStore
    from launcher.running.runner import drive as drive_job
    from launcher.settings import home_path

    drive_job(JobStore(home_path()), job)


def _job(name: str) -> Any:
    from launcher.jobs.store import JobStore
    from launcher.sdk.training_job import TrainingJob
    from launcher.settings import home_path

    store = JobStore(home_path())
    if name == "latest" and (names := store.names()):
        name = names[-1]
    return TrainingJob(name, store)


def _checkpoint(text: str) -> Path:
    """Return a checkpoint's path, given as one or by the training job that left it."""
    if Path(text).exists() or "/" in text:
        return Path(text)
    folder: Path = _job(text).outputs.data_path / "checkpoint"
    return folder


def _channels(texts: list[str]) -> str | dict[str, str] | None:
    if not texts:
        return None
    if len(texts) == 1 and ("=" not in texts[0] or "://" in texts[0].split("=")[0] or Path(texts[0]).exists()):
        return texts[0]
    channels: dict[str, str] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator:
            raise BadInputError(f"--input {text}: several inputs need names.", "Write --input CHANNEL=PATH.")
        if name in channels:
            raise BadInputError(f"--input {text}: channel '{name}' is given twice.", "Give each channel once.")
        channels[name] = path
    return channels


def _hyperparameter(text: str) -> tuple[str, Any]:
    """Return name and value: a number or boolean where the text is one, else the text as it is."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise BadInputError(
            f"--hyperparameter {text!r} is not NAME=VALUE.", "For example: -p agent.learning_rate=0.001"
        )
    try:
        decoded = json.loads(value)
    except ValueError:
        return name, value
    return name, decoded if isinstance(decoded, int | float | bool) else value


def _print_json(value: Any) -> None:
    print(_to_json(value))


def _to_json(value: Any) -> str:
    def encode(one: Any) -> str:
        if isinstance(one, datetime):
            return one.isoformat()
        raise TypeError(f"{type(one).__name__} is not JSON")

    return json.dumps(value, indent=2, default=encode)
