"""Endpoints by name: made, found, updated and deleted; each is carried by a process of its own.

Whoever asks for an endpoint that no process carries starts one: it listens where the last one did, and finds the
containers that are there.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.endpoints.files import DELETION, WANTED, write_whole
from launcher.errors import (
    BadInputError,
    EndpointFailedError,
    JobFolderError,
    LauncherError,
    NotFoundError,
    RecordError,
)
from launcher.jobs.endpoint_record import EndpointConfigRecord, EndpointRecord, EndpointStatus
from launcher.jobs.endpoint_spec import Deployment, EndpointConfigSpec
from launcher.jobs.folder import JobFolder
from launcher.jobs.store import EndpointConfigStore, EndpointStore, ModelStore
from launcher.requests.endpoints import (
    check_config_request,
    check_endpoint_request,
    check_weights,
    check_weights_request,
    config_warnings,
)
from launcher.runtimes import Runtime, choose_runtime, get_runtime
from launcher.s3_server.access import prove
from launcher.s3_server.listening import listen
from launcher.serving.model_host import check_model_data, plan_host
from launcher.settings import default_runtime
from launcher.storage import recorded_storage, which_s3

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02
_SETTLING_SECONDS = 60.0  # on a machine with forty processes for a CPU it took more than ten


def create_config(request: Mapping[str, Any], home: Path, *, warnings: Sequence[str] = ()) -> EndpointConfigSpec:
    """Check a CreateEndpointConfig document and record the configuration.

    Args:
        request: as boto3's ``create_endpoint_config(**request)`` takes it.
        home: where it lives, and its models do.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: it cannot be an endpoint's, or its name is used.
    """
    spec = check_config_request(request)
    output = spec.asynchronous.get("OutputConfig", {})
    places = (spec.capture.get("DestinationS3Uri", ""), *(output.get(name, "") for name in output))
    if spec.s3 is None and any(str(place).startswith("s3://") for place in places):
        spec = replace(spec, s3=which_s3().to_dict())
    store, models = EndpointConfigStore(home), ModelStore(home)
    store.check_writable()
    store.check_unused(spec.config_name)
    for variant in spec.variants:
        models.load(variant.model_name)
    record = EndpointConfigRecord(
        spec=spec.to_dict(),
        created=time.time(),
        request=dict(request),
        warnings=[*warnings, *config_warnings(spec)],
    )
    store.create(spec.config_name, record)
    return spec


def create_endpoint(
    request: Mapping[str, Any], home: Path, runtime: Runtime | None = None, *, warnings: Sequence[str] = ()
) -> str:
    """Check a CreateEndpoint document, record the endpoint, and have a process carry it; return its name.

    Args:
        request: as boto3's ``create_endpoint(**request)`` takes it.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: it cannot be an endpoint, or its name is used; nothing has been recorded.
        LauncherError: its process could not be started.
    """
    asked = check_endpoint_request(request)
    store = EndpointStore(home)
    store.check_writable()
    store.check_unused(asked.endpoint_name)
    deployment, of_config = _deployment(asked.config_name, home)
    images = [model.image_uri for model in deployment.models.values()]
    if runtime is None:
        name = default_runtime() if asked.runtime == "auto" else asked.runtime
        runtime = choose_runtime(name, image_uri=next(filter(None, images), None), subject="an endpoint")
    _check(deployment, store.folder(asked.endpoint_name), home, runtime)
    record = EndpointRecord(
        spec={
            "endpoint_name": asked.endpoint_name,
            "runtime": runtime.name,
            "tags": [list(tag) for tag in asked.tags],
        },
        created=time.time(),
        request=dict(request),
        token=secrets.token_hex(16),
        deployment=deployment.to_dict(),
        warnings=[*warnings, *of_config],
    )
    store.create(asked.endpoint_name, record)
    ensure(store, asked.endpoint_name)
    return asked.endpoint_name


def update_endpoint(request: Mapping[str, Any], home: Path, runtime: Runtime | None = None) -> str:
    """Check an UpdateEndpoint document, and have the endpoint's process make it so; return the deployment's identity.

    Raises:
        BadInputError: the endpoint cannot be updated so, or not now.
    """
    asked = check_endpoint_request(request, "UpdateEndpoint")
    store = EndpointStore(home)
    record = store.load(asked.endpoint_name)
    deployment, _ = _deployment(asked.config_name, home)
    _check(deployment, store.folder(asked.endpoint_name), home, runtime or get_runtime(record.runtime))
    return _order(store, asked.endpoint_name, lambda _: deployment)


def update_weights(request: Mapping[str, Any], home: Path) -> str:
    """Check an UpdateEndpointWeightsAndCapacities document, and have the endpoint's process make it so.

    Other weights hold from the next request on, by the containers that are there. Where a number of containers
    differs, a deployment with new containers takes over, as in an update.

    Returns:
        The deployment's identity, which ``wait_in_service`` takes.
    Raises:
        RequestError: the endpoint has no such variant, or none would answer.
        BadInputError: it cannot be updated now.
    """
    asked = check_weights_request(request)
    store = EndpointStore(home)

    def deployment(record: EndpointRecord) -> Deployment:
        check_weights(asked, record.current.config)
        return record.current.resized(asked.weights, asked.instance_counts)

    return _order(store, asked.endpoint_name, deployment)


def _order(store: EndpointStore, name: str, deployment_of: Callable[[EndpointRecord], Deployment]) -> str:
    """Ask the endpoint's process for a deployment, and return its identity.

    Raises:
        BadInputError: the endpoint is not in service.
    """
    ensure(store, name)
    folder = store.folder(name)
    with (folder.path / "update.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = store.load(name)
        status = status_of(store, name, record)
        if status != EndpointStatus.IN_SERVICE:
            raise BadInputError(
                f'Cannot update in-progress endpoint "{store.kind.arn(name)}": it is {status}.',
                "Wait until it is InService; one that has failed is deleted and made again.",
            )
        deployment = deployment_of(record)
        write_whole(folder.path / WANTED, deployment.to_dict())
    wake(store, name)
    return deployment.identity


def order_deletion(name: str, home: Path) -> None:
    """Have an endpoint's process end it; it is Deleting until nothing of it is left.

    Raises:
        NotFoundError: there is none.
        LauncherError: its process could not be started.
    """
    store = EndpointStore(home)
    store.load(name)
    folder = store.folder(name)
    try:
        (folder.path / DELETION).touch()
    except FileNotFoundError:
        return  # it is gone by now
    if not folder.driven():
        with suppress(NotFoundError):
            _start(store, name)
    wake(store, name)


def delete_endpoint(name: str, home: Path) -> None:
    """End an endpoint, and wait until nothing of it is left.

    Raises:
        NotFoundError: there is none.
        LauncherError: it could not be ended.
    """
    store = EndpointStore(home)
    store.load(name)
    folder = store.folder(name)
    (folder.path / DELETION).touch()
    lock = _opened(folder)
    if lock is None:
        return
    try:
        while folder.record_path.exists():
            if not folder.driven():
                with suppress(NotFoundError):
                    _start(store, name)
            wake(store, name)
            time.sleep(_POLL_SECONDS)
            record = _loaded(store, name)
            if record is not None and record.status == EndpointStatus.FAILED and not (folder.path / DELETION).exists():
                raise LauncherError(f"endpoint '{name}': {record.failure_reason}.", "Try again.")
        fcntl.flock(lock, fcntl.LOCK_SH)  # until its process has ended as well
    finally:
        os.close(lock)


def ensure(store: EndpointStore, name: str) -> EndpointRecord:
    """Have a process carry the endpoint, if none does and it has not failed; return its record.

    Raises:
        NotFoundError: there is none.
        LauncherError: the process could not be started.
    """
    deadline = time.monotonic() + _SETTLING_SECONDS
    while True:
        record = store.load(name)
        if record.status == EndpointStatus.FAILED:
            return record
        if store.folder(name).driven():
            if record.port:
                return record
        else:
            _start(store, name)
        if time.monotonic() > deadline:
            raise JobFolderError(
                f"endpoint '{name}': its process did not start within {_SETTLING_SECONDS:g} s.",
                f"Its log: {store.folder(name).path / 'driver.log'}",
            )
        time.sleep(_POLL_SECONDS)


def status_of(store: EndpointStore, name: str, record: EndpointRecord) -> str:
    """Return EndpointStatus, also between an order and the moment that the process has taken it."""
    folder = store.folder(name).path
    if (folder / DELETION).exists():
        return EndpointStatus.DELETING
    seen = ("", record.deployment["identity"], record.given_up)
    is_updating = record.status == EndpointStatus.IN_SERVICE and _wanted_identity(folder) not in seen
    return EndpointStatus.UPDATING if is_updating else record.status


def describe(store: EndpointStore, name: str) -> EndpointRecord:
    """Return an endpoint's record with its status as it is now, and have a process carry it.

    Raises:
        NotFoundError: there is none.
    """
    record = ensure(store, name)
    record.status = status_of(store, name, record)
    return record


def wait_in_service(
    store: EndpointStore, name: str, identity: str = "", on_wait: Callable[[], None] = lambda: None
) -> EndpointRecord:
    """Wait until an endpoint answers, or an update of it is over.

    Args:
        identity: of the deployment that an update brings; empty for the one that is there.
        on_wait: is called between two looks; it may raise to give up.
    Raises:
        EndpointFailedError: it failed, or the update was given up.
        NotFoundError: it was deleted meanwhile.
    """
    while True:
        record = describe(store, name)
        if record.status == EndpointStatus.FAILED:
            raise failed(store, name, record)
        if record.status == EndpointStatus.IN_SERVICE:
            if identity and record.given_up == identity:
                raise failed(store, name, record, "could not be updated, and answers as before")
            if not identity or record.deployment["identity"] == identity:
                return record
        on_wait()
        time.sleep(_POLL_SECONDS)


def failed(store: EndpointStore, name: str, record: EndpointRecord, event: str = "has failed") -> EndpointFailedError:
    """Return the error for an endpoint that does not answer as it was asked to."""
    return EndpointFailedError(
        f"endpoint '{name}' {event}: {record.failure_reason}",
        f"Logs: {store.folder(name).path}; or: launcher endpoints logs {name}",
    )


def wake(store: EndpointStore, name: str) -> None:
    """Have the process look at once what is wanted; it would anyway, in half a second."""
    _asked(store, name, "POST", "wake")


def recent_requests(store: EndpointStore, name: str) -> list[dict[str, Any]]:
    """Return what an endpoint's process remembers of its last requests, the oldest first: ``router.REQUEST_FIELDS``.

    None where no process carries the endpoint; none is started.
    """
    with suppress(ValueError, KeyError, TypeError):
        return list(json.loads(_asked(store, name, "GET", "requests"))["requests"])
    return []


def _asked(store: EndpointStore, name: str, method: str, action: str) -> bytes:
    """Return what an endpoint's process answers the launcher; nothing where it does not answer."""
    record = _loaded(store, name)
    if record is None or not record.port:
        return b""
    nonce = uuid.uuid4().hex
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(LOOPBACK, record.port, timeout=2)
        try:
            connection.request(method, f"/_launcher/{action}/{nonce}/{prove(record.token, action, nonce)}")
            return connection.getresponse().read()
        finally:
            connection.close()
    return b""


