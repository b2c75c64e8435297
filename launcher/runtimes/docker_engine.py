"""Jobs as containers of a Docker engine, over its API; the only module that knows docker-py.

A container is found again by its labels. Its output is read by a connection that is opened before it starts, because
one opened later loses lines; the engine keeps a whole copy for whoever takes the job up after this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.types
import docker.utils
import requests

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes.base import Execution, Runtime
from launcher.runtimes.image import build_image, image_tag
from launcher.runtimes.probe import engine_address

_API_TIMEOUT_SECONDS = 60
_ENGINE_GONE_SECONDS = 60.0
_BROKEN = (requests.exceptions.RequestException, docker.errors.APIError, OSError)
_NO_ENGINE_HINT = 'Start it (launcher doctor says how), or run as a local process: Estimator(..., runtime="process").'


class DockerExecution(Execution):
    """A container of a job.

    Args:
        client: the engine.
        container_id: the container.
        log_path: gets what it prints.
        stream: its output from the very beginning; None reads it again from the engine's copy.
    """

    def __init__(
        self, client: docker.APIClient, container_id: str, log_path: Path, stream: Iterable[bytes] | None = None
    ) -> None:
        self._client = client
        self._id = container_id
        self._log_path = log_path
        self._ended = threading.Event()
        self._code = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, args=(stream,), name=container_id[:12], daemon=True)

    def watch(self) -> None:
        """Begin to read the output and to wait for the end."""
        self._thread.start()

    @property
    def reference(self) -> dict[str, Any]:
        """The container's id."""
        return {"runtime": "docker", "container": self._id}

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the container's end; by then its log is written."""
        if not self._ended.wait(timeout_seconds):
            return None
        if self._error is not None:
            raise RuntimeUnavailableError(
                f"the container {self._id[:12]} was lost: {_text(self._error)}", "Look at the engine's own log."
            ) from self._error
        return self._code

    def terminate(self) -> None:
        """Send SIGTERM to the container's first process, which hands it on."""
        self._signal("SIGTERM")

    def kill(self) -> None:
        """Send SIGKILL: the kernel ends every process of the container."""
        self._signal("SIGKILL")

    def remove(self) -> None:
        """Remove the container, its log and its anonymous volumes."""
        with contextlib.suppress(docker.errors.NotFound):
            self._client.remove_container(self._id, v=True, force=True)

    def _signal(self, name: str) -> None:
        try:
            self._client.kill(self._id, signal=name)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):  # gone, or not running any more
                raise RuntimeUnavailableError(f"{name} could not be sent: {_text(error)}") from error

    def _watch(self, stream: Iterable[bytes] | None) -> None:
        """Read the output, then the exit code; when the connection breaks, try again for a minute."""
        deadline = None
        try:
            while True:
                try:
                    self._copy(stream if stream is not None else self._output_so_far())
                    self._code = int(self._client.wait(self._id, timeout=None)["StatusCode"])
                    return
                except docker.errors.NotFound as error:
                    self._error = error
                    return
                except _BROKEN as error:
                    stream = None
                    deadline = deadline or time.monotonic() + _ENGINE_GONE_SECONDS
                    if time.monotonic() > deadline:
                        self._error = error
                        return
                    time.sleep(0.5)
        finally:
            self._ended.set()

    def _output_so_far(self) -> Iterator[bytes]:
        stream: Iterator[bytes] = self._client.logs(self._id, stdout=True, stderr=True, stream=True, follow=True)
        return stream

    def _copy(self, stream: Iterable[bytes]) -> None:
        with self._log_path.open("wb", buffering=0) as log:
            for frame in stream:
                log.write(frame)


