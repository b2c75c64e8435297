"""The bundled image: named by the content it is built from, built by BuildKit when no engine has it yet.

An unchanged ``container/`` is never built twice; a changed script never needs a build, because a job brings its source.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.settings import BuildSettings, build_settings, data_path

REPOSITORY = "launcher-job"
_NOT_CONTENT = {"wheels", "__pycache__", "make-base-image", ".dockerignore"}
_SHOWN_LINES = 15
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
    settings = build_settings()
    docker = shutil.which("docker")
    if docker is None:
        raise RuntimeUnavailableError(
            f"the image {tag} has to be built, and there is no docker command to do it.",
            'Install the Docker client with its buildx plugin, or run as a process: runtime="process".',
        )
    with tempfile.TemporaryDirectory(prefix="launcher-build-") as scratch:
        context = Path(scratch)
        _fill_context(context, settings)
        command = [*_build_command(docker), "--tag", tag, "--build-arg", f"BASE_IMAGE={settings.base_image}"]
        command += ["--build-arg", f"TORCH_INDEX_URL={settings.torch_index_url}"]
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
