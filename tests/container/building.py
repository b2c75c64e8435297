"""A build context for the image, with this machine's certificates and wheels if it has any."""

import os
import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def copy_container(target: Path) -> Path:
    """Copy ``container/`` as the launcher's builder would: wheels of the host beside the Dockerfile."""
    shutil.copytree(CHECKOUT / "container", target, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in os.environ.get("LAUNCHER_BUILD_WHEELS", "").split():
        for wheel in Path(folder).glob("*.whl"):
            shutil.copy(wheel, target / "wheels")
    return target


def base_image() -> str:
    return os.environ.get("LAUNCHER_BASE_IMAGE") or "python:3.11-slim-bookworm"


def build(context: Path, tag: str, ca_bundle: str | None = None) -> None:
    """Build with BuildKit; a failure shows the end of its output."""
    ca_bundle = ca_bundle or os.environ.get("LAUNCHER_BUILD_CA")
    secret = ["--secret", f"id=ca,src={ca_bundle}"] if ca_bundle else []
    index = ["--build-arg", f"TORCH_INDEX_URL={url}"] if (url := os.environ.get("TORCH_INDEX_URL")) else []
    result = subprocess.run(
        [
            *("docker", "build", "--progress", "plain", "--tag", tag, *secret, *index),
            *("--build-arg", f"BASE_IMAGE={base_image()}", str(context)),
        ],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def remove_image(tag: str) -> None:
    subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=False)
