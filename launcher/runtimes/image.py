"""The bundled image: named by the content it is built from, built by BuildKit when no engine has it yet.

An unchanged ``container/`` is never built twice; a changed script never needs a build, because a job brings its source.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.settings import BuildSettings, build_settings, data_path

REPOSITORY = "launcher-job"
_NOT_CONTENT = {"wheels", "__pycache__", "make-base-image", ".dockerignore"}
_SHOWN_LINES = 15
_EXTENDING = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN --mount=type=cache,target=/var/cache/pip \\
    --mount=type=secret,id=ca \\
    --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \\
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \\
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \\
    && python -m pip install --disable-pip-version-check --root-user-action=ignore --cache-dir /var/cache/pip \\
        --constraint /tmp/constraints.txt --requirement /tmp/requirements.txt
"""
_NO_BASE_HINT = "If the base image cannot be pulled, make one of Debian packages: make base-image"
_HINTS = (
    ("CERTIFICATE_VERIFY_FAILED", "Downloads meet a certificate of your own: export LAUNCHER_BUILD_CA=/path/ca.pem"),
    ("buildx component is missing", "Install BuildKit's client: sudo apt-get install docker-buildx"),
    ("failed to resolve source metadata", _NO_BASE_HINT),
    ("failed to solve with frontend", _NO_BASE_HINT),
    ("load metadata for", _NO_BASE_HINT),
    (
        "No matching distribution found",
        "No index answers, or it lacks a version; name folders of wheels in LAUNCHER_BUILD_WHEELS",
    ),
    ("No space left on device", "The engine's disk is full: docker system df"),
)


def image_tag(settings: BuildSettings | None = None) -> str:
    """Return the image's name: its tag is a hash of all that goes into it."""
    settings = settings or build_settings()
    digest = hashlib.sha256(f"{settings.base_image}\0{settings.torch_index_url}\0".encode())
    root = data_path("container")
    for path in _content(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def build_image(tag: str, log_path: Path) -> None:
    """Build the image; certificates and wheels that the host lends are used and not kept.

    Args:
        tag: from ``image_tag``.
        log_path: gets everything that the build prints; stays where it fails.
    Raises:
        RuntimeUnavailableError: there is no docker command.
        ImageError: the build failed; the message has its last lines.
    """
    with tempfile.TemporaryDirectory(prefix="launcher-build-") as scratch:
        context, settings = Path(scratch), build_settings()
        _fill_context(context, settings)
        arguments = (f"BASE_IMAGE={settings.base_image}", f"TORCH_INDEX_URL={settings.torch_index_url}")
        _build(tag, context, arguments, settings, log_path)


def extended_tag(base: str, packages: Sequence[str]) -> str:
    """Return the name of the image that is the bundled one, ``base``, with packages on top."""
    digest = hashlib.sha256("\0".join((base, _EXTENDING, *sorted(packages))).encode()).hexdigest()
    return f"{REPOSITORY}-with:{digest[:12]}"


def extend_image(tag: str, base: str, packages: Sequence[str], log_path: Path) -> None:
    """Build the bundled image with packages of Python's index on top; everything else as for ``build_image``."""
    with tempfile.TemporaryDirectory(prefix="launcher-build-") as scratch:
        context, settings = Path(scratch), build_settings()
        (context / "Dockerfile").write_text(_EXTENDING, encoding="utf-8")
        (context / "requirements.txt").write_text("".join(f"{name}\n" for name in sorted(packages)), encoding="utf-8")
        shutil.copyfile(data_path("container") / "constraints.txt", context / "constraints.txt")
        _build(tag, context, (f"BASE_IMAGE={base}",), settings, log_path)


def _build(tag: str, context: Path, arguments: Sequence[str], settings: BuildSettings, log_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        raise RuntimeUnavailableError(
            f"the image {tag} has to be built, and there is no docker command to do it.",
            'Install the Docker client with its buildx plugin, or run as a process: runtime="process".',
        )
    command = [*_build_command(docker), "--tag", tag, *(f"--build-arg={argument}" for argument in arguments)]
    if settings.ca_bundle:
        command += ["--secret", f"id=ca,src={settings.ca_bundle}"]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        answer = subprocess.run(
            [*command, str(context)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
            check=False,
        )
    if answer.returncode != 0:
        text = log_path.read_text(encoding="utf-8", errors="replace")
        tail = "".join(f"\n    {line}" for line in text.strip().splitlines()[-_SHOWN_LINES:])
        hint = next((hint for mark, hint in _HINTS if mark in text), f"The whole output is in {log_path}")
        raise ImageError(f"the image {tag} could not be built:{tail}", hint)
    log_path.unlink()  # what is worth keeping of a build that succeeded is the image


def _build_command(docker: str) -> list[str]:
    buildx = subprocess.run([docker, "buildx", "version"], capture_output=True, check=False)
    if buildx.returncode == 0:
        # The engine's own builder: another one would not see a base image that only this engine has.
        return [docker, "buildx", "build", "--builder", "default", "--load"]
    return [docker, "build"]


def _content(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not _NOT_CONTENT & set(path.relative_to(root).parts)
    )


def _fill_context(context: Path, settings: BuildSettings) -> None:
    root = data_path("container")
    for path in _content(root):
        target = context / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    wheels = context / "wheels"
    wheels.mkdir(exist_ok=True)
    for folder in (root / "wheels", *settings.wheel_folders):
        for wheel in sorted(folder.glob("*.whl")) if folder.is_dir() else ():
            try:
                os.link(wheel.resolve(), wheels / wheel.name)
            except OSError:
                shutil.copyfile(wheel, wheels / wheel.name)
