"""Where things are and what the environment says; the only module that reads the launcher's own variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import SettingsError

RUNTIME_NAMES = ("auto", "docker", "process")
DEFAULT_BASE_IMAGE = "python:3.11-slim-bookworm"
REGION = "us-east-1"
ACCOUNT_ID = "000000000000"
LOCAL_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/launcher-local"


def training_job_arn(name: str) -> str:
    """Return the ARN that the local account gives a training job."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:training-job/{name}"


def home_path() -> Path:
    """Return the folder that holds every job: ``LAUNCHER_HOME``, else ``~/.launcher``. It need not exist yet.

    Raises:
        SettingsError: neither ``LAUNCHER_HOME`` nor ``HOME`` is set, or the path is a file.
    """
    configured = os.environ.get("LAUNCHER_HOME", "")
    user_home = os.environ.get("HOME", "")
    if not configured and not user_home:
        raise SettingsError(
            "no home for jobs: neither LAUNCHER_HOME nor HOME is set.",
            "Name a folder, for example: export LAUNCHER_HOME=/tmp/launcher",
        )
    path = Path(configured).expanduser() if configured else Path(user_home) / ".launcher"
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links that the user set up on purpose
    if path.exists() and not path.is_dir():
        raise SettingsError(
            f"LAUNCHER_HOME is {path}, which is a file.", "Name a folder; it is made when it is first needed."
        )
    return path


def default_runtime() -> str:
    """Return the runtime that ``LAUNCHER_RUNTIME`` names, else ``auto``.

    Raises:
        SettingsError: the variable names no runtime.
    """
    name = os.environ.get("LAUNCHER_RUNTIME", "") or "auto"
    if name not in RUNTIME_NAMES:
        raise SettingsError(
            f"LAUNCHER_RUNTIME is {name!r}, which is no runtime.", f"Use one of: {', '.join(RUNTIME_NAMES)}."
        )
    return name


def stop_grace_seconds() -> float:
    """Return the time between SIGTERM and SIGKILL: SageMaker's 120 s, or ``LAUNCHER_STOP_GRACE_SECONDS``.

    Raises:
        SettingsError: the variable is no number of seconds.
    """
    return _seconds("LAUNCHER_STOP_GRACE_SECONDS", 120)


def s3_idle_seconds() -> float:
    """Return how long the embedded S3's server stays up unused: 15 minutes, or ``LAUNCHER_S3_IDLE_SECONDS``.

    Raises:
        SettingsError: the variable is no number of seconds.
    """
    return _seconds("LAUNCHER_S3_IDLE_SECONDS", 900)


def _seconds(variable: str, default: int) -> float:
    text = os.environ.get(variable, "") or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{variable} is {text!r}, which is no number of seconds.", "Unset it.")
    return seconds


def namespaces_wanted() -> bool:
    """Return whether process jobs get namespaces where the kernel allows it; ``LAUNCHER_NAMESPACES=off`` says no."""
    return os.environ.get("LAUNCHER_NAMESPACES", "") != "off"


def data_path(name: str) -> Path:
    """Return the folder ``container``, ``entrypoints`` or ``presets`` that belongs to this installation.

    ``LAUNCHER_CONTAINER_DIR``, ``LAUNCHER_ENTRYPOINTS_DIR`` and ``LAUNCHER_PRESETS_DIR`` point at one's own. A wheel
    carries the three inside the package; in a checkout they stand beside it.

    Raises:
        SettingsError: the folder is not there.
    """
    variable = f"LAUNCHER_{name.upper()}_DIR"
    configured = os.environ.get(variable, "")
    package = Path(__file__).resolve().parent
    candidates = [Path(configured).expanduser()] if configured else [package / "_data" / name, package.parent / name]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate.resolve()
    raise SettingsError(
        f"the folder '{name}' was not found at {' or '.join(str(path) for path in candidates)}.",
        f"Point {variable} at it, or install the package again.",
    )


@dataclass(frozen=True)
class BuildSettings:
    """What the host lends to the build of the image; none of it ends up inside.

    Attributes:
        base_image: the image that the Dockerfile starts from.
        ca_bundle: extra CA certificates for downloads during the build.
        wheel_folders: folders of wheels that pip may install from.
        torch_index_url: an extra package index that offers the wanted build of torch.
    """

    base_image: str
    ca_bundle: Path | None
    wheel_folders: tuple[Path, ...]
    torch_index_url: str


def build_settings() -> BuildSettings:
    """Read ``LAUNCHER_BASE_IMAGE``, ``LAUNCHER_BUILD_CA``, ``LAUNCHER_BUILD_WHEELS`` and ``TORCH_INDEX_URL``.

    Certificates and wheel folders that pip is told of by its own variables are lent to the build as well.

    Raises:
        SettingsError: a named file or folder is not there.
    """
    bundle = os.environ.get("LAUNCHER_BUILD_CA", "")
    lent_bundle = next(
        (path for name in ("PIP_CERT", "SSL_CERT_FILE") if Path(path := os.environ.get(name, "")).is_file()), ""
    )
    if bundle and not Path(bundle).is_file():
        raise SettingsError(f"LAUNCHER_BUILD_CA is {bundle}, which is no file.", "Name a PEM file, or unset it.")
    folders = tuple(Path(part) for part in os.environ.get("LAUNCHER_BUILD_WHEELS", "").split() if part)
    lent_folders = tuple(Path(part) for part in os.environ.get("PIP_FIND_LINKS", "").split() if Path(part).is_dir())
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(
                f"LAUNCHER_BUILD_WHEELS names {folder}, which is no folder.",
                "Name folders that hold wheels, separated by spaces, or unset it.",
            )
    return BuildSettings(
        base_image=os.environ.get("LAUNCHER_BASE_IMAGE", "") or DEFAULT_BASE_IMAGE,
        ca_bundle=Path(bundle or lent_bundle) if bundle or lent_bundle else None,
        wheel_folders=folders or lent_folders,
        torch_index_url=os.environ.get("TORCH_INDEX_URL", ""),
    )