def log_paths(store: EndpointStore, name: str) -> list[Path]:
    """Return the logs of an endpoint's containers, the newest last, and that of its process."""
    folder = store.folder(name)
    return [*sorted(folder.log_paths(), key=lambda path: path.stat().st_mtime), folder.driver_log_path]


def _deployment(config_name: str, home: Path) -> tuple[Deployment, list[str]]:
    """Return a configuration with its models as they are now, and its warnings.

    Raises:
        NotFoundError: there is no such configuration, or a model of it is gone.
        ArtifactError: a model's data are gone.
    """
    record = EndpointConfigStore(home).load(config_name)
    config = record.config_spec
    models = {variant.name: ModelStore(home).load(variant.model_name).model_spec for variant in config.variants}
    for model in models.values():
        check_model_data(model)
    return Deployment.new(config, models), list(record.warnings)


def _check(deployment: Deployment, folder: JobFolder, home: Path, runtime: Runtime) -> None:
    """Refuse what could not be run, before anything is recorded or started.

    Raises:
        BadInputError: the runtime cannot run a model, or a place cannot be written.
    """
    config = deployment.config
    for model in deployment.models.values():
        isolated = model.enable_network_isolation or config.enable_network_isolation
        wanted = replace(model, enable_network_isolation=isolated)
        runtime.check(plan_host(wanted, folder, home=home, kind="endpoints").container)
    output = config.asynchronous.get("OutputConfig", {})
    for place in filter(None, (config.capture.get("DestinationS3Uri"), *map(output.get, output))):
        recorded_storage(place, config.s3).check_writable(place)


