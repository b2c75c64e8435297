"""What the platform tells a job: hyperparameters, channels, hosts; and the ``SM_*`` variables made of it."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from job_toolkit.paths import JobPaths, job_paths

# A value as JSON gives it. A recursive alias would say more, but nothing here looks deeper than one level.
JsonValue = object

# logging.INFO, without the 10 ms that importing logging takes.
LOG_LEVEL_INFO = 20

PLATFORM_PREFIX = "sagemaker_"
# Not meant for the script either, though its name lacks the prefix: a tuning job adds it.
PLATFORM_NAMES = frozenset({"_tuning_objective_metric"})

# The platform hyperparameters that have a use of their own; the others are framework parameters.
_SCRIPT_MODE_NAMES = frozenset(
    {
        "_tuning_objective_metric",
        "sagemaker_container_log_level",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_job_name",
        "sagemaker_program",
        "sagemaker_region",
        "sagemaker_s3_output",
        "sagemaker_submit_directory",
    }
)

# By any of these the SDK asks for a way of training over several hosts.
TORCH_DISTRIBUTED = "sagemaker_torch_distributed_enabled"
_DISTRIBUTIONS = (
    TORCH_DISTRIBUTED,
    *("sagemaker_mpi_enabled", "sagemaker_parameter_server_enabled", "sagemaker_distributed_dataparallel_enabled"),
    *("sagemaker_pytorch_ddp_enabled", "sagemaker_pytorch_xla_multi_worker_enabled"),
    "sagemaker_multi_worker_mirrored_strategy_enabled",
)


class JobInputError(Exception):
    """Something the platform or the user gave this job is missing or unusable; the text says what to do."""

    exit_code = 2


class JobEnvironment(NamedTuple):
    """One job as its own container sees it.

    Attributes:
        job_name: empty where the platform does not tell.
        hyperparameters: the script's own, decoded: "3" is 3, "1e-3" is 0.001, "true" is True, and whatever
            is not a JSON value ("007", "adam", "NaN") stays the text it is.
        platform_hyperparameters: those whose names start with ``sagemaker_``, decoded likewise.
        channels: name -> folder (a FIFO's stem for a Pipe channel); sorted by name.
        hosts: sorted; ``current_host`` is one of them.
        input_data_config: content of ``inputdataconfig.json``.
        resource_config: content of ``resourceconfig.json``.
    """

    job_name: str
    hyperparameters: dict[str, JsonValue]
    platform_hyperparameters: dict[str, JsonValue]
    channels: dict[str, Path]
    hosts: tuple[str, ...]
    current_host: str
    network_interface_name: str
    input_data_config: dict[str, JsonValue]
    resource_config: dict[str, JsonValue]
    paths: JobPaths

    def channel(self, name: str) -> Path:
        """Return the folder of an input channel.

        Raises:
            JobInputError: the job has no such channel, or its folder is not there.
        """
        if name not in self.channels:
            existing = ", ".join(self.channels) or "none"
            raise JobInputError(
                f"this job has no channel {name!r}; its channels are: {existing}. "
                f"Name it when you start the job: fit({{{name!r}: ...}})."
            )
        folder = self.channels[name]
        if not folder.is_dir():
            raise JobInputError(f"channel {name!r}: {folder} is not there, although the job lists the channel.")
        return folder


def read_environment() -> JobEnvironment:
    """Read the configuration files of this job.

    A missing file counts as empty, so that an image can be tried by hand with a bare tree.

    Raises:
        JobInputError: a file cannot be read or does not hold a JSON object.
    """
    paths = job_paths()
    all_hyperparameters = {
        name: decode_hyperparameter(value)
        for name, value in _read_object(paths.input_config / "hyperparameters.json").items()
    }
    platform = {name: value for name, value in all_hyperparameters.items() if _is_platform_name(name)}
    own = {name: value for name, value in all_hyperparameters.items() if name not in platform}
    input_data_config = _read_object(paths.input_config / "inputdataconfig.json")
    resource_config = _read_object(paths.input_config / "resourceconfig.json")
    current_host = str(resource_config.get("current_host") or "algo-1")
    return JobEnvironment(
        job_name=os.environ.get("TRAINING_JOB_NAME") or str(platform.get("sagemaker_job_name") or ""),
        hyperparameters=own,
        platform_hyperparameters=platform,
        channels={name: paths.input_data / name for name in sorted(input_data_config)},
        hosts=_read_hosts(resource_config, current_host),
        current_host=current_host,
        network_interface_name=str(resource_config.get("network_interface_name") or "eth0"),
        input_data_config=input_data_config,
        resource_config=resource_config,
        paths=paths,
    )


def decode_hyperparameter(value: JsonValue) -> JsonValue:
    """Return what a hyperparameter means: its JSON value, or the text itself where it is not JSON.

    SageMaker sends every hyperparameter as a string: "1e-3" must come out a float, "007" must stay text.
    """
    if not isinstance(value, str):
        return value
    try:
        decoded: JsonValue = json.loads(value, parse_constant=_refuse_constant, parse_float=_finite_float)
    # RecursionError: hundreds of opening brackets; ValueError also covers integers of thousands of digits.
    except (ValueError, RecursionError):
        return value
    return decoded


def script_arguments(hyperparameters: Mapping[str, JsonValue]) -> list[str]:
    """Return the command line that the official toolkit makes of hyperparameters: ``--name value``, sorted.

    Raises:
        JobInputError: a value cannot be passed to a program at all (it holds a NUL character).
    """
    arguments: list[str] = []
    for name in sorted(hyperparameters):
        value = hyperparameters[name]
        if isinstance(value, dict):
            text = ",".join(f"{key}={item}" for key, item in sorted(value.items()))
        else:
            text = "" if value is None else str(value)
        _check_passable(name, name)
        _check_passable(name, text)
        arguments += [f"--{name}" if len(name) > 1 else f"-{name}", text]
    return arguments


def script_variables(environment: JobEnvironment, program: str) -> dict[str, str]:
    """Return the environment variables that the official training toolkit sets for a script.

    Args:
        environment: the job.
        program: the entry point, relative to the code folder.

    Raises:
        JobInputError: a hyperparameter cannot be passed to a program at all (it holds a NUL character).
    """
    paths = environment.paths
    platform = environment.platform_hyperparameters
    resource_config = environment.resource_config
    groups = instance_groups(resource_config)
    group_name = str(resource_config.get("current_group_name") or "homogeneousCluster")
    current_group = groups.get(group_name, {})
    region = str(platform.get("sagemaker_region") or os.environ.get("AWS_REGION") or "")
    described: dict[str, JsonValue] = {
        "current_host": environment.current_host,
        "current_instance_group": group_name,
        "current_instance_group_hosts": current_group.get("hosts", []),
        "current_instance_type": resource_config.get("current_instance_type") or "local",
        "distribution_instance_groups": distribution_groups(environment),
        "framework_module": os.environ.get("SAGEMAKER_TRAINING_MODULE"),
        "hosts": list(environment.hosts),
        "input_config_dir": str(paths.input_config),
        "input_data_config": environment.input_data_config,
        "input_dir": str(paths.base / "input"),
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "log_level": platform.get("sagemaker_container_log_level", LOG_LEVEL_INFO),
        "model_dir": str(paths.model),
        "module_dir": platform.get("sagemaker_submit_directory") or str(paths.code),
        "module_name": program.removesuffix(".py"),
        "network_interface_name": environment.network_interface_name,
        "num_cpus": count_cpus(),
        "num_gpus": count_gpus(),
        "output_data_dir": str(paths.output_data),
        "output_dir": str(paths.output),
        "output_intermediate_dir": str(paths.intermediate),
        "resource_config": resource_config,
        "user_entry_point": program,
    }
    framework = {name: value for name, value in platform.items() if name not in _SCRIPT_MODE_NAMES}
    training_env = described | {
        "additional_framework_parameters": framework,
        "channel_input_dirs": {name: str(folder) for name, folder in environment.channels.items()},
        "hyperparameters": environment.hyperparameters,
        "is_master": environment.current_host == environment.hosts[0],
        "job_name": environment.job_name,
        "master_hostname": environment.hosts[0],
    }
    values = {f"SM_{name.upper()}": value for name, value in described.items()}
    values |= {
        "SM_CHANNELS": list(environment.channels),
        "SM_FRAMEWORK_PARAMS": framework,
        "SM_HPS": environment.hyperparameters,
        "SM_TRAINING_ENV": training_env,
        "SM_USER_ARGS": script_arguments(environment.hyperparameters),
        "CURRENT_HOST": environment.current_host,
        "SAGEMAKER_JOB_NAME": environment.job_name,
        "SAGEMAKER_REGION": region,
    }
    values |= {f"SM_CHANNEL_{name.upper()}": str(folder) for name, folder in environment.channels.items()}
    values |= {f"SM_HP_{name.upper()}": value for name, value in environment.hyperparameters.items()}
    # "=" cannot stand in a variable's name; such a hyperparameter is still in SM_HPS and in the arguments.
    return {name: _variable_text(name, value) for name, value in values.items() if "=" not in name}


def distribution_groups(environment: JobEnvironment) -> list[str]:
    """Return the instance groups whose hosts train together: those that the job names, else this host's own, if any."""
    platform = environment.platform_hyperparameters
    named = platform.get("sagemaker_distribution_instance_groups")
    if isinstance(named, list) and named:
        return [str(name) for name in named]
    own = str(environment.resource_config.get("current_group_name") or "homogeneousCluster")
    return [own] if any(platform.get(name) is True for name in _DISTRIBUTIONS) else []


def count_cpus() -> int:
    """Return how many CPUs this process may run on (a cpuset counts, a CPU quota does not)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """Return how many NVIDIA devices this job may use; looks at ``/dev`` so that it costs nothing."""
    present = sum(1 for device in Path("/dev").glob("nvidia*") if device.name[len("nvidia") :].isdigit())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    # As CUDA reads it: up to the first that is no device.
    names = [name.strip() for name in visible.split(",")]
    return min(present, next((count for count, name in enumerate(names) if name in ("", "-1")), len(names)))


def _is_platform_name(name: str) -> bool:
    return name.startswith(PLATFORM_PREFIX) or name in PLATFORM_NAMES


def _read_object(path: Path) -> dict[str, JsonValue]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise JobInputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise JobInputError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


def _read_hosts(resource_config: dict[str, JsonValue], current_host: str) -> tuple[str, ...]:
    hosts = resource_config.get("hosts")
    if not isinstance(hosts, list) or not hosts:
        return (current_host,)
    return tuple(sorted(str(host) for host in hosts))


def instance_groups(resource_config: dict[str, JsonValue]) -> dict[str, dict[str, JsonValue]]:
    """Return the instance groups of ``resourceconfig.json`` by their names."""
    groups = resource_config.get("instance_groups")
    if not isinstance(groups, list):
        return {}
    return {str(group.get("instance_group_name")): group for group in groups if isinstance(group, dict)}


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is larger than any float")
    return number


def _variable_text(name: str, value: JsonValue) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    _check_passable(name, text)
    return text


def _check_passable(name: str, text: str) -> None:
    """Refuse what no operating system passes to a program; everything else arrives as it is."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise JobInputError(f"hyperparameter {name!r} is not valid Unicode: {error}") from error
    if b"\0" in encoded:
        raise JobInputError(f"hyperparameter {name!r} holds a NUL character, which no program can receive.")
