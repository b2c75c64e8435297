"""``launcher process``: a script or an image over data, by a command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.arguments import variables_of
from launcher.cli.jobs import AsJson, see_through
from launcher.cli.on_aws import BucketName, RoleArn, is_aws, session_of
from launcher.cli.printing import print_json
from launcher.errors import BadInputError
from launcher.terminal import say, say_error

if TYPE_CHECKING:
    from launcher.sdk.processing import Processor, Program
    from launcher.sdk.processing_job import ProcessingJob


def process(
    code: Annotated[
        str | None, typer.Argument(metavar="SCRIPT", help="The script to run; none runs the image as it is.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Arguments of the script; write -- before those with dashes.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="[NAME=]PATH:/opt/ml/processing/...; PATH may be s3://...; repeated."),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="[NAME=]/opt/ml/processing/...[:PATH]; PATH may be s3://...; repeated."),
    ] = None,
    source_dir: Annotated[str | None, typer.Option(help="The folder that holds the script.")] = None,
    image_uri: Annotated[str | None, typer.Option(help="An image of your own.")] = None,
    command: Annotated[str | None, typer.Option(help="What runs the script; python3 by default.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    instance_type: Annotated[
        str, typer.Option(help="The job gets its CPUs, memory and GPUs, as far as they are here.")
    ] = "local",
    instance_count: Annotated[int, typer.Option(help="Hosts.")] = 1,
    sharded: Annotated[bool, typer.Option("--sharded", help="Give each host a part of each input's files.")] = False,
    continuous: Annotated[bool, typer.Option("--continuous", help="Copy outputs out while the job runs.")] = False,
    network_isolation: Annotated[bool, typer.Option("--network-isolation", help="Run without network.")] = False,
    max_run: Annotated[int, typer.Option(help="Seconds after which the job is stopped.")] = 86400,
    job_name: Annotated[str | None, typer.Option(help="Made from the time by default.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", "-r", help="auto, docker, process or slurm; by default LAUNCHER_RUNTIME, else auto."),
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="local (folders), s3 or aws.")] = None,
    bucket: BucketName = None,
    role: RoleArn = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once; the job goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a processing job: a script, or an image, over folders and objects.

    launcher process clean.py -i raw.csv:/opt/ml/processing/input -o /opt/ml/processing/output:clean -- --limit 10

    With --dry-run, --json prints the CreateProcessingJob document, which "launcher run" takes.
    """
    from launcher.sdk.framework_processors import FrameworkProcessor
    from launcher.sdk.processing import Processor, ScriptProcessor
    from launcher.sdk.processing_inputs import NetworkConfig

    shared: dict[str, Any] = {
        "image_uri": image_uri,
        "instance_count": instance_count,
        "instance_type": instance_type,
        "max_runtime_in_seconds": max_run,
        "env": variables_of(env or []),
        "network_config": NetworkConfig(network_isolation),
        "role": role,
        "sagemaker_session": session_of(mode, bucket),
        "runtime": runtime,
        "mode": mode,
    }
    words = shlex.split(command) if command else None
    processor: Processor
    program: Program | None = None
    if code is None:
        if image_uri is None and words is None:
            raise BadInputError("nothing is named to run.", "Name a script, --image-uri IMAGE, or --command.")
        processor = Processor(entrypoint=words, **shared)
    elif source_dir is not None:
        framework = FrameworkProcessor(command=words, **shared)
        processor, program = framework, framework.program(code, source_dir)
    else:
        script = ScriptProcessor(command=words, **shared)
        processor, program = script, script.program(code)
    distribution = "ShardedByS3Key" if sharded else "FullyReplicated"
    upload_mode = "Continuous" if continuous else "EndOfJob"
    options: dict[str, Any] = {
        "inputs": [as_input(text, distribution) for text in inputs or []],
        "outputs": [as_output(text, upload_mode) for text in outputs or []],
        "arguments": arguments,
        "job_name": job_name,
    }
    if dry_run:
        wanted = as_json or is_aws(mode)
        print_json(processor.request(program, **options)) if wanted else print(processor.plan(program, **options))
        return
    see_through(processor.submit(program, **options), _tell, detach=detach, as_json=as_json)


def run_document(
    document: dict[str, Any],
    *,
    runtime: str | None,
    mode: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run the processing job of a document as boto3 takes it."""
    from launcher.cli.documents import placed
    from launcher.jobs.store import ProcessingStore
    from launcher.processing_jobs.submission import accept_processing, plan_processing, submit_processing
    from launcher.sdk.processing_job import ProcessingJob
    from launcher.settings import home_path

    store, document = ProcessingStore(home_path()), placed(document, runtime=runtime, mode=mode)
    if dry_run:
        plan = plan_processing(accept_processing(document), store)
        print_json(document) if as_json else print(plan)
        return
    job = ProcessingJob(submit_processing(document, store).name, store)
    see_through(job, _tell, detach=detach, as_json=as_json)


def _tell(job: ProcessingJob) -> None:
    message = f" {job.exit_message}" if job.exit_message else ""
    say(f"{job.name}: {job.status}.{message}")
    for name, uri in job.output_uris.items():
        say(f"  {name}: {uri.removeprefix('file://')}")


def as_input(text: str, distribution: str) -> Any:
    """Return the input of ``--input [NAME=]PATH:/opt/ml/processing/...``.

    Raises:
        BadInputError: the text is something else.
    """
    from launcher.sdk.job_results import referred_location
    from launcher.sdk.processing_inputs import ProcessingInput

    name, rest = _named(text)
    source, separator, path = rest.rpartition(":/opt/ml/processing")
    if not separator or not source:
        raise BadInputError(
            f"--input {text!r} does not say where the job sees it.", "Write PATH:/opt/ml/processing/input"
        )
    source = referred_location(source, tell=say_error)
    return ProcessingInput(source, f"/opt/ml/processing{path}", input_name=name, s3_data_distribution_type=distribution)


def as_output(text: str, upload_mode: str) -> Any:
    """Return the output of ``--output [NAME=]/opt/ml/processing/...[:PATH]``.

    Raises:
        BadInputError: the text is something else.
    """
    from launcher.sdk.processing_inputs import ProcessingOutput

    name, rest = _named(text)
    path, _, destination = rest.partition(":")
    if not path.startswith("/opt/ml/processing/"):
        raise BadInputError(
            f"--output {text!r} names no folder of the job.", "Write /opt/ml/processing/output:PATH, or without PATH."
        )
    return ProcessingOutput(path, destination or None, output_name=name, s3_upload_mode=upload_mode)


def _named(text: str) -> tuple[str | None, str]:
    """Return the name before a ``=``, if there is one, and the rest."""
    name, separator, rest = text.partition("=")
    return (name, rest) if separator and name and "/" not in name and ":" not in name else (None, text)
