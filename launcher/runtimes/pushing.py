"""Puts an image of this machine's engine into a registry, from which AWS pulls it; by Docker's own logins."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.runtimes.image import REPOSITORY, build_image, image_tag

_TARGET = re.compile(
    r"(?P<registry>[^/]+)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[\w][\w.-]{0,127}))?"
)
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SHOWN_LINES = 5


def push_image(target: str, image: str = "") -> str:
    """Push an image; return the name that a request gives it.

    Args:
        target: ``REGISTRY/REPOSITORY``, with ``:TAG`` or without: then the tag says what the bundled image is made of.
        image: of the engine; default: the bundled one, which is built if it has to be.
    Raises:
        ImageError: the name has no registry, there is no such image, or the registry refused it.
        RuntimeUnavailableError: there is no docker command.
    """
    match = _TARGET.fullmatch(target)
    registry = match["registry"] if match else ""
    if match is None or not (registry == "localhost" or "." in registry or ":" in registry):
        raise ImageError(
            f"'{target}' names no registry and repository.",
            f"For example: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/{REPOSITORY}",
        )
    if shutil.which("docker") is None:
        raise RuntimeUnavailableError("there is no docker command, which pushes images.", "Install the Docker client.")
    name = target if match["tag"] else f"{target}:{image_tag().rpartition(':')[2] if not image else 'latest'}"
    tag = image or image_tag()
    if _docker("image", "inspect", tag).returncode != 0:
        if image:
            raise ImageError(f"the engine has no image '{image}'.", "See: docker images")
        with tempfile.TemporaryDirectory(prefix="launcher-push-") as scratch:
            build_image(tag, Path(scratch, "build.log"))
    for arguments in (("tag", tag, name), ("push", name)):
        answer = _docker(*arguments)
        if answer.returncode != 0:
            last = "".join(f"\n    {line}" for line in answer.stderr.strip().splitlines()[-_SHOWN_LINES:])
            raise ImageError(f"{tag} could not be pushed to {name}:{last}", _hint(registry, match["repository"]))
    return name


def architecture(image: str) -> str:
    """Return what processors an image of the engine is for, such as ``amd64``; empty where the engine does not say."""
    return _docker("image", "inspect", "--format", "{{.Architecture}}", image).stdout.strip()


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _hint(registry: str, repository: str) -> str:
    if match := _ECR.fullmatch(registry):
        login = f"aws ecr get-login-password --region {match['region']}"
        return (
            f"Log in: {login} | docker login --username AWS --password-stdin {registry}; the repository has to be "
            f"there: aws ecr create-repository --region {match['region']} --repository-name {repository}"
        )
    return f"Is it up, and are you logged in? docker login {registry}"
