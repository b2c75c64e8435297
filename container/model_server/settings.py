"""What the environment asks of the server: SageMaker's variables, and a few of ours."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from job_toolkit.environment import count_cpus
from job_toolkit.paths import job_paths
from model_server.errors import ServingError

MIB = 1 << 20
MAX_DEFAULT_WORKERS = 4  # each holds a model of its own
REAL_TIME_PAYLOAD_BYTES = 6 * MIB
BATCH_PAYLOAD_MIB = 100
STOP_GRACE_SECONDS = 30  # SageMaker's, between SIGTERM and SIGKILL of a hosting container
POLICY_CHOICES = ("softmax", "greedy")


class ServerSettings(NamedTuple):
    """How to serve.

    Attributes:
        timeout_seconds: how long the handlers may work on one request.
        drain_seconds: how long requests in flight may go on after SIGTERM.
        max_body_bytes: of a request; 0: no limit.
        batch_size: records that are predicted together, of several requests; 1: none wait for others.
        policy: whether the bundled policy draws its action by ``softmax`` or takes the ``greedy`` one.
    """

    host: str
    port: int
    workers: int
    timeout_seconds: float
    drain_seconds: float
    default_accept: str
    max_body_bytes: int
    batch_size: int
    batch_milliseconds: float
    policy: str
    model: Path
    code: Path


def read_settings(environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Return the settings of this server.

    Raises:
        ServingError: a variable has no usable value, or asks for what is not emulated.
    """
    if environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        raise ServingError(
            "SAGEMAKER_MULTI_MODEL=true asks for a multi-model endpoint, which this server does not emulate. "
            "Serve each model by a server of its own, and leave the variable out."
        )
    in_batch = environment.get("SAGEMAKER_BATCH", "").lower() == "true"
    default_timeout = 600 if in_batch else 60
    timeout = _number(environment, "SAGEMAKER_MODEL_SERVER_TIMEOUT", default_timeout, least=0.001)
    payload = _number(environment, "SAGEMAKER_MAX_PAYLOAD_IN_MB", BATCH_PAYLOAD_MIB) * MIB
    is_limited_by_platform = in_batch or "SAGEMAKER_MAX_PAYLOAD_IN_MB" in environment
    policy = environment.get("LAUNCHER_SERVE_POLICY") or POLICY_CHOICES[0]
    if policy not in POLICY_CHOICES:
        raise ServingError(f"LAUNCHER_SERVE_POLICY is {policy!r}; use one of: {', '.join(POLICY_CHOICES)}.")
    paths = job_paths()
    return ServerSettings(
        host=environment.get("LAUNCHER_SERVE_HOST") or "0.0.0.0",
        port=_whole(environment, "SAGEMAKER_BIND_TO_PORT", 8080, most=65535),
        workers=_whole(environment, "SAGEMAKER_MODEL_SERVER_WORKERS", _default_workers(), least=1),
        timeout_seconds=_number(environment, "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", timeout, least=0.001),
        drain_seconds=max(
            0.5, _number(environment, "LAUNCHER_STOP_GRACE_SECONDS", STOP_GRACE_SECONDS) - 2
        ),  # what is left is for the processes to end
        default_accept=environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or "application/json",
        max_body_bytes=int(payload) if is_limited_by_platform else REAL_TIME_PAYLOAD_BYTES,
        batch_size=_whole(environment, "LAUNCHER_SERVE_BATCH_SIZE", 1, least=1),
        batch_milliseconds=_number(environment, "LAUNCHER_SERVE_BATCH_MILLISECONDS", 5),
        policy=policy,
        model=paths.model,
        code=paths.code,
    )


def _default_workers() -> int:
    """Return one for each CPU that this process may use, by affinity and by a container's quota."""
    cpus = float(count_cpus())
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cpus = min(cpus, int(quota) / int(period))
    except (OSError, ValueError):
        pass  # another version of cgroups, or none: the affinity alone counts
    return max(1, min(int(cpus), MAX_DEFAULT_WORKERS))


def _number(environment: Mapping[str, str], name: str, default: float, least: float = 0) -> float:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) or float(text) < least:
        raise ServingError(f"{name} is {text!r}, which is no number from {least:g}.")
    return float(text)


def _whole(environment: Mapping[str, str], name: str, default: int, least: int = 0, most: int = 1 << 31) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not least <= int(text) <= most:
        raise ServingError(f"{name} is {text!r}, which is no whole number from {least}.")
    return int(text)