def _start(store: EndpointStore, name: str) -> None:
    """Start the endpoint's process, unless another has been started meanwhile.

    Raises:
        NotFoundError: the endpoint is gone.
        LauncherError: the process could not be started.
    """
    record, folder = store.load(name), store.folder(name)
    lock = _opened(folder)
    if lock is None:
        raise NotFoundError(f"endpoint '{name}' is gone.", f"List them with: {store.kind.listing}")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if not folder.record_path.exists():
            return
        with listen(LOOPBACK, record.port) as listener, (folder.path / "driver.log").open("ab") as log:
            listener.listen(256)  # from here on nobody who asks is refused
            package_parent = str(Path(__file__).resolve().parents[2])
            search_path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
            arguments = [str(store.home), name, str(listener.fileno()), str(lock)]
            # It forks and returns at once, so that the endpoint is nobody's child to wait for.
            subprocess.run(
                [sys.executable, "-m", "launcher.endpoints", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=True,
                env={**os.environ, "LAUNCHER_HOME": str(store.home), "PYTHONPATH": search_path},
                pass_fds=[listener.fileno(), lock], start_new_session=True,
            )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise JobFolderError(
            f"endpoint '{name}': its process could not be started: {error}.",
            f"Its log: {folder.path / 'driver.log'}",
        ) from error
    finally:
        os.close(lock)


def _opened(folder: JobFolder) -> int | None:
    """Return a descriptor of an endpoint's lock; None where the endpoint is gone."""
    try:
        return os.open(folder.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _loaded(store: EndpointStore, name: str) -> EndpointRecord | None:
    """Return a record, or None where there is none any more."""
    try:
        return store.load(name)
    except NotFoundError:
        return None
    except RecordError as error:
        if isinstance(error.__cause__, OSError):
            return None
        raise


def _wanted_identity(folder: Path) -> str:
    try:
        return str(json.loads((folder / WANTED).read_text(encoding="utf-8"))["identity"])
    except FileNotFoundError:
        return ""
