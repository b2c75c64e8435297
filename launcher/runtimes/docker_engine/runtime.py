"""Jobs as containers of a Docker engine, over its API.

A container is found again by its labels. Its output is read by a connection that is opened before it starts, because
one opened later loses lines; the engine keeps a whole copy for the process that takes the job up later.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import docker
import docker.errors

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.jobs.faults import CUT
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes.base import Remains, Runtime
from launcher.runtimes.docker_engine.connection import (
    BROKEN,
    engine_errors,
    own_user,
    patient_client,
    quick_client,
    silent,
    words_of,
)
from launcher.runtimes.docker_engine.execution import DockerExecution, remove_container
from launcher.runtimes.docker_engine.job_network import (
    addresses_of,
    make_network,
    needs_network,
    networking_config,
)
from launcher.runtimes.docker_engine.lending import lent_for_installing
from launcher.runtimes.docker_engine.names import container_name, network_name
from launcher.runtimes.docker_engine.options import host_options, inherited_variables, own_deadline
from launcher.runtimes.docker_engine.output import pairs_of
from launcher.runtimes.docker_engine.ownership import give_back
from launcher.runtimes.docker_engine.traits import EngineTraits, bridge_address
from launcher.runtimes.image import build_image, extend_image, extended_tag, image_tag
from launcher.runtimes.images import is_of_aws, line_to_add
from launcher.runtimes.probe import engine_address

_MISSING_PROGRAM = re.compile(r"exec: .* (?:executable file not found|no such file or directory)")


class DockerRuntime(Runtime):
    """Runs the bundled image, or any that follows the contract."""

    name = "docker"
    no_entry = ""
    no_warm_pools = (
        "a container that is kept has what its job left outside the job's folders, in the image's own, in /tmp and in "
        "shared memory, and a new job's folders cannot be mounted into it; a fresh one takes a fraction of a second"
    )

    @property
    def host_address(self) -> str:
        """The address of this machine on the network that containers are put in by default."""
        for name in ("bridge", "podman"):
            try:
                network = quick_client().inspect_network(name)
            except docker.errors.NotFound:
                continue
            except BROKEN as error:
                raise RuntimeUnavailableError(f"the engine at {engine_address()} does not answer.") from error
            if address := bridge_address(network):
                return address
        raise RuntimeUnavailableError(f"the engine at {engine_address()} has no gateway to this machine.")

    def check(self, container: ContainerSpec) -> None:
        """Refuse when no engine answers, or when a foreign image is neither here nor in a registry."""
        client = quick_client()
        try:
            client.ping()
            if container.bundled:
                return
            client.inspect_image(container.image)
        except docker.errors.ImageNotFound:
            if is_of_aws(container.image):
                raise ImageError(
                    f"image '{container.image}' is in a registry of AWS and not on this machine, and nothing is "
                    "pulled from AWS.",
                    f"Say what runs in its place, for example: {line_to_add(container.image)}",
                ) from None
            self._pull(patient_client(), container.image)
        except docker.errors.APIError as error:
            raise ImageError(f"image '{container.image}': {words_of(error)}", "Check how it is written.") from error
        except BROKEN as error:
            raise silent(error) from error

    def refused_faults(self, container: ContainerSpec) -> dict[str, str]:
        """Return why a host cannot be cut off."""
        return {} if len(container.hosts) > 1 else {CUT: "a lone host has no others"}

    def describe_image(self, container: ContainerSpec) -> str:
        """Return the image's name."""
        if not container.bundled:
            return container.image
        return extended_tag(self._own_image, container.packages) if container.packages else self._own_image

    @cached_property
    def _own_image(self) -> str:
        return image_tag()

    def prepare(self, container: ContainerSpec) -> None:
        """Build the bundled image, if this engine has none of this content."""
        if not container.bundled:
            return
        log_path = Path(container.log_path).with_name("image-build.log")
        self._have(self._own_image, lambda tag: build_image(tag, log_path))
        if container.packages:
            base, packages = self._own_image, container.packages
            self._have(self.describe_image(container), lambda tag: extend_image(tag, base, packages, log_path))

    def describe_environment(self, container: ContainerSpec) -> dict[str, Any]:
        """Return the image's name and id."""
        name = self.describe_image(container)
        with contextlib.suppress(docker.errors.ImageNotFound):  # the start says so
            return {"Image": name, "ImageId": quick_client().inspect_image(name)["Id"]}
        return {"Image": name}

    def _have(self, tag: str, build: Callable[[str], None]) -> None:
        try:
            quick_client().inspect_image(tag)
        except docker.errors.ImageNotFound:
            print(
                f"Building the image {tag}; this happens once and can take some minutes.", file=sys.stderr, flush=True
            )
            build(tag)

    def open(self, containers: Sequence[ContainerSpec]) -> None:
        """Make a network for a job of several hosts, and for one that serves without a way out."""
        if not needs_network(containers[0]):
            return
        problem = f"the hosts of job '{containers[0].job_name}' could not get a network"
        with engine_errors(problem, "List networks that nobody uses any more: docker network ls"):
            make_network(patient_client(), containers[0])

    def close(self, containers: Sequence[ContainerSpec]) -> None:
        """Remove the job's network."""
        if not needs_network(containers[0]):
            return
        name = network_name(containers[0])
        problem = f"the network of job '{containers[0].job_name}' could not be removed"
        by_hand = f"Do it by hand: docker network rm {name}"
        with engine_errors(problem, by_hand), contextlib.suppress(docker.errors.NotFound):
            patient_client().remove_network(name)

    def start(self, container: ContainerSpec) -> DockerExecution:
        """Create the container, connect to its output, start it."""
        client = patient_client()
        lent = lent_for_installing(container)
        try:
            addresses = addresses_of(client, container)
            created = client.create_container(
                self.describe_image(container),
                command=list(container.arguments),
                entrypoint=list(container.entry_point) or None,
                environment={
                    **inherited_variables(container),
                    **lent.variables,
                    **own_deadline(container),
                    **container.environment,
                },
                hostname=container.host,
                labels=dict(container.labels),
                name=container_name(container),
                ports=[container.port] if container.port else None,
                user=own_user() if container.bundled else None,
                host_config=client.create_host_config(
                    **host_options(container, EngineTraits(client), addresses, lent.mounts)
                ),
                networking_config=networking_config(client, container, addresses),
            )
        except docker.errors.APIError as error:
            raise _start_error(container, error) from error
        except BROKEN as error:
            raise silent(error) from error
        execution_id = created["Id"]
        try:
            stream = client.attach(execution_id, stdout=True, stderr=True, stream=True, demux=True)
            execution = DockerExecution(client, execution_id, container, pairs_of(stream))
            client.start(execution_id)
        except BaseException as error:
            with contextlib.suppress(*BROKEN):
                client.remove_container(execution_id, v=True, force=True)
            if isinstance(error, docker.errors.APIError):
                raise _start_error(container, error) from error
            if isinstance(error, BROKEN):
                raise silent(error) from error
            raise
        execution.watch()
        return execution

    def find(self, container: ContainerSpec) -> DockerExecution | None:
        """Return the job's container by its labels; one that never started is removed."""
        for summary in self._summaries(container):
            execution = DockerExecution(patient_client(), summary["Id"], container)
            if summary["State"] == "created":
                execution.remove()
                continue
            execution.watch()
            return execution
        return None

    def look(self, container: ContainerSpec) -> DockerExecution | None:
        """Return the job's running container by its labels; nothing of it is read or changed."""
        for summary in self._summaries(container):
            if summary["State"] == "running":
                return DockerExecution(patient_client(), summary["Id"], container)
        return None

    def _summaries(self, container: ContainerSpec) -> list[dict[str, Any]]:
        labels = [f"{name}={value}" for name, value in container.labels.items()]
        with engine_errors(f"the containers of job '{container.job_name}' could not be listed"):
            summaries: list[dict[str, Any]] = quick_client().containers(all=True, filters={"label": labels})
        return summaries

    def reclaim(self, container: ContainerSpec) -> None:
        """Make the caller the owner of what the image's own user wrote, also of what the caller could not touch."""
        give_back(Path(container.tree_path), self.describe_image(container))

    def leftovers(self, home: str) -> list[Remains]:
        """Return the containers and networks that carry the labels of a home."""
        filters = {"label": [f"launcher.home={home}"]}
        with engine_errors("the containers of jobs could not be listed"):
            containers = quick_client().containers(all=True, filters=filters)
            networks = quick_client().networks(filters=filters)
        remains = []
        for entry in containers:
            remove: Callable[[], None] = partial(remove_container, entry["Id"])
            text = f"container {entry['Id'][:12]} ({entry['State']})"
            remains.append(Remains(entry["Labels"].get("launcher.job", ""), text, remove))
        for entry in networks:
            remove = partial(patient_client().remove_network, entry["Id"])
            remains.append(Remains(entry["Labels"].get("launcher.job", ""), f"network {entry['Name']}", remove))
        return remains

    def _pull(self, client: docker.APIClient, image: str) -> None:
        print(f"Pulling the image {image}.", file=sys.stderr, flush=True)
        try:
            client.pull(image)
            client.inspect_image(image)
        except docker.errors.APIError as error:
            raise ImageError(
                f"image '{image}' is not on this machine and cannot be pulled: {words_of(error)}",
                "Check the name; list what is here with: docker images",
            ) from error


def _start_error(container: ContainerSpec, error: docker.errors.APIError) -> Exception:
    text = words_of(error)
    if _MISSING_PROGRAM.search(text):
        command = " ".join([*container.entry_point, *container.arguments])
        return ImageError(
            f"the image {container.image} has no '{command}' that could be started: {text}",
            "An algorithm image must be runnable as: docker run IMAGE train",
        )
    if container.limits.gpus and "device driver" in text and "gpu" in text:
        return RuntimeUnavailableError(
            f"the engine can lend no GPUs: {text}",
            "Install the NVIDIA Container Toolkit, or: export LAUNCHER_GPUS=none",
        )
    if "bind source path does not exist" in text:
        return RuntimeUnavailableError(
            f"the engine does not see this machine's folders: {text}", f"{engine_address()} must be on this machine."
        )
    return RuntimeUnavailableError(
        f"the container could not be started: {text}", "launcher doctor looks at the engine."
    )
