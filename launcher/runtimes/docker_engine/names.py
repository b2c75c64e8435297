"""What containers and networks of jobs are called."""

from __future__ import annotations

import hashlib

from launcher.jobs.spec import ContainerSpec

JOB_LABELS = ("launcher.job", "launcher.home")


def container_name(container: ContainerSpec) -> str:
    """Return the name of a host's container."""
    return f"{container.job_name}-{container.host}-{_home_hash(container)}"


def network_name(container: ContainerSpec) -> str:
    """Return the name of a job's network."""
    return f"launcher-{container.job_name}-{_home_hash(container)}"


def _home_hash(container: ContainerSpec) -> str:
    """Return what tells apart the containers of two homes, and of two kinds of job of one name."""
    kind, _, name = container.labels["launcher.job"].rpartition("/")
    text = container.labels["launcher.home"] + (f"/{kind}" if name and kind else "")
    return hashlib.sha256(text.encode()).hexdigest()[:6]
