"""``docker compose`` in a copy of this checkout that belongs to an ordinary user."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.container.building import CHECKOUT, base_image, copy_container, remove_image

COMMANDS = ("collect", "train", "evaluate", "s3", "aws", "ui")
OWNER = (1000, 1000) if os.getuid() == 0 else (os.getuid(), os.getgid())


class Compose:
    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.jobs = checkout / "jobs"
        self.project = f"launcher-test-{uuid.uuid4().hex[:8]}"

    def docker(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        # Only what a user of a fresh clone has, and how this machine builds images.
        ours = {"PRESET", "HYPERPARAMETERS", "DATASET", "CHECKPOINT", "DATA", "BUCKET", "COMPOSE_PROFILES"}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        build = {"BASE_IMAGE": base_image(), "HOST_CA_BUNDLE": os.environ.get("LAUNCHER_BUILD_CA") or "/dev/null"}
        shell = {"PWD": str(self.checkout)}  # as a shell has it that stands in the checkout
        return subprocess.run(
            ["docker", *arguments],
            cwd=self.checkout,
            env={**inherited, **build, "COMPOSE_PROJECT_NAME": self.project, **shell, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=590,
            check=False,
        )

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.docker("compose", "run", "--rm", "-T", command, **variables)


@contextmanager
def compose_in(checkout: Path) -> Iterator[Compose]:
    """Give compose in a new folder with what a fresh clone has, and with image names of its own; remove the images."""
    checkout.mkdir()
    copy_container(checkout / "container")
    for folder in ("entrypoints", "launcher", "presets"):
        shutil.copytree(CHECKOUT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / ".env").write_text("PRIVATE=of this machine\n")
    (checkout / ".git").mkdir()
    compose = Compose(checkout)
    # The images of a user who works in this checkout stay what they are.
    text = (CHECKOUT / "docker-compose.yml").read_text()
    (checkout / "docker-compose.yml").write_text(text.replace("launcher-compose:", f"{compose.project}:"))
    if os.getuid() == 0:
        for path in (checkout, *checkout.rglob("*")):
            os.chown(path, *OWNER)
    try:
        yield compose
    finally:
        for command in COMMANDS:
            remove_image(f"{compose.project}:{command}")