class DockerRuntime(Runtime):
    """Runs the bundled image, or any that follows the contract."""

    name = "docker"

    @property
    def host_address(self) -> str:
        """The gateway of the network that containers are put in by default."""
        for name in ("bridge", "podman"):
            with contextlib.suppress(docker.errors.NotFound):
                for config in _client().inspect_network(name)["IPAM"]["Config"] or ():
                    if gateway := config.get("Gateway"):
                        return str(gateway)
        raise RuntimeUnavailableError(f"the engine at {engine_address()} has no gateway to this machine.")

    def check(self, container: ContainerSpec) -> None:
        """Refuse when no engine answers, or when a foreign image is neither here nor to be pulled."""
        client = _client()
        if container.bundled:
            return
        try:
            client.inspect_image(container.image)
        except docker.errors.ImageNotFound:
            self._pull(client, container.image)
        except docker.errors.APIError as error:
            raise ImageError(f"image '{container.image}': {_text(error)}", "Check how it is written.") from error

    def describe_image(self, container: ContainerSpec) -> str:
        """Return the image's name."""
        return container.image or self._own_image

    @cached_property
    def _own_image(self) -> str:
        return image_tag()

    def prepare(self, container: ContainerSpec) -> None:
        """Build the bundled image, if this engine has none of this content."""
        if not container.bundled:
            return
        tag = self._own_image
        try:
            _client().inspect_image(tag)
        except docker.errors.ImageNotFound:
            print(
                f"Building the image {tag}; this happens once and can take some minutes.", file=sys.stderr, flush=True
            )
            build_image(tag, Path(container.log_path).with_name("image-build.log"))

    def start(self, container: ContainerSpec) -> DockerExecution:
        """Create the container, connect to its output, start it."""
        client = _client()
        name = f"{container.job_name}-{container.host}-{_short_hash(container.labels['launcher.home'])}"
        try:
            created = client.create_container(
                container.image or self._own_image,
                command=list(container.arguments),
                entrypoint=list(container.entry_point) or None,
                environment=_inherited(container) | dict(container.environment),
                hostname=container.host,
                labels=dict(container.labels),
                name=name,
                user=_own_user() if container.bundled else None,
                host_config=_host_config(client, container),
            )
        except docker.errors.APIError as error:
            raise _start_error(container, error) from error
        execution_id = created["Id"]
        try:
            stream = client.attach(execution_id, stdout=True, stderr=True, stream=True)
            execution = DockerExecution(client, execution_id, Path(container.log_path), stream)
            client.start(execution_id)
        except BaseException as error:
            with contextlib.suppress(*_BROKEN):
                client.remove_container(execution_id, v=True, force=True)
            if isinstance(error, docker.errors.APIError):
                raise _start_error(container, error) from error
            raise
        execution.watch()
        return execution

    def find(self, container: ContainerSpec) -> DockerExecution | None:
        """Return the job's container by its labels; one that never started is removed."""
        client = _client()
        labels = [f"{name}={value}" for name, value in container.labels.items()]
        for found in client.containers(all=True, filters={"label": labels}):
            execution = DockerExecution(client, found["Id"], Path(container.log_path))
            if found["State"] == "created":
                execution.remove()
                continue
            execution.watch()
            return execution
        return None

    def reclaim(self, container: ContainerSpec) -> None:
        """Give what a foreign user of the image wrote to the caller, also what the caller could not touch."""
        tree = Path(container.mounts[0].source)
        uid, gid = os.getuid(), os.getgid()
        if not tree.is_dir() or next(_foreign_files(tree, uid), None) is None:
            return
        if uid == 0:
            for path in list(_foreign_files(tree, uid)):
                os.chown(path, uid, gid, follow_symlinks=False)
            return
        _change_owner(_client(), container.image or self._own_image, tree, "0:0" if _rootless() else f"{uid}:{gid}")

    def _pull(self, client: docker.APIClient, image: str) -> None:
        print(f"Pulling the image {image}.", file=sys.stderr, flush=True)
        try:
            client.pull(image)
            client.inspect_image(image)
        except docker.errors.APIError as error:
            raise ImageError(
                f"image '{image}' is not on this machine and cannot be pulled: {_text(error)}",
                "Check the name; list what is here with: docker images",
            ) from error


def describe_engine() -> tuple[str, str, set[str]]:
    """Return the engine's version, its API's version, and the names of the images it has.

    Raises:
        RuntimeUnavailableError: no engine answers.
    """
    client = _client()
    version = client.version()
    names = {name for image in client.images() for name in image["RepoTags"] or ()}
    return version["Version"], version["ApiVersion"], names


@lru_cache(maxsize=1)
def _connected(_address: str) -> docker.APIClient:
    return docker.APIClient(**docker.utils.kwargs_from_env(), version="auto", timeout=_API_TIMEOUT_SECONDS)


def _own_limits() -> list[docker.types.Ulimit] | None:
    """Return the caller's own limits for podman, which asks for more open files than every caller may have."""
    if not _is_podman(engine_address()):
        return None
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind) for name, kind in names.items()}
    return [docker.types.Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in limits.items()]


