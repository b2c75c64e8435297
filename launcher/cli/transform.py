"""``launcher transform``: the records of files through a model, by a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.arguments import variables_of
from launcher.cli.jobs import AsJson, job_handle, see_through
from launcher.cli.on_aws import BucketName, RoleArn, is_aws, job_on_aws, session_of
from launcher.cli.printing import print_json
from launcher.errors import BadInputError
from launcher.terminal import say, say_error

if TYPE_CHECKING:
    from launcher.sdk.transform_job import TransformJob


def transform(
    data: Annotated[str, typer.Argument(help="A file, a folder, s3://..., a manifest, or JOB:output/FILE.")],
    job: Annotated[
        str | None, typer.Option("--job", "-j", help="The training job whose model answers, or 'latest'.")
    ] = None,
    model_data: Annotated[str | None, typer.Option(help="A model.tar.gz in place of a job, or a folder.")] = None,
    image_uri: Annotated[str | None, typer.Option(help="An image of your own that serves.")] = None,
    source_dir: Annotated[str | None, typer.Option(help="A folder with functions of your own for serving.")] = None,
    entry_point: Annotated[str | None, typer.Option(help="The file in it, such as inference.py.")] = None,
    content_type: Annotated[str | None, typer.Option("--content-type", "-c", help="Of the records.")] = None,
    accept: Annotated[str | None, typer.Option(help="Of the answers.")] = None,
    split_type: Annotated[str | None, typer.Option("--split", "-s", help="None, Line, RecordIO or TFRecord.")] = None,
    strategy: Annotated[str | None, typer.Option(help="SingleRecord or MultiRecord.")] = None,
    assemble_with: Annotated[str | None, typer.Option(help="None or Line.")] = None,
    compression_type: Annotated[str | None, typer.Option("--compression", help="None or Gzip.")] = None,
    data_type: Annotated[str, typer.Option(help="S3Prefix or ManifestFile.")] = "S3Prefix",
    input_filter: Annotated[str | None, typer.Option(help="JSONPath: what is sent of a record.")] = None,
    output_filter: Annotated[str | None, typer.Option(help="JSONPath: what is written.")] = None,
    join_source: Annotated[str | None, typer.Option("--join", help="Input puts each record beside its answer.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Requests under way at once.")] = None,
    max_payload: Annotated[int | None, typer.Option(help="Of a request, in MB; 0 sets no limit.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE; may be repeated.")] = None,
    instance_count: Annotated[int, typer.Option(help="Containers among which files are shared out.")] = 1,
    output_path: Annotated[str | None, typer.Option("--output", "-o", help="Where outputs go.")] = None,
    job_name: Annotated[str | None, typer.Option(help="Made from the time by default.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", "-r", help="auto, docker, process or slurm; by default LAUNCHER_RUNTIME, else auto."),
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="local (folders), s3 or aws.")] = None,
    bucket: BucketName = None,
    role: RoleArn = None,
    instance_type: Annotated[str, typer.Option(help="On AWS a type of its own.")] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Keep outputs that are there already.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once; the job goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Transform the records of files by a trained model: batch transform.

    launcher transform states.jsonl --job latest -c application/jsonlines --split Line
    """
    from launcher.sdk.job_results import referred_location
    from launcher.sdk.model import Model
    from launcher.sdk.transformer import Transformer

    if (job is None) == (model_data is None) and image_uri is None:
        raise BadInputError("no model is named.", "Give --job NAME, --model-data PATH or --image-uri IMAGE.")
    if job is not None:
        trained = job_on_aws(job, mode) or job_handle(job)
        model_data, image_uri = trained.model_data, image_uri or trained.image_uri
        role = role or trained.describe()["RoleArn"]
    data = referred_location(data, tell=say_error)
    model = Model(
        image_uri,
        model_data,
        source_dir=source_dir,
        entry_point=entry_point,
        role=role,
        sagemaker_session=session_of(mode, bucket),
        runtime=runtime,
        mode=mode,
    )
    shape: dict[str, Any] = {
        "instance_count": instance_count,
        "instance_type": instance_type,
        "strategy": strategy,
        "assemble_with": assemble_with,
        "output_path": output_path,
        "accept": accept,
        "env": variables_of(env or []),
        "max_concurrent_transforms": max_concurrent,
        "max_payload": max_payload,
    }
    options: dict[str, Any] = {
        "data_type": data_type,
        "content_type": content_type,
        "compression_type": compression_type,
        "split_type": split_type,
        "job_name": job_name,
        "input_filter": input_filter,
        "output_filter": output_filter,
        "join_source": join_source,
        "resume": resume,
    }
    if dry_run and is_aws(mode):  # where a model is made for good
        made = model.request()
        transformer = Transformer(made["ModelName"], sagemaker_session=model.sagemaker_session, **shape)
        print_json({"CreateModel": made, "CreateTransformJob": transformer.request(data, **options)})
        return
    transformer = model.transformer(**shape)
    if dry_run:
        try:
            print_json(transformer.request(data, **options)) if as_json else print(transformer.plan(data, **options))
        finally:
            model.delete_model()
        return
    see_through(transformer.submit(data, **options), _tell, detach=detach, as_json=as_json)


def run_document(
    document: dict[str, Any],
    *,
    runtime: str | None,
    mode: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the model, or run the transform job, of a document as boto3 takes it."""
    from launcher.cli.documents import placed
    from launcher.jobs.store import ModelStore, TransformStore
    from launcher.requests.models import check_model_request
    from launcher.sdk.transform_job import TransformJob
    from launcher.serving.models import create_model
    from launcher.settings import home_path
    from launcher.transform.submission import accept_transform, plan_transform, submit_transform

    store, models = TransformStore(home_path()), ModelStore(home_path())
    if "TransformJobName" not in document:
        document = placed(document, mode=mode)
        spec = check_model_request(document) if dry_run else create_model(document, models)
        say(f"model {spec.model_name}" + (": the document is right" if dry_run else f" is in {models.path}"))
        return
    document = placed(document, runtime=runtime, mode=mode)
    if dry_run:
        plan = plan_transform(accept_transform(document, models), store)
        print_json(document) if as_json else print(plan)
        return
    job = TransformJob(submit_transform(document, store, models).name, store)
    see_through(job, _tell, detach=detach, as_json=as_json)


def _tell(job: TransformJob) -> None:
    from launcher.sdk.remote_job import RemoteJob

    outputs = f"Outputs: {job.output_path.removeprefix('file://')}"
    if isinstance(job, RemoteJob):
        say(f"{job.name}: {job.status}. {outputs}")
        return
    counts = job.counts
    say(f"{job.name}: {job.status}. {counts.get('objects', 0)} files, {counts.get('records', 0):,} records. {outputs}")
