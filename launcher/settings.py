"""Where things are and what the environment says; the only module that reads the launcher's own variables."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from launcher.aws_domains import is_aws_host
from launcher.errors import SettingsError
from launcher.paths import checked_path

RUNTIME_NAMES = ("auto", "docker", "process", "slurm")
# The group of entry points by which another package offers a runtime: name = "module:Class".
RUNTIME_ENTRY_POINTS = "launcher.runtimes"
MODE_NAMES = ("local", "s3")
AWS_MODE = "aws"  # jobs run on AWS itself, which costs money: said where the job is, never by a variable
DEFAULT_BASE_IMAGE = "python:3.11-slim-bookworm"
REGION = "us-east-1"
ACCOUNT_ID = "000000000000"
LOCAL_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/launcher-local"
# What a plan shows; where the embedded S3 asks for its key, the job gets the key when it is started.
LOCAL_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "launcher"}
# As the SageMaker SDK names the bucket that it makes for an account.
DEFAULT_BUCKET = f"sagemaker-{REGION}-{ACCOUNT_ID}"
DISTRIBUTION = "sagemaker-launcher"
# What runs as the server of the embedded S3, with the rest of the local AWS on the same port. By name: rooms that start
# it are above the one that it is in.
LOCAL_AWS_MODULE = "launcher.aws.server"
# PyTorch's index of builds without CUDA, whose gigabytes nothing here uses by default.
CPU_TORCH_INDEX_URL = "https://download.pytorch.org/whl/cpu"


_WARM_LIBRARIES = ("numpy", "torch", "gymnasium", "pandas", "yaml")
_UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}
# How jobs run, wherever they do; what says where files and programs are has no meaning on another machine.
_JOB_VARIABLES = (
    *("LAUNCHER_FAULTS", "LAUNCHER_GPUS", "LAUNCHER_NAMESPACES", "LAUNCHER_SHM_SIZE", "LAUNCHER_SPOT_INTERRUPTIONS"),
    *("LAUNCHER_SPOT_PRICE", "LAUNCHER_STOP_GRACE_SECONDS", "LAUNCHER_ULIMITS", "SOURCE_DATE_EPOCH"),
)
ULIMITS = ("core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "rss", "rtprio", "stack")


def training_job_arn(name: str) -> str:
    """Return the ARN that the local account gives a training job."""
    return local_arn("training-job", name)


def local_arn(kind: str, name: str, service: str = "sagemaker") -> str:
    """Return the ARN that the local account gives a thing of a service's, such as a ``transform-job``."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{kind}/{name}"


def default_home() -> Path | None:
    """Return ``~/.launcher``, which holds every job where ``LAUNCHER_HOME`` names no folder; None without HOME."""
    user_home = os.environ.get("HOME", "")
    return Path(os.path.abspath(Path(user_home, ".launcher"))) if user_home else None  # noqa: PTH100