@lru_cache(maxsize=1)
def _is_podman(address: str) -> bool:
    components = _connected(address).version().get("Components") or ()
    return any("Podman" in component.get("Name", "") for component in components)


def _client() -> docker.APIClient:
    """Return a client of the engine that the environment names, one for each address.

    Raises:
        RuntimeUnavailableError: none answers.
    """
    try:
        return _connected(engine_address())
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        reason = "you may not use its socket" if "Permission denied" in str(error) else "no Docker engine answers"
        raise RuntimeUnavailableError(f"{reason} at {engine_address()}.", _NO_ENGINE_HINT) from error


def _host_config(client: docker.APIClient, container: ContainerSpec) -> dict[str, Any]:
    options: dict[str, Any] = {
        "init": True,
        "mounts": [
            docker.types.Mount(mount.target, mount.source, type="bind", read_only=mount.read_only)
            for mount in container.mounts
        ],
        # Whole and in order, whatever the engine's default is: another process may have to read it again.
        "log_config": docker.types.LogConfig(type="json-file", config={}),
        "shm_size": _half_of_memory(),
        "ulimits": _own_limits(),
    }
    if container.network_isolated:
        options["network_mode"] = "none"
    if container.bundled:
        options |= {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    config: dict[str, Any] = client.create_host_config(**options)
    return config


def _inherited(container: ContainerSpec) -> dict[str, str]:
    return {name: os.environ[name] for name in container.inherited if name in os.environ}


def _foreign_files(tree: Path, uid: int) -> Iterator[Path]:
    """Yield what does not belong to ``uid``, and folders that cannot be looked into."""
    stack = [tree]
    while stack:
        folder = stack.pop()
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            yield folder
            continue
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_uid != uid:
                yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                stack.append(Path(entry.path))


def _change_owner(client: docker.APIClient, image: str, path: Path, owner: str) -> None:
    """Run the host's own chown as the engine's root.

    The job's image is at hand, but may have no such program: the host's folders of programs take the place of its own.
    """
    programs = [Path(folder) for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix") if Path(folder).exists()]
    mounts = [docker.types.Mount(str(one), str(one.resolve()), type="bind", read_only=True) for one in programs]
    script = 'chown -hR "$0" /opt/ml && chmod -R u+rwX /opt/ml'
    by_hand = f"Do it by hand: sudo chown -R {owner} {path}"
    try:
        helper = client.create_container(
            image,
            entrypoint=["/bin/sh", "-c", script, owner],
            environment={"PATH": "/usr/bin:/bin"},
            user="0:0",
            host_config=client.create_host_config(
                mounts=[*mounts, docker.types.Mount("/opt/ml", str(path), type="bind")],
                network_mode="none",
                ulimits=_own_limits(),
                userns_mode="host",
            ),
        )
    except docker.errors.APIError as error:
        raise RuntimeUnavailableError(
            f"what the job wrote to {path} could not be given back: {_text(error)}", by_hand
        ) from error
    try:
        client.start(helper["Id"])
        code = client.wait(helper["Id"])["StatusCode"]
        said = client.logs(helper["Id"]).decode(errors="replace").strip()
    except docker.errors.APIError as error:
        code, said = -1, _text(error)
    finally:
        client.remove_container(helper["Id"], v=True, force=True)
    if code != 0:
        raise RuntimeUnavailableError(f"what the job wrote to {path} could not be given back: {said}", by_hand)


def _start_error(container: ContainerSpec, error: docker.errors.APIError) -> Exception:
    text = _text(error)
    if "bind source path does not exist" in text:
        return RuntimeUnavailableError(
            f"the engine does not see this machine's folders: {text}", f"{engine_address()} must be on this machine."
        )
    return RuntimeUnavailableError(
        f"the container could not be started: {text}", "launcher doctor looks at the engine."
    )


def _own_user() -> str:
    """Return the user that writes the caller's files; a rootless engine calls the caller root."""
    return "0:0" if _rootless() else f"{os.getuid()}:{os.getgid()}"


def _rootless() -> bool:
    address = urlsplit(engine_address())
    if address.scheme != "unix" or os.getuid() == 0:
        return False
    try:
        return Path(address.path).stat().st_uid == os.getuid()
    except OSError:
        return False


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _text(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip()
