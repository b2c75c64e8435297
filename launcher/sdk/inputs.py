"""What ``fit`` takes as inputs and hyperparameters, checked and turned into a job's channels and text."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import BadInputError, ChannelError, HyperparameterError, UnsupportedOptionError
from launcher.jobs.spec import CHECKPOINTS, OPT_ML, Channel, CheckpointConfig
from launcher.s3_server.names import check_key
from launcher.storage import to_uri
from launcher.storage.s3_uris import split_s3_uri

_CHANNEL_PATTERN = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_VARIABLE_PATTERN = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MAX_CHANNELS = 20
MAX_HYPERPARAMETERS = 100
MAX_HYPERPARAMETER_LENGTH = 2500
MAX_VARIABLE_LENGTH = 512
MAX_CHECKPOINT_URI_LENGTH = 1024
MAX_CHECKPOINT_PATH_LENGTH = 4096
DEFAULT_CHANNEL = "training"
_RESERVED = (
    *(f"{OPT_ML}/{name}" for name in ("code", "input", "model", "output")),
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"),
)


class TrainingInput:
    """One channel, with the arguments of the SageMaker SDK's class of that name.

    Args:
        s3_data: a path or a ``file://`` URI; the name is the SDK's.
        content_type: a MIME type that is told to the job.
        input_mode: ``File``, or None for the estimator's.
    Raises:
        UnsupportedOptionError: an option that is not emulated was given.
    """

    def __init__(
        self,
        s3_data: str | os.PathLike[str],
        distribution: str | None = None,
        compression: str | None = None,
        content_type: str | None = None,
        record_wrapping: str | None = None,
        s3_data_type: str = "S3Prefix",
        instance_groups: list[str] | None = None,
        input_mode: str | None = None,
        attribute_names: list[str] | None = None,
        target_attribute_name: str | None = None,
        shuffle_config: object | None = None,
        hub_access_config: object | None = None,
        model_access_config: object | None = None,
    ) -> None:
        for name, value, emulated, instead in (
            ("distribution", distribution, (None, "FullyReplicated"), "every host gets all of the data"),
            ("compression", compression, (None, "None"), "decompress the files before"),
            ("record_wrapping", record_wrapping, (None, "None"), "let the job read the files as they are"),
            ("s3_data_type", s3_data_type, ("S3Prefix",), "give a folder that holds just the files wanted"),
            ("instance_groups", instance_groups, (None,), "all hosts are of one group"),
            ("attribute_names", attribute_names, (None,), "let the job read the attributes it wants"),
            ("target_attribute_name", target_attribute_name, (None,), "let the job read the attribute it wants"),
            ("shuffle_config", shuffle_config, (None,), "shuffle in the job"),
            ("hub_access_config", hub_access_config, (None,), "give a local path"),
            ("model_access_config", model_access_config, (None,), "give a local path"),
        ):
            if value not in emulated:
                raise UnsupportedOptionError(
                    f"TrainingInput({name}={value!r}) is not emulated.", f"Leave it out: {instead}."
                )
        check_input_mode(input_mode, "TrainingInput")
        self.s3_data = os.fspath(s3_data) if isinstance(s3_data, os.PathLike) else s3_data
        self.content_type = content_type
        self.input_mode = input_mode

    @property
    def config(self) -> dict[str, Any]:
        """The channel as a request to SageMaker holds it, without its name."""
        source = {"S3DataType": "S3Prefix", "S3Uri": self.s3_data, "S3DataDistributionType": "FullyReplicated"}
        config: dict[str, Any] = {"DataSource": {"S3DataSource": source}}
        if self.content_type is not None:
            config["ContentType"] = self.content_type
        if self.input_mode is not None:
            config["InputMode"] = self.input_mode
        return config


Inputs = str | os.PathLike[str] | TrainingInput | Mapping[str, "str | os.PathLike[str] | TrainingInput"] | None


def check_input_mode(mode: str | None, where: str) -> None:
    """Refuse input modes other than ``File``.

    Raises:
        UnsupportedOptionError: Pipe or FastFile.
        BadInputError: no such mode.
    """
    if mode in (None, "File"):
        return
    if mode in ("Pipe", "FastFile"):
        raise UnsupportedOptionError(
            f"{where}(input_mode='{mode}') is not emulated.", "Use 'File': local data are mounted, never copied."
        )
    raise BadInputError(f"{where}(input_mode={mode!r}) is no input mode.", "Use 'File'.")


def make_channels(inputs: Inputs) -> tuple[Channel, ...]:
    """Turn what ``fit`` was given into channels; a bare path is the channel ``training``.

    Raises:
        ChannelError: a bad name, no path, too many.
        UnsupportedOptionError: a scheme that this version does not read.
    """
    if inputs is None:
        return ()
    if isinstance(inputs, str | os.PathLike | TrainingInput):
        inputs = {DEFAULT_CHANNEL: inputs}
    if not isinstance(inputs, Mapping):
        raise ChannelError(
            f"inputs are a {type(inputs).__name__}.", "Give a path, a TrainingInput, or a dict of channel to either."
        )
    if len(inputs) > MAX_CHANNELS:
        raise ChannelError(
            f"{len(inputs)} channels; SageMaker takes {MAX_CHANNELS}.", "Put some of them in one folder."
        )
    return tuple(_make_channel(name, value) for name, value in inputs.items())


def _make_channel(name: str, value: str | os.PathLike[str] | TrainingInput) -> Channel:
    if not isinstance(name, str) or not _CHANNEL_PATTERN.fullmatch(name) or name in (".", ".."):
        raise ChannelError(
            f"the channel name {name!r} is not one that SageMaker takes.",
            "Use up to 64 letters, digits, '.', '-' and '_'; it names a folder in /opt/ml/input/data.",
        )
    source = value if isinstance(value, TrainingInput) else TrainingInput(value)
    if not isinstance(source.s3_data, str):
        raise ChannelError(
            f"channel '{name}' is a {type(source.s3_data).__name__}.", "Give a path as text, or a TrainingInput."
        )
    try:
        return Channel(name=name, uri=to_uri(source.s3_data), content_type=source.content_type)
    except (ChannelError, UnsupportedOptionError) as error:
        raise type(error)(f"channel '{name}': {error.message}", error.hint) from error


def make_checkpoint_config(
    s3_uri: str | os.PathLike[str] | None, local_path: str | None = None
) -> CheckpointConfig | None:
    """Check where a job's checkpoints are kept, and where it sees them; None when they are not kept.

    Raises:
        BadInputError: no place, or a path that the job needs for something else.
    """
    if s3_uri is None:
        if local_path is not None:
            raise BadInputError(
                f"checkpoint_local_path={local_path!r} says where checkpoints are written, and nothing where they go.",
                "Give checkpoint_s3_uri as well, or leave it out.",
            )
        return None
    place = os.fspath(s3_uri) if isinstance(s3_uri, os.PathLike) else s3_uri
    if not isinstance(place, str) or len(place) > MAX_CHECKPOINT_URI_LENGTH:
        raise BadInputError(
            f"checkpoint_s3_uri={place!r:.60} is no text of up to {MAX_CHECKPOINT_URI_LENGTH} characters.",
            "Give a path, a file:// URI or an s3:// URI.",
        )
    try:
        uri = to_uri(place).rstrip("/")
        if uri.startswith("s3://"):
            check_key(*split_s3_uri(f"{uri}/file"))
    except BadInputError as error:
        raise BadInputError(f"checkpoint_s3_uri: {error.message}", error.hint) from error
    if uri == "file:":
        raise BadInputError("checkpoint_s3_uri is the root of the disk.", "Give checkpoints a folder of their own.")
    return CheckpointConfig(uri, CHECKPOINTS if local_path is None else _checked_checkpoint_path(local_path))


def _checked_checkpoint_path(path: str) -> str:
    known = isinstance(path, str) and path.isprintable() and len(path) <= MAX_CHECKPOINT_PATH_LENGTH
    if not known or not path.startswith("/") or ".." in path.split("/"):
        raise BadInputError(
            f"checkpoint_local_path={path!r:.60} is no absolute path without '..'.", f"For example: {CHECKPOINTS}"
        )
    wanted = PurePosixPath("/", *PurePosixPath(path).parts[1:])
    for reserved in map(PurePosixPath, _RESERVED):
        if wanted.is_relative_to(reserved) or reserved.is_relative_to(wanted):
            raise BadInputError(
                f"checkpoint_local_path={path!r} is in the way of {reserved}, which a job has for something else.",
                f"Leave it out, for {CHECKPOINTS}, or name a folder of its own.",
            )
    return str(wanted)


def hyperparameter_texts(values: Mapping[str, Any], *, json_encoded: bool) -> dict[str, str]:
    """Turn hyperparameters into the text that SageMaker sends: a job gets every value as a string.

    Args:
        values: text, numbers and booleans.
        json_encoded: for scripts, which decode what they get; else as ``str`` makes it, as the SDK does.
    Raises:
        HyperparameterError: a bad name, another type, not finite, too long, too many.
    """
    if len(values) > MAX_HYPERPARAMETERS:
        raise HyperparameterError(
            f"{len(values)} hyperparameters; SageMaker takes {MAX_HYPERPARAMETERS}.", "Put some of them in a preset."
        )
    texts = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name or len(name) > 256 or not name.isprintable():
            raise HyperparameterError(
                f"the hyperparameter name {name!r} is empty, too long or not text.",
                "Use up to 256 printable characters.",
            )
        if "=" in name or " " in name or name.startswith("-"):
            raise HyperparameterError(
                f"the hyperparameter name {name!r} has a space, a '=' or a leading '-'.",
                "A script gets it as --name value, where these would be misread.",
            )
        if not isinstance(value, str | int | float | bool):
            raise HyperparameterError(
                f"hyperparameter '{name}' is a {type(value).__name__}: {value!r:.60}.",
                "Give text, a number or a boolean; for a structure, the text that json.dumps makes.",
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise HyperparameterError(f"hyperparameter '{name}' is {value}.", "Give a finite number.")
        text = json.dumps(value, ensure_ascii=False) if json_encoded else str(value)
        if len(text) > MAX_HYPERPARAMETER_LENGTH or "\0" in str(value):
            raise HyperparameterError(
                f"hyperparameter '{name}' has {len(text)} characters, or a NUL.",
                f"SageMaker takes {MAX_HYPERPARAMETER_LENGTH}; put long text in a file of a channel.",
            )
        texts[name] = text
    return texts


def check_environment(environment: Mapping[str, str] | None) -> dict[str, str]:
    """Check environment variables by SageMaker's limits.

    Raises:
        BadInputError: a bad name, or a value that is not text.
    """
    checked = {}
    for name, value in (environment or {}).items():
        if not isinstance(name, str) or not _VARIABLE_PATTERN.fullmatch(name) or len(name) > MAX_VARIABLE_LENGTH:
            raise BadInputError(
                f"the environment variable {name!r} has no legal name.",
                "Use letters, digits and '_', not a digit first.",
            )
        if not isinstance(value, str) or len(value) > MAX_VARIABLE_LENGTH or "\0" in value:
            raise BadInputError(
                f"the environment variable '{name}' is not text of up to {MAX_VARIABLE_LENGTH} characters.",
                "Give a string.",
            )
        checked[name] = value
    return checked
