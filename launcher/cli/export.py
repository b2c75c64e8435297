"""``launcher export``: a training job as a document for an engine that has its own tool to send it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.documents import read_document
from launcher.errors import BadInputError, OutputPathError
from launcher.paths import checked_path
from launcher.terminal import say_error

app = typer.Typer(help="Write a training job as a document for another engine; nothing is sent.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="JOB|REQUEST", help="A job, or 'latest'; a JSON file, or '-' for the standard input.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="A file; the standard output by default.")]
_CLAIM = "CLAIM[/FOLDER]"


@app.command()
def kubernetes(
    source: Source,
    name: Annotated[str, typer.Option(help="Of the JobSet; the job's own by default.")] = "",
    namespace: Annotated[str, typer.Option(help="Of the JobSet.")] = "default",
    cluster_domain: Annotated[str, typer.Option(help="Of the cluster's DNS.")] = "cluster.local",
    image: Annotated[str, typer.Option(help="In a registry that the cluster reaches; the job's own by default.")] = "",
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
            claims=_claims(claims or []),
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


def document_of(source: str) -> dict[str, Any]:
    """Return the CreateTrainingJob document of a file, or the one that a job was made of.

    Raises:
        BadInputError: there is neither.
    """
    from launcher.cli.arguments import exists
    from launcher.jobs.store import JobStore
    from launcher.requests.training import training_request
    from launcher.sdk.job_results import find_job
    from launcher.settings import home_path

    if source == "-" or exists(source):
        return read_document(source)
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


def _claims(given: list[str]) -> dict[str, str]:
    claims = {}
    for text in given:
        channel, separator, claim = text.partition("=")
        if not separator or not channel or not claim.partition("/")[0]:
            raise BadInputError(
                f"--claim {text}: that names no channel and claim.", "Write: --claim train=CLAIM/FOLDER"
            )
        claims[channel] = claim
    return claims
