"""A training job as a task of SkyPilot, for ``sky launch`` and ``sky jobs launch``.

Source: SkyPilot's documents on the YAML of tasks, on distributed jobs and on buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import OutputPathError, UnsupportedOptionError
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
from launcher.exports.reading import Export, s3_elsewhere
from launcher.jobs.spec import TrainingJobSpec
from launcher.requests.training import DEFAULT_VOLUME_GB
from launcher.settings import stop_grace_seconds


def skypilot_task(request: Mapping[str, Any], *, image: str = "", results: str = "") -> Export:
    """Return the task that runs a CreateTrainingJob document.

    Args:
        request: the document.
        image: Debian's or Ubuntu's, in a registry that the cloud reaches; empty for the request's own.
        results: an ``s3://`` prefix that gets them; empty for the request's own.
    Raises:
        BadInputError: the document is wrong, or something about it no task can do; the message names it.
    """
    spec = read_for_script(request, "SkyPilot", image, results=results)
    places = places_of(spec)
    spec = replace(spec, s3=_aws(spec, places))
    mounts: dict[str, Any] = {}
    folders = {place: _mount(place, mounts) for place in places}
    wrapper = ["timeout", f"--kill-after={stop_grace_seconds():.0f}s", f"{spec.max_run_seconds}s"]
    variables, secrets = variables_of(spec)
    labels, lines = fitting_tags(spec)
    lines += [f"Environment.{name} is not written: give it by sky launch --secret {name}" for name in secrets]
    lines.append(f"MaxRuntimeInSeconds={spec.max_run_seconds} limits each attempt, which then fails with 124")
    if spec.max_retries or spec.spot:
        lines.append("RetryStrategy, MaxWaitTimeInSeconds: sky jobs launch begins lost nodes again without such limits")
    document = {
        "name": spec.job_name,
        "num_nodes": spec.instance_count,
        "resources": _resources(spec) | ({"labels": labels} if labels else {}),
        "envs": variables,
        "secrets": dict.fromkeys(secrets),  # null: their values come from elsewhere
        "file_mounts": mounts,
        "run": node_script(spec, folders, rank="SKYPILOT_NODE_RANK", addresses="SKYPILOT_NODE_IPS", wrapper=wrapper),
    }
    lines = [*warnings_of_script(request, spec, fetched=[channel.name for channel in spec.channels]), *lines]
    return Export({key: value for key, value in document.items() if value}, tuple(lines))


def _mount(place: Place, mounts: dict[str, Any]) -> str:
    """Have all nodes get a place, and return where it is there; what is written is in its whole bucket."""
    bucket, _, prefix = place.uri.removeprefix("s3://").partition("/")
    if place.is_written and not place.uri.startswith("s3://"):
        hint = "Name a place under s3://; for results: --results s3://BUCKET/PREFIX"
        raise OutputPathError(f"{place.purpose}={place.uri} is on this machine.", hint)
    if place.is_written:
        mounts[f"{LENT}/buckets/{bucket}"] = {"source": f"s3://{bucket}", "mode": "MOUNT_CACHED"}
        return f"{LENT}/buckets/{bucket}/{prefix}".rstrip("/")
    # A lone object keeps its name; a prefix without a slash may be one.
    folder = f"{LENT}/{place.folder}/{'' if place.uri.endswith('/') else PurePosixPath(place.uri).name}".rstrip("/")
    mounts[folder] = place.uri.removeprefix("file://")
    return folder


def _aws(spec: TrainingJobSpec, places: Sequence[Place]) -> Mapping[str, Any] | None:
    """Return the S3 of a job, which has to be AWS's own: no other one is ``s3://`` to SkyPilot."""
    remedy = "Copy it to AWS, and say so: export LAUNCHER_S3_ENDPOINT=aws"
    settings = s3_elsewhere(spec, [(place.purpose, place.uri) for place in places], remedy)
    if settings is not None and settings["kind"] != "aws":
        raise UnsupportedOptionError(f"SkyPilot reads s3:// from AWS, not from {settings['endpoint_url']}.", remedy)
    for place in places:
        if "$" in place.uri:
            raise UnsupportedOptionError(f"{place.purpose}: SkyPilot would expand the $ of {place.uri}.", "Rename it.")
    return settings


def _resources(spec: TrainingJobSpec) -> dict[str, Any]:
    asked: dict[str, Any] = {"image_id": f"docker:{spec.image_uri}", "use_spot": spec.spot is not None}
    if (machine := machine_of(spec)) is not None:
        asked |= {"cpus": f"{machine.cpus}+", "memory": f"{machine.memory_gb}+"}
        asked |= {"accelerators": {machine.gpu_with_memory: machine.gpus}} if machine.gpus else {}
    return asked | ({"disk_size": spec.volume_size_gb} if spec.volume_size_gb != DEFAULT_VOLUME_GB else {})
