"""Looks at this machine: which runtimes work, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError
from launcher.runtimes.probe import engine_address, engine_answers
from launcher.sdk.preflight import LIBRARIES
from launcher.settings import build_settings, home_path, install_command, slurm_settings

_NEEDED_FREE_BYTES = 2 * 2**30
# Ubuntu has the first, Debian the second; other kernels have neither.
_NAMESPACES_SETTINGS = {"apparmor_restrict_unprivileged_userns": "0", "unprivileged_userns_clone": "1"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``ok``, ``missing`` (something will not work) or ``note``.
        remedy: the command that mends it.
    """

    topic: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; changes nothing that stays."""
    return [*_home(), *_process(), *_docker(), *_slurm()]


def _home() -> Iterator[Finding]:
    try:
        home = home_path()
    except LauncherError as error:
        yield Finding("home", "missing", error.message, error.hint)
        return
    parent = home
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if not os.access(parent, os.W_OK):
        yield Finding("home", "missing", f"{home} cannot be written", "export LAUNCHER_HOME=/path/to/folder")
    elif free < _NEEDED_FREE_BYTES:
        yield Finding("home", "note", f"{home}: only {free / 2**30:.1f} GiB free", "launcher ls, and remove old jobs")
    else:
        yield Finding("home", "ok", f"{home}: {free / 2**30:.0f} GiB free")


def _process() -> Iterator[Finding]:
    yield Finding("process runtime", "ok", f"{sys.executable} runs your scripts")
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        lacking = f"{', '.join(missing)} are not installed; presets need them as processes"
        yield Finding("batch RL library", "missing", lacking, install_command("rl"))
    else:
        yield Finding("batch RL library", "ok", "processes run the bundled entry points and their presets")
    from launcher.runtimes.process import namespaces_missing

    try:
        reason = namespaces_missing(home_path())
    except (LauncherError, OSError) as error:
        reason = str(error)
    if reason:
        yield Finding(
            "private /opt/ml",
            "note",
            f"processes get none on this machine ({reason}); their scripts find the folders by SM_* variables",
            namespaces_remedy(),
        )
    else:
        yield Finding("private /opt/ml", "ok", "each process gets its own, by namespaces")


def namespaces_remedy(settings: Path = Path("/proc/sys/kernel")) -> str:
    """Return the command that allows namespaces to ordinary users; empty where no setting forbids them."""
    for name, wanted in _NAMESPACES_SETTINGS.items():
        path = settings / name
        if path.is_file() and path.read_text().strip() != wanted:
            return f"sudo sysctl -w kernel.{name}={wanted}"
    return ""


def _docker() -> Iterator[Finding]:
    if not engine_answers():
        socket = Path(engine_address().removeprefix("unix://"))
        if socket.exists() and not os.access(socket, os.W_OK):
            yield Finding(
                "docker runtime",
                "missing",
                f"you may not use {socket}",
                "sudo usermod -aG docker $USER, then log in again",
            )
        elif shutil.which("dockerd"):
            yield Finding("docker runtime", "missing", "the engine does not run", "sudo systemctl start docker")
        else:
            yield Finding(
                "docker runtime", "missing", f"no engine at {engine_address()}", "sudo apt-get install docker.io"
            )
        return
    from launcher.runtimes.docker_engine.connection import describe_engine
    from launcher.runtimes.image import image_tag

    version, api_version, images = describe_engine()
    yield Finding("docker runtime", "ok", f"engine {version}, API {api_version}")
    tag, base = image_tag(), build_settings().base_image
    if tag in images:
        yield Finding("image", "ok", f"{tag} is built")
    elif base in images:
        yield Finding("image", "note", f"{tag} is built when it is first needed, from {base}, which is here")
    else:
        yield Finding("image", "note", f"{tag} is built when first needed; {base} has to be pulled", "make base-image")
    yield _client_plugin("buildx", "BuildKit's client", "sudo apt-get install docker-buildx")
    yield _client_plugin("compose", "Compose", "sudo apt-get install docker-compose-v2, or docker-compose-plugin")


def _slurm() -> Iterator[Finding]:
    from launcher.runtimes import slurm_commands

    if shutil.which("sbatch") is None:
        return  # few machines are part of a cluster
    try:
        slurm_commands.check_installed()
        partitions = slurm_commands.ask("sinfo", "--noheader", "--format=%P").split()
        engine = slurm_settings().containers
    except LauncherError as error:
        yield Finding("slurm runtime", "missing", error.message, error.hint)
    else:
        images = "images by podman" if engine else "no images: LAUNCHER_SLURM_CONTAINERS is not set"
        text = f"partitions {', '.join(partitions)}; jobs need a home that all nodes see; {images}"
        yield Finding("slurm runtime", "ok", text)


def _client_plugin(name: str, title: str, remedy: str) -> Finding:
    docker_command = shutil.which("docker")
    if docker_command is None:
        return Finding(name, "missing", "there is no docker command", "sudo apt-get install docker-cli")
    answer = subprocess.run([docker_command, name, "version"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        state = "note" if name == "buildx" else "missing"
        return Finding(name, state, f"the docker command has no {title} plugin", remedy)
    return Finding(name, "ok", answer.stdout.strip().splitlines()[0])
