"""``launcher deploy`` and ``launcher endpoints``: endpoints from the shell, and the dataset that their log becomes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.arguments import variables_of
from launcher.cli.printing import print_json, print_table, to_json
from launcher.errors import BadInputError
from launcher.terminal import neutralised_text, say, say_error

if TYPE_CHECKING:
    from launcher.jobs.store import EndpointStore
    from launcher.sdk.model import Model

app = typer.Typer(help="Ask, watch, update and delete endpoints; make a dataset of their log.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="An endpoint's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
JobOption = Annotated[str | None, typer.Option("--job", help="The training job whose model is served, or 'latest'.")]
ModelData = Annotated[str | None, typer.Option(help="A model.tar.gz or a folder, by path or URI.")]
ImageUri = Annotated[str | None, typer.Option(help="An image of your own.")]
_FOLLOW_SECONDS = 0.3


def deploy(
    endpoint_name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Made from the time by default.")
    ] = None,
    job: JobOption = None,
    model_data: ModelData = None,
    image_uri: ImageUri = None,
    variables: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be repeated.")] = None,
    instance_count: Annotated[int, typer.Option(help="Containers.")] = 1,
    capture: Annotated[
        str | None, typer.Option(help="Where every answer is written with its request: a folder or s3://...")
    ] = None,
    runtime: Annotated[str | None, typer.Option("--runtime", "-r", help="auto, docker or process.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an endpoint of a trained model, and return when it answers.

    launcher deploy cartpole --job latest --capture decisions/
    """
    from launcher.sdk.data_capture import DataCaptureConfig
    from launcher.sdk.session import Session

    model = _model(job, model_data, image_uri, _variables(variables), runtime)
    config = None if capture is None else DataCaptureConfig(True, 100, capture)
    predictor = model.deploy(instance_count, "local", endpoint_name=endpoint_name, data_capture_config=config)
    description = Session().describe_endpoint(predictor.endpoint_name)
    for warning in _store().load(predictor.endpoint_name).warnings:
        say_error(f"warning: {warning}")
    if as_json:
        print_json(description)
    else:
        say(f"{predictor.endpoint_name}: InService at {_url(predictor.endpoint_name)}")