def home_path() -> Path:
    """Return the folder that holds every job: ``LAUNCHER_HOME``, else ``~/.launcher``. It need not exist yet.

    Raises:
        SettingsError: neither ``LAUNCHER_HOME`` nor ``HOME`` is set, or the path is a file, too long, or not readable.
    """
    configured = os.environ.get("LAUNCHER_HOME", "")
    user_home = os.environ.get("HOME", "")
    if not configured and not user_home:
        raise SettingsError(
            "no home for jobs: neither LAUNCHER_HOME nor HOME is set.",
            "Name a folder, for example: export LAUNCHER_HOME=/tmp/launcher",
        )
    path = checked_path(configured or Path(user_home, ".launcher"), "LAUNCHER_HOME", SettingsError)
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links that the user set up on purpose
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path  # the first write names the obstacle
    except OSError as error:
        raise SettingsError(
            f"LAUNCHER_HOME is {path}, which cannot be looked at: {error.strerror}.", f"Check: ls -ld {path.parent}"
        ) from error
    if not stat.S_ISDIR(mode):
        raise SettingsError(
            f"LAUNCHER_HOME is {path}, which is a file.", "Name a folder; it is made when it is first needed."
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise SettingsError(
            f"LAUNCHER_HOME is {path}, which you may not look into.",
            f"Check: ls -ld {path}; or name another: export LAUNCHER_HOME=/path/to/folder",
        )
    return path


def default_runtime() -> str:
    """Return the runtime that ``LAUNCHER_RUNTIME`` names, else ``auto``.

    Raises:
        SettingsError: the variable names no runtime.
    """
    name = os.environ.get("LAUNCHER_RUNTIME", "") or "auto"
    if name in RUNTIME_NAMES:
        return name
    from importlib.metadata import entry_points  # slow to load, and only needed for names that are not our own

    names = sorted({*RUNTIME_NAMES, *(entry.name for entry in entry_points(group=RUNTIME_ENTRY_POINTS))})
    if name not in names:
        raise SettingsError(f"LAUNCHER_RUNTIME is {name!r}, which is no runtime.", f"Use one of: {', '.join(names)}.")
    return name


def launcher_host() -> str:
    """Return what ``LAUNCHER_HOST`` says of the machine that training jobs run on; empty for this machine."""
    return os.environ.get("LAUNCHER_HOST", "")


def ssh_command() -> list[str]:
    """Return the ssh client with the caller's own options: ``LAUNCHER_SSH``, as a shell splits it, else ``ssh``.

    Raises:
        SettingsError: the variable has a quotation mark too few.
    """
    text = os.environ.get("LAUNCHER_SSH", "")
    try:
        return shlex.split(text) or ["ssh"]
    except ValueError as error:
        raise SettingsError(f"LAUNCHER_SSH is {text!r}: {error}.", "For example: ssh -F /path/to/config") from error


def job_variables() -> dict[str, str]:
    """Return the variables that say how jobs run, and that go with them to another machine."""
    return {name: value for name in _JOB_VARIABLES if (value := os.environ.get(name))}


def default_mode() -> str:
    """Return the mode that ``LAUNCHER_MODE`` names, else ``local``.

    Raises:
        SettingsError: the variable names no mode.
    """
    name = os.environ.get("LAUNCHER_MODE", "") or "local"
    if name == AWS_MODE:
        raise SettingsError(
            "LAUNCHER_MODE is 'aws', and a variable sends no job to AWS.",
            'Say it where the job is: Session(mode="aws", default_bucket=...), or launcher fit --mode aws --bucket ...',
        )
    if name not in MODE_NAMES:
        raise SettingsError(f"LAUNCHER_MODE is {name!r}, which is no mode.", f"Use one of: {', '.join(MODE_NAMES)}.")
    return name


def stop_grace_seconds() -> float:
    """Return the time between SIGTERM and SIGKILL: SageMaker's 120 s, or ``LAUNCHER_STOP_GRACE_SECONDS``.

    Raises:
        SettingsError: the variable is no number of seconds.
    """
    return _seconds("LAUNCHER_STOP_GRACE_SECONDS", 120)


def source_date_epoch() -> int | None:
    """Return the latest time that a file in an archive of results has: ``SOURCE_DATE_EPOCH``; None keeps all times.

    With it, files of the same content make the same archive, as in reproducible builds.

    Raises:
        SettingsError: the variable is no number of seconds since 1970.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not (text.isascii() and text.isdigit() and int(text) < 1 << 33):
        raise SettingsError(f"SOURCE_DATE_EPOCH is {text!r}, which is no number of seconds since 1970.", "Unset it.")
    return int(text) if text else None


def jobs_at_once() -> str:
    """Return how many jobs of a home run at once: ``auto``, ``machine``, ``all``, or a number above 0.

    Raises:
        SettingsError: ``LAUNCHER_JOBS_AT_ONCE`` is none of these.
    """
    text = os.environ.get("LAUNCHER_JOBS_AT_ONCE", "") or "auto"
    if text in ("auto", "machine", "all") or (text.isascii() and text.isdigit() and int(text) > 0):
        return text
    raise SettingsError(
        f"LAUNCHER_JOBS_AT_ONCE is {text!r}.", "Use a number, 'auto', 'machine' (what instance types ask for) or 'all'."
    )


def spot_interruptions() -> tuple[str, ...]:
    """Return when spot jobs are interrupted: the entries of ``LAUNCHER_SPOT_INTERRUPTIONS``, with ``;`` between."""
    return tuple(text.strip() for text in os.environ.get("LAUNCHER_SPOT_INTERRUPTIONS", "").split(";") if text.strip())


def planned_faults() -> tuple[str, ...]:
    """Return what happens to the hosts of jobs on purpose: the entries of ``LAUNCHER_FAULTS``, with blanks between."""
    return tuple(os.environ.get("LAUNCHER_FAULTS", "").replace(",", " ").split())


def spot_price() -> float:
    """Return what a second of a spot job costs, as a part of its price on demand: ``LAUNCHER_SPOT_PRICE``, else 1.

    Raises:
        SettingsError: the variable is no number above 0 and up to 1.
    """
    text = os.environ.get("LAUNCHER_SPOT_PRICE", "") or "1"
    try:
        price = float(text)
    except ValueError:
        price = 0.0
    if not 0 < price <= 1:
        raise SettingsError(
            f"LAUNCHER_SPOT_PRICE is {text!r}, which is no part of a price.", "For example 0.3, or unset it."
        )
    return price


def s3_idle_seconds() -> float:
    """Return how long the embedded S3's server stays up unused: 15 minutes, or ``LAUNCHER_S3_IDLE_SECONDS``.

    Raises:
        SettingsError: the variable is no number of seconds.
    """
    return _seconds("LAUNCHER_S3_IDLE_SECONDS", 900)


def s3_access() -> Literal["any", "key"]:
    """Return whether the embedded S3 asks for its key on the loopback address: ``LAUNCHER_ACCESS``, else ``any``.

    Raises:
        SettingsError: the variable has another value.
    """
    match os.environ.get("LAUNCHER_ACCESS", "") or "any":
        case "any":
            return "any"
        case "key":
            return "key"
        case text:
            raise SettingsError(
                f"LAUNCHER_ACCESS is {text!r}, which is no kind of access.",
                "Use 'key', which asks for the key of this home on the loopback address too, or unset it.",
            )


def aws_names() -> Literal["local"] | None:
    """Return ``LAUNCHER_AWS_NAMES``: whether AWS's names lead to the local AWS inside a job; None where they do not.

    Raises:
        SettingsError: it is no such word.
    """
    value = os.environ.get("LAUNCHER_AWS_NAMES") or "real"
    if value not in ("local", "real"):
        raise SettingsError(
            f"LAUNCHER_AWS_NAMES is {value!r}.",
            "Use 'local': AWS's names lead to the local AWS in jobs; or 'real': they lead where they always do.",
        )
    return "local" if value == "local" else None


def _seconds(variable: str, default: int) -> float:
    text = os.environ.get(variable, "") or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(f"{variable} is {text!r}, which is no number of seconds.", "Unset it.")
    return seconds


def cache_folder() -> Path:
    """Return the folder of inputs that were fetched from S3 before; it need not exist yet."""
    return home_path() / "cache"


def cache_bytes() -> int:
    """Return what all cached inputs together may take: 10 GiB, or ``LAUNCHER_CACHE_BYTES``; 0 keeps none.

    Raises:
        SettingsError: the variable is no number of bytes.
    """
    text = os.environ.get("LAUNCHER_CACHE_BYTES", "") or str(10 << 30)
    if not text.isascii() or not text.isdigit():
        raise SettingsError(
            f"LAUNCHER_CACHE_BYTES is {text!r}, which is no number of bytes.", "For example 10737418240, or unset it."
        )
    return int(text)


def warm_libraries() -> list[str]:
    """Return what a warm pool loads before it is asked for a job: ``LAUNCHER_WARM_LIBRARIES``, with blanks between.

    By default what the bundled programs use; a library that is not installed is left out.
    """
    text = os.environ.get("LAUNCHER_WARM_LIBRARIES")
    return list(_WARM_LIBRARIES) if text is None else text.replace(",", " ").split()


def warm_pool_limit() -> int:
    """Return how many warm pools a home may have: 2, or ``LAUNCHER_WARM_POOLS``; 0 keeps none.

    Raises:
        SettingsError: the variable is no number.
    """
    text = os.environ.get("LAUNCHER_WARM_POOLS", "") or "2"
    if not text.isascii() or not text.isdigit():
        raise SettingsError(f"LAUNCHER_WARM_POOLS is {text!r}, which is no number of pools.", "Unset it, for 2.")
    return int(text)


class SlurmSettings(NamedTuple):
    """How jobs are placed on a Slurm cluster; what is empty is left to the cluster.

    Attributes:
        partition: several with ``,`` between.
        account: that pays.
        qos: quality of service.
        options: further words for sbatch.
        containers: the engine that runs images on the nodes, with options of its own.
    """

    partition: str
    account: str
    qos: str
    options: tuple[str, ...]
    containers: tuple[str, ...] = ()


def slurm_settings() -> SlurmSettings:
    """Read ``LAUNCHER_SLURM_PARTITION``, ``_ACCOUNT``, ``_QOS``, else sbatch's; ``_OPTIONS`` and ``_CONTAINERS``.

    Raises:
        SettingsError: a value cannot be read.
    """
    values = []
    for name in ("PARTITION", "ACCOUNT", "QOS"):
        value = os.environ.get(f"LAUNCHER_SLURM_{name}") or os.environ.get(f"SBATCH_{name}", "")
        if value.startswith("-") or value.split() != [value][: bool(value)]:
            raise SettingsError(f"LAUNCHER_SLURM_{name} is {value!r}, which is no name.", "Unset it, or see: sinfo")
        values.append(value)
    options, containers = _words("LAUNCHER_SLURM_OPTIONS"), _words("LAUNCHER_SLURM_CONTAINERS")
    if containers and Path(containers[0]).name != "podman":
        raise SettingsError(
            f"LAUNCHER_SLURM_CONTAINERS is {shlex.join(containers)!r}: the launcher starts containers on nodes by "
            f"podman alone, and not by {Path(containers[0]).name}.",
            "Set it to podman, or unset it and run without an image; docs/slurm.md says what the nodes need.",
        )
    return SlurmSettings(values[0], values[1], values[2], options, containers)


def _words(name: str) -> tuple[str, ...]:
    text = os.environ.get(name, "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}: {error}.", "Write words as for a shell.") from error


def namespaces_wanted() -> bool:
    """Return whether process jobs get namespaces where the kernel allows it; ``LAUNCHER_NAMESPACES=off`` says no."""
    return os.environ.get("LAUNCHER_NAMESPACES", "") != "off"


def host_networks_wanted() -> bool:
    """Return whether hosts that are processes get a network of their own; ``LAUNCHER_HOST_NETWORKS=off`` says no."""
    return os.environ.get("LAUNCHER_HOST_NETWORKS", "") != "off"


class LaunchSettings(NamedTuple):
    """What the caller lends to every job, or takes from it.

    Attributes:
        gpus: the NVIDIA devices that jobs may use; empty for none, None for all that are there.
        shm_bytes: the size of a container's ``/dev/shm``; 0 for the runtime's own.
        ulimits: ``NAME=SOFT:HARD``.
        mounts: folders and files that jobs see besides: here, in the job, and whether it may only read.
    """

    gpus: tuple[int, ...] | None
    shm_bytes: int
    ulimits: tuple[str, ...]
    mounts: tuple[tuple[str, str, bool], ...]


def launch_settings() -> LaunchSettings:
    """Read ``LAUNCHER_GPUS``, ``LAUNCHER_SHM_SIZE``, ``LAUNCHER_ULIMITS`` and ``LAUNCHER_MOUNTS``.

    Raises:
        SettingsError: one of them cannot be read, or a mount's source is not there.
    """
    return LaunchSettings(_gpus(), _bytes_of("LAUNCHER_SHM_SIZE"), _ulimits(), _mounts())


def _gpus() -> tuple[int, ...] | None:
    text = os.environ.get("LAUNCHER_GPUS", "").strip()
    if not text:
        return None
    if text == "none":
        return ()
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise SettingsError(f"LAUNCHER_GPUS is {text!r}.", "Write numbers of devices, such as 0 or 1,3; or none.")
    return tuple(dict.fromkeys(int(number) for number in numbers))


def _bytes_of(variable: str) -> int:
    text = os.environ.get(variable, "").strip().lower()
    digits = text.rstrip("kmgbi")
    unit = text[len(digits) :]
    if not text:
        return 0
    if not digits.isdecimal() or unit not in _UNITS:
        raise SettingsError(f"{variable} is {text!r}, which is no size.", "For example: 2g, 512m, or bytes.")
    return int(digits) << _UNITS[unit]


def _ulimits() -> tuple[str, ...]:
    ulimits = []
    for text in os.environ.get("LAUNCHER_ULIMITS", "").replace(",", " ").split():
        name, separator, values = text.partition("=")
        soft, _, hard = values.partition(":")
        if name not in ULIMITS or not separator or not all(_is_limit(value) for value in (soft, hard or soft)):
            raise SettingsError(
                f"LAUNCHER_ULIMITS has {text!r}, which is no limit.",
                f"Write NAME=SOFT or NAME=SOFT:HARD, -1 for none; names are {', '.join(ULIMITS)}.",
            )
        ulimits.append(f"{name}={soft}:{hard or soft}")
    return tuple(ulimits)


def _is_limit(text: str) -> bool:
    return text == "-1" or text.isdecimal()


def _mounts() -> tuple[tuple[str, str, bool], ...]:
    mounts = []
    for text in os.environ.get("LAUNCHER_MOUNTS", "").split(";"):
        if not text.strip():
            continue
        parts = text.strip().split(":")
        mode = parts.pop() if len(parts) == 3 else "ro"
        if len(parts) != 2 or mode not in ("ro", "rw") or not all(part.startswith("/") for part in parts):
            raise SettingsError(
                f"LAUNCHER_MOUNTS has {text!r}, which is no mount.",
                "Write /path/here:/path/in/the/job, with :rw at its end for one to write to; several with ';' between.",
            )
        if not Path(parts[0]).exists():
            raise SettingsError(f"LAUNCHER_MOUNTS names {parts[0]}, which is not there.", "Make it, or leave it out.")
        mounts.append((os.path.normpath(parts[0]), os.path.normpath(parts[1]), mode == "ro"))
    return tuple(mounts)


def data_path(name: str) -> Path:
    """Return the folder ``container``, ``entrypoints``, ``presets`` or ``docs`` that belongs to this installation.

    ``LAUNCHER_CONTAINER_DIR``, ``LAUNCHER_ENTRYPOINTS_DIR`` and ``LAUNCHER_PRESETS_DIR`` name folders of one's own.
    A wheel has them inside the package; in a checkout they are beside it.

    Raises:
        SettingsError: the folder is not there.
    """
    variable = f"LAUNCHER_{name.upper()}_DIR"
    configured = os.environ.get(variable, "")
    candidates = (Path(configured).expanduser().resolve(),) if configured else _own_places(name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise SettingsError(
        f"the folder '{name}' was not found at {' or '.join(map(str, candidates))}.",
        f"Point {variable} at it, or install the package again.",
    )


@cache
def _own_places(name: str) -> tuple[Path, ...]:
    """Return where this installation may have a folder; every job asks several times, and they do not move."""
    package = Path(__file__).resolve().parent
    return (package / "_data" / name).resolve(), (package.parent / name).resolve()


class S3Settings(NamedTuple):
    """Which S3 the ``s3://`` URIs mean. Credentials are no part of it: boto3 finds them where it always does.

    Attributes:
        kind: ``embedded``, the launcher's own; ``endpoint``, another one with an address; ``aws``, the real one.
        endpoint_url: the address; None for the embedded one, whose port is known when it runs, and for AWS itself.
        region: None leaves it to boto3 and the profile.
        profile: a profile of the AWS configuration files; None leaves it to boto3.
        aws_names: ``local`` where AWS's names lead to the local AWS inside the job, with the embedded S3 alone.
    """

    kind: Literal["embedded", "endpoint", "aws"]
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    aws_names: Literal["local"] | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return plain fields, for a job's record."""
        values = self._asdict()
        if self.aws_names is None:  # older versions do not know it
            del values["aws_names"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> S3Settings:
        """Return the settings that ``to_dict`` wrote."""
        return cls(**values)

    @property
    def place(self) -> str:
        """The S3 in a few words, for messages: its address, or ``AWS``."""
        return self.endpoint_url or {"embedded": "the embedded S3", "aws": "AWS"}.get(self.kind, self.kind)


def s3_settings(endpoint_url: str | None = None) -> S3Settings:
    """Return which S3 is meant: the argument, else ``LAUNCHER_S3_ENDPOINT``, else boto3's settings, else our own.

    Only the word ``aws`` leads to real AWS.

    Args:
        endpoint_url: ``embedded``, ``aws`` or a URL. Default: ``LAUNCHER_S3_ENDPOINT``, which takes the same, then
            ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL``.
    Raises:
        SettingsError: the value is neither one of the words nor a URL, or a URL of AWS.
    """
    configured = [
        (name, os.environ[name]) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if os.environ.get(name)
    ]
    candidates = [
        ("s3_endpoint_url", endpoint_url),
        ("LAUNCHER_S3_ENDPOINT", os.environ.get("LAUNCHER_S3_ENDPOINT")),
        *configured,
    ]
    variable, value = next(((variable, value) for variable, value in candidates if value), ("", "embedded"))
    if value == "embedded":
        return S3Settings("embedded", region=REGION, aws_names=aws_names())
    region, profile = aws_region(), aws_profile()
    if value == "aws" and not variable.startswith("AWS_"):
        # A private endpoint of AWS (PrivateLink) still counts; an address elsewhere would not be AWS.
        private = next((url for _, url in configured if is_aws_host(urlsplit(url).hostname or "")), None)
        return S3Settings("aws", private, region, profile)
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(
            f"{variable} is {value!r}, which is no endpoint of S3.",
            "Use 'embedded', 'aws' or a URL, for example http://127.0.0.1:9000",
        )
    if is_aws_host(parts.hostname or ""):
        raise SettingsError(
            f"{variable} is {value}, which is real AWS.",
            "AWS is only used when it is asked for by name: export LAUNCHER_S3_ENDPOINT=aws",
        )
    return S3Settings("endpoint", value.rstrip("/"), region, profile)


def aws_region() -> str | None:
    """Return the region that boto3's own variables name; None where they name none."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None


def aws_profile() -> str | None:
    """Return the profile that boto3's own variable names; None where it names none."""
    return os.environ.get("AWS_PROFILE") or None


def aws_endpoint_url(service: str) -> str | None:
    """Return the address that boto3's own variables name for a service of AWS; None where they name none.

    Args:
        service: as boto3 names it, such as ``sagemaker``.
    """
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    names = (f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}", "AWS_ENDPOINT_URL")
    return next((os.environ[name].rstrip("/") for name in names if os.environ.get(name)), None)


class BuildSettings(NamedTuple):
    """What the host lends to the build of the image; none of it ends up inside.

    Attributes:
        base_image: the image that the Dockerfile starts from.
        ca_bundle: extra CA certificates for downloads during the build.
        wheel_folders: folders of wheels that pip may install from.
        torch_index_url: an extra package index that offers the wanted build of torch; empty for none.
    """

    base_image: str
    ca_bundle: Path | None
    wheel_folders: tuple[Path, ...]
    torch_index_url: str


def torch_index_url() -> str:
    """Return the index that torch comes from: ``TORCH_INDEX_URL``, which may be empty for none, else its CPU builds."""
    return os.environ.get("TORCH_INDEX_URL", CPU_TORCH_INDEX_URL)


def install_command(extra: str) -> str:
    """Return the command that gives this interpreter what an extra of this distribution needs, for a shell."""
    container = data_path("container")
    checkout = container.parent if (container.parent / "pyproject.toml").is_file() else None
    packages = ["--editable", f"{checkout}[{extra}]"] if checkout else [f"{DISTRIBUTION}[{extra}]"]
    # torch has an index of its own; macOS has no other builds than those without CUDA.
    needs_index = extra == "rl" and sys.platform == "linux"
    index = ["--extra-index-url", url] if needs_index and (url := torch_index_url()) else []
    constraint = ["--constraint", str(container / "constraints.txt")]
    return shlex.join([sys.executable, "-m", "pip", "install", *constraint, *index, *packages])


_PIP_VARIABLES = {
    "cert": "PIP_CERT",
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "find-links": "PIP_FIND_LINKS",
}


def pip_settings() -> dict[str, str]:
    """Return what pip's own files of settings say of certificates and indexes, by pip's variables; those win."""
    from configparser import ConfigParser
    from configparser import Error as ConfigError

    home = Path(os.environ.get("HOME") or "/nonexistent")
    files: list[str | Path] = [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        home / ".pip/pip.conf",
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        *([path] if (path := os.environ.get("PIP_CONFIG_FILE", "")) else []),
    ]
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(files, encoding="utf-8")
    except (ConfigError, UnicodeDecodeError):
        return {}  # pip itself says what is wrong with them
    values: dict[str, str] = {}
    for section in ("global", "install"):
        for name, variable in _PIP_VARIABLES.items():
            if text := parser.get(section, name, fallback=""):
                values[variable] = " ".join(text.split())
    return values


def build_settings() -> BuildSettings:
    """Read ``LAUNCHER_BASE_IMAGE``, ``LAUNCHER_BUILD_CA``, ``LAUNCHER_BUILD_WHEELS`` and ``TORCH_INDEX_URL``.

    Certificates and wheel folders of pip's own variables are lent to the build as well.

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
        torch_index_url=torch_index_url(),
    )
