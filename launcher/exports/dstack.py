"""A training job as a task of dstack, for ``dstack apply``.

Source: dstack's documents on tasks, volumes and secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.exports.machines import fitting_tags, machine_of
from launcher.exports.node_script import (
    LENT,
    Place,
    node_script,
    places_of,
    read_for_script,
    variables_of,
    warnings_of_script,
)
from launcher.exports.reading import Export, refuse_unknown_channels
from launcher.jobs.spec import TrainingJobSpec
from launcher.requests.training import DEFAULT_VOLUME_GB
from launcher.settings import stop_grace_seconds

_NAME = re.compile(r"[a-z][a-z0-9-]{1,40}")
_LENT = "takes its place, and is read or written there"
_UPLOADED = "is uploaded from here; dstack's server takes 2 MB by default (DSTACK_SERVER_CODE_UPLOAD_LIMIT)"


def dstack_task(
    request: Mapping[str, Any],
    *,
    volumes: Mapping[str, str],
    channels: Mapping[str, str],
    name: str = "",
    image: str = "",
) -> Export:
    """Return the task that runs a CreateTrainingJob document.

    Args:
        request: the document.
        volumes: a ``VOLUME``, ``VOLUME/FOLDER``, or ``/PATH`` of the machines for ``results``, ``checkpoints`` and
            ``source``, which is unpacked there; empty for none.
        channels: the same for channels, by their names.
        name: of the run; empty for the job's own.
        image: in a registry that the machines reach; empty for the request's own.
    Raises:
        BadInputError: the document is wrong, or something about it no task can do; the message names it.
    """
    spec = replace(read_for_script(request, "dstack", image), s3=None)
    name = name or spec.job_name
    if not _NAME.fullmatch(name):
        problem = f"the name '{name}' cannot be a run's: a small letter, then 1 to 40 small letters, digits and -."
        raise UnsupportedOptionError(problem, "Give it another: --name NAME")
    refuse_unknown_channels(spec, channels, "--volume")
    mounts: list[dict[str, str]] = []
    given = {place: (channels if place.is_channel else volumes).get(place.name, "") for place in places_of(spec)}
    for key in {key for key, place in volumes.items() if place} - {
        place.name for place in given if not place.is_channel
    }:
        raise BadInputError(f"{key}: {volumes[key]} is named for it, and the job has none.", "Leave it out.")
    folders = {place: _mount(place, volume, mounts) for place, volume in given.items()}
    script = node_script(spec, folders, rank="DSTACK_NODE_RANK", addresses="DSTACK_NODES_IPS")
    variables, secrets = variables_of(spec)
    if "${{" in script + json.dumps(variables):
        raise UnsupportedOptionError("HyperParameters, Environment: dstack would expand '${{'.", "Write it otherwise.")
    tags, lines = fitting_tags(spec)
    lines += [f"Environment.{name} is a secret of dstack: dstack secret set {name} VALUE" for name in secrets]
    lines += [f"{place.purpose}: {given[place] or place.uri} {_LENT if given[place] else _UPLOADED}" for place in given]
    lines.append(f"MaxRuntimeInSeconds={spec.max_run_seconds} ends the run as failed, and counts from the nodes' start")
    retry: dict[str, Any] = {"on_events": ["interruption"]} if spec.spot or spec.max_retries else {}
    if spec.spot is not None:
        retry["duration"] = f"{spec.spot.max_wait_seconds}s"
    if spec.max_retries:
        lines.append("MaximumRetryAttempts is not counted: each node that is lost begins the run again")
    document = {
        "type": "task",
        "name": name,
        "nodes": spec.instance_count,
        "image": spec.image_uri,
        "commands": [script],
        "resources": _resources(spec),
        "env": variables | {name: f"${{{{ secrets.{name} }}}}" for name in secrets},
        "volumes": [entry for entry in mounts if "local_path" not in entry],
        "files": [entry for entry in mounts if "local_path" in entry],
        "max_duration": f"{spec.max_run_seconds}s",
        "stop_duration": f"{stop_grace_seconds():.0f}s",
        "spot_policy": "spot" if spec.spot else "",
        "retry": retry,
        "tags": tags,
    }
    lines = [*warnings_of_script(request, spec, fetched=[]), *lines]
    return Export({key: value for key, value in document.items() if value}, tuple(lines))


def _mount(place: Place, given: str, mounts: list[dict[str, str]]) -> str:
    """Mount a volume or a folder of the machines, or else upload a file of this machine; return where it is."""
    volume, _, folder = given.partition("/")
    if not given and not place.is_written and place.uri.startswith("file://"):
        path = f"{LENT}/{place.folder}/{PurePosixPath(place.uri).name}"
        mounts.append({"local_path": place.uri.removeprefix("file://"), "path": path})
        return path
    if not given.strip("/") or ".." in PurePosixPath(given).parts:
        names = {"source": "code "} if not place.is_channel else {place.name: f"volume {place.name}="}
        option = names.get(place.name, f"{place.name} ")
        raise BadInputError(
            f"{place.purpose}: dstack reads and writes no bucket like {place.uri}, and '{given}' is no folder.",
            f"Name a volume, or a folder of the machines: --{option}VOLUME[/FOLDER], or --{option}/PATH",
        )
    path = f"{LENT}/volumes/{volume}" if volume else f"{LENT}/machine{given.rstrip('/')}"
    entry = {"path": path, **({"name": volume} if volume else {"instance_path": given})}
    if entry not in mounts:
        mounts.append(entry)
    return f"{path}/{folder}".rstrip("/") if volume else path


def _resources(spec: TrainingJobSpec) -> dict[str, Any]:
    asked: dict[str, Any] = {"disk": f"{spec.volume_size_gb}GB.."} if spec.volume_size_gb != DEFAULT_VOLUME_GB else {}
    if (machine := machine_of(spec)) is not None:
        asked |= {
            "cpu": f"{machine.cpus}..",
            "memory": f"{machine.memory_gb}GB..",
            "shm_size": f"{machine.memory_gb // 2}GB",
        }
        asked |= {"gpu": f"{machine.gpu}:{machine.gpu_gb}GB:{machine.gpus}"} if machine.gpus else {}
    return asked