@app.command("ls")
def list_endpoints(
    configs: Annotated[bool, typer.Option("--configs", help="The endpoint configurations instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List all endpoints, the oldest first; one without a process gets one."""
    from launcher.endpoints import service
    from launcher.jobs.record import utc
    from launcher.jobs.store import EndpointConfigStore

    store = _store()
    rows: list[dict[str, Any]] = []
    if configs:
        records, errors = EndpointConfigStore(store.home).records()
        rows = [{"EndpointConfigName": name, "CreationTime": utc(record.created)} for name, record in records]
    else:
        endpoints, errors = store.records()
        for name, _ in endpoints:
            record = service.describe(store, name)
            rows.append(
                {
                    "EndpointName": name,
                    "EndpointStatus": record.status,
                    "CreationTime": utc(record.created),
                    "Url": _url(name),
                    "Runtime": record.runtime,
                }
            )
    for error in errors:
        say_error(f"{type(error).__name__}: {error}")
    if as_json:
        print_json(rows)
    elif not rows:
        print(f"no endpoint{' configurations' if configs else 's'} in {store.home}")
    else:
        headings = ("NAME", "CREATED") if configs else ("NAME", "STATUS", "CREATED", "URL", "RUNTIME")
        texts = [[_shown(value) for value in row.values()] for row in rows]
        print_table([headings, *texts])


@app.command()
def describe(name: Name, as_json: AsJson = False) -> None:
    """Describe an endpoint, in the shape of DescribeEndpoint."""
    from launcher.endpoints import service
    from launcher.requests.endpoints import describe_endpoint

    description = {**describe_endpoint(service.describe(_store(), name)), "Url": _url(name)}
    if as_json:
        print_json(description)
    else:
        import yaml

        print(yaml.safe_dump(json.loads(to_json(description)), sort_keys=False), end="")


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print what an endpoint's containers printed, and what its process has to say."""
    from launcher.endpoints import service

    store = _store()
    store.load(name)
    seen: dict[Path, int] = {}
    while True:
        for path in service.log_paths(store, name):
            _print_new(path, seen)
        if not follow or not store.folder(name).record_path.exists():
            return
        time.sleep(_FOLLOW_SECONDS)


@app.command()
def invoke(
    name: Name,
    body: Annotated[str, typer.Argument(help="Text, @FILE, or '-' for the standard input.")] = "-",
    content_type: Annotated[str, typer.Option(help="Of the body.")] = "application/json",
    accept: Annotated[str, typer.Option(help="Of the answer.")] = "*/*",
    variant: Annotated[str | None, typer.Option(help="The variant that answers.")] = None,
    inference_id: Annotated[
        str | None, typer.Option(help="The id that a reward is reported by; made up by default.")
    ] = None,
    episode_id: Annotated[str | None, typer.Option(help="The episode that this request belongs to.")] = None,
    step: Annotated[int | None, typer.Option(help="The number of this step in its episode, from 0.")] = None,
) -> None:
    """Send a request to an endpoint; the answer goes to the standard output, its id to the standard error.

    launcher endpoints invoke cartpole '{"instances": [[0.1, 0.2, 0.3, 0.4]]}'
    """
    from launcher.sdk.deserializers import BytesDeserializer
    from launcher.sdk.predictor import Predictor
    from launcher.sdk.serializers import IdentitySerializer

    predictor = Predictor(
        name, serializer=IdentitySerializer(content_type), deserializer=BytesDeserializer(accept=accept)
    )
    answer = predictor.predict(
        _body(body), target_variant=variant, inference_id=inference_id, episode_id=episode_id, step=step
    )
    sys.stdout.buffer.write(answer)
    if not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    say_error(f"inference id: {predictor.last_inference_id}")


@app.command()
def reward(
    name: Name,
    inference_id: Annotated[str, typer.Argument(metavar="ID", help="The request's inference id.")],
    value: Annotated[float, typer.Argument(help="The reward of this step.")],
    terminated: Annotated[
        bool | None, typer.Option("--terminated/--goes-on", help="Whether the episode ended by itself.")
    ] = None,
    truncated: Annotated[bool, typer.Option("--truncated", help="The episode was cut off after this step.")] = False,
    action: Annotated[
        int | None, typer.Option(help="The action that was taken, where the application chose it.")
    ] = None,
) -> None:
    """Report what became of an answer."""
    from launcher.sdk.predictor import Predictor

    Predictor(name).report_reward(
        inference_id, value, terminated=terminated, truncated=truncated or None, action=action
    )


@app.command()
def dataset(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV to write.")],
    capture: Annotated[
        str | None, typer.Option(help="The folder or URI of the capture; needed once the endpoint is deleted.")
    ] = None,
    default_reward: Annotated[
        float | None,
        typer.Option(help="The reward of requests that none was reported for; by default these are left out."),
    ] = None,
) -> None:
    """Make a CSV of what an endpoint answered and what became of it, as training and 'launcher ope' read it."""
    from launcher.endpoints.dataset import build_rows, captured_lines, write_csv
    from launcher.paths import checked_path

    path = checked_path(output, "--output")
    rows, report = build_rows(captured_lines(_store(), name, capture), default_reward)
    write_csv(rows, path)
    say(f"{path}: {report}")


@app.command()
def update(
    name: Name,
    job: JobOption = None,
    model_data: ModelData = None,
    image_uri: ImageUri = None,
    variables: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; may be repeated.")] = None,
    instance_count: Annotated[int | None, typer.Option(help="Containers.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="VARIANT=WEIGHT,...: new shares of the requests; the containers stay.")
    ] = None,
) -> None:
    """Have an endpoint serve another model, by more containers or with other weights; no request is dropped.

    launcher endpoints update cartpole --weights old=1,new=3
    """
    from launcher.sdk.predictor import Predictor

    store = _store()
    runtime = store.load(name).runtime
    if weights is not None:
        if job or model_data or image_uri or variables or instance_count is not None:
            raise BadInputError("--weights cannot be combined with another change.", "Update the endpoint twice.")
        _update_weights(store, name, weights)
        return
    model_name = None
    if job or model_data or image_uri:
        model_name = _model(job, model_data, image_uri, _variables(variables), runtime).create()
    elif variables:
        raise BadInputError("--env goes with a model.", "Name it: --job, --model-data or --image-uri.")
    Predictor(name).update_endpoint(initial_instance_count=instance_count, model_name=model_name)
    say(f"{name}: InService at {_url(name)}")


@app.command()
def delete(
    name: Name,
    keep_config: Annotated[bool, typer.Option("--keep-config", help="Keep its configuration.")] = False,
) -> None:
    """End an endpoint; nothing of it is left but what it captured."""
    from launcher.sdk.predictor import Predictor

    Predictor(name).delete_endpoint(delete_endpoint_config=not keep_config)


def _update_weights(store: EndpointStore, name: str, text: str) -> None:
    from launcher.endpoints import service

    members = []
    for pair in text.split(","):
        variant, _, weight = pair.partition("=")
        try:
            members.append({"VariantName": variant.strip(), "DesiredWeight": float(weight)})
        except ValueError as error:
            raise BadInputError(f"--weights {pair!r} is not VARIANT=WEIGHT.", "For example: a=1,b=3") from error
    identity = service.update_weights({"EndpointName": name, "DesiredWeightsAndCapacities": members}, store.home)
    record = service.wait_in_service(store, name, identity)
    shares = ", ".join(f"{variant.name}={variant.weight:g}" for variant in record.current.config.variants)
    say(f"{name}: InService with weights {shares}")


def _model(
    job: str | None, model_data: str | None, image_uri: str | None, variables: dict[str, str], runtime: str | None
) -> Model:
    from launcher.cli.jobs import job_handle
    from launcher.sdk.model import Model

    if job is not None and model_data is not None:
        raise BadInputError("both --job and --model-data are given.", "Give one of them.")
    if job is None and model_data is None and image_uri is None:
        raise BadInputError("no model is named.", "Name it: --job, --model-data or --image-uri.")
    if job is not None:
        handle = job_handle(job)
        model_data, image_uri = handle.model_data, image_uri or handle.image_uri
    return Model(image_uri, model_data, env=variables, runtime=runtime)


def _variables(texts: list[str] | None) -> dict[str, str]:
    return variables_of(texts or [], "LAUNCHER_SERVE_POLICY=greedy") or {}


def _body(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).expanduser().read_bytes()
        except OSError as error:
            raise BadInputError(f"{text[1:]} cannot be read: {error.strerror}.", "Name a file.") from error
    return text.encode()


def _print_new(path: Path, seen: dict[Path, int]) -> None:
    """Print the whole lines that a log has beyond those that were printed."""
    try:
        with path.open("rb") as file:
            file.seek(seen.get(path, 0))
            data = file.read()
    except FileNotFoundError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    seen[path] = seen.get(path, 0) + len(whole)
    who = path.stem.removeprefix("job").lstrip(".") if path.name != "driver.log" else "endpoint"
    for line in whole.decode("utf-8", "replace").splitlines():
        print(neutralised_text(f"{who} | {line}"))


def _shown(value: Any) -> str:
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if hasattr(value, "astimezone") else str(value)


def _url(name: str) -> str:
    return f"http://127.0.0.1:{_store().load(name).port}"


def _store() -> EndpointStore:
    from launcher.jobs.store import EndpointStore
    from launcher.settings import home_path

    return EndpointStore(home_path())
