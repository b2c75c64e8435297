"""``launcher export``: a training job as a document for an engine that has its own tool to send it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.documents import read_training_document
from launcher.errors import BadInputError, OutputPathError
from launcher.paths import checked_path
from launcher.terminal import say_error

app = typer.Typer(help="Write a training job as a document for another engine; nothing is sent.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="JOB|REQUEST", help="A job, or 'latest'; a JSON file, or '-' for the standard input.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="A file; the standard output by default.")]
Image = Annotated[str, typer.Option(help="In a registry that the machines reach; the job's own by default.")]
_CLAIM = "CLAIM[/FOLDER]"
_PLACE = "VOLUME[/FOLDER]|/PATH"


@app.command()
def kubernetes(
    source: Source,
    name: Annotated[str, typer.Option(help="Of the JobSet; the job's own by default.")] = "",
    namespace: Annotated[str, typer.Option(help="Of the JobSet.")] = "default",
    cluster_domain: Annotated[str, typer.Option(help="Of the cluster's DNS.")] = "cluster.local",
    image: Image = "",
    queue: Annotated[str, typer.Option(help="A local queue of Kueue.")] = "",
    claims: Annotated[
        list[str] | None,
        typer.Option("--claim", metavar=f"CHANNEL={_CLAIM}", help="A volume that holds a channel; may be repeated."),
    ] = None,
    results: Annotated[str, typer.Option(metavar=_CLAIM, help="A volume that gets model and output.")] = "",
    checkpoints: Annotated[str, typer.Option(metavar=_CLAIM, help="A volume that keeps checkpoints.")] = "",
    code: Annotated[str, typer.Option(metavar=_CLAIM, help="A volume that holds the unpacked source.")] = "",
    s3_image: Annotated[str, typer.Option(help="An image with sh, tar and the AWS CLI, which fetches s3://.")] = "",
    s3_secret: Annotated[str, typer.Option(help="A Secret with the keys of the S3.")] = "",
    secret: Annotated[str, typer.Option(help="A Secret with the variables that are secret by their names.")] = "",
    service_account: Annotated[str, typer.Option(help="Of the pods.")] = "",
    output: Output = None,
) -> None:
    """Write a training job as one JobSet: kubectl apply takes it.

    launcher export kubernetes latest --image registry.example/rl:1 --claim train=logs --results results
    """
    from launcher.exports.kubernetes import Cluster, job_set
    from launcher.exports.yaml_text import as_yaml

    export = job_set(
        document_of(source),
        Cluster(
            name=name,
            namespace=namespace,
            cluster_domain=cluster_domain,
            image=image,
            queue=queue,
            claims=_by_channel("--claim", claims or [], _CLAIM),
            results=results,
            checkpoints=checkpoints,
            code=code,
            s3_image=s3_image,
            s3_secret=s3_secret,
            secret=secret,
            service_account=service_account,
        ),
    )
    write(as_yaml(export.document, export.warnings), export.warnings, output)


@app.command()
def skypilot(
    source: Source,
    image: Image = "",
    results: Annotated[
        str, typer.Option(metavar="S3_URI", help="Gets model and output; S3OutputPath by default.")
    ] = "",
    output: Output = None,
) -> None:
    """Write the job as a task of SkyPilot, for sky launch or sky jobs launch."""
    from launcher.exports.skypilot import skypilot_task
    from launcher.exports.yaml_text import as_yaml

    export = skypilot_task(document_of(source), image=image, results=results)
    write(as_yaml(export.document, export.warnings), export.warnings, output)


@app.command()
def dstack(
    source: Source,
    name: Annotated[str, typer.Option(help="Of the run; the job's own by default.")] = "",
    image: Image = "",
    channels: Annotated[
        list[str] | None,
        typer.Option("--volume", metavar=f"CHANNEL={_PLACE}", help="What has a channel; may be repeated."),
    ] = None,
    results: Annotated[str, typer.Option(metavar=_PLACE, help="What gets model and output.")] = "",
    checkpoints: Annotated[str, typer.Option(metavar=_PLACE, help="What keeps checkpoints.")] = "",
    code: Annotated[str, typer.Option(metavar=_PLACE, help="What has the unpacked source.")] = "",
    output: Output = None,
) -> None:
    """Write the job as a task of dstack, for dstack apply; volumes are dstack's, or folders of its machines."""
    from launcher.exports.dstack import dstack_task
    from launcher.exports.yaml_text import as_yaml

    export = dstack_task(
        document_of(source),
        name=name,
        image=image,
        volumes={"results": results, "checkpoints": checkpoints, "source": code},
        channels=_by_channel("--volume", channels or [], _PLACE),
    )
    write(as_yaml(export.document, export.warnings), export.warnings, output)


def document_of(source: str) -> dict[str, Any]:
    """Return the CreateTrainingJob document of a file, or the one that a job was made of.

    Raises:
        BadInputError: there is neither.
    """
    from launcher.jobs.store import JobStore
    from launcher.paths import exists
    from launcher.requests.training import training_request
    from launcher.sdk.job_results import find_job
    from launcher.settings import home_path

    if source == "-" or exists(source):
        return read_training_document(source)
    record = JobStore(home_path()).load(find_job(source).name)
    return record.request or training_request(record.training_spec)


def write(text: str, warnings: tuple[str, ...], output: Path | None) -> None:
    """Write a document, and the warnings that it has as comments to the standard error."""
    for line in warnings:
        say_error(f"warning: {line}")
    if output is None:
        print(text, end="")
        return
    path = checked_path(output, "--output")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputPathError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error


def _by_channel(option: str, given: list[str], form: str) -> dict[str, str]:
    places = {}
    for text in given:
        channel, separator, place = text.partition("=")
        is_path = place.startswith("/")
        if not separator or not channel or not place.strip("/") or (is_path and "/PATH" not in form):
            raise BadInputError(f"{option} {text}: that names no channel and place.", f"Write: {option} CHANNEL={form}")
        places[channel] = place
    return places
