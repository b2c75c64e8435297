"""What ``fit`` takes as inputs and hyperparameters, turned into members of the request."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from launcher.errors import BadInputError, ChannelError, HyperparameterError
from launcher.sdk.job_results import as_location
from launcher.sdk.options import INPUT_OPTIONS, check_options, seed_of
from launcher.sdk.training_job import JobOutputs, TrainingJob
from launcher.storage import to_uri

DEFAULT_CHANNEL = "training"


class ShuffleConfig:
    """The order of a channel's objects, with the SDK's name and argument.

    Args:
        seed: any whole number; the same seed gives the same order.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed


class TrainingInput:
    """One channel, with the arguments of the SageMaker SDK's class of that name.

    Args:
        s3_data: a path, a ``file://`` or an ``s3://`` URI; the name is the SDK's. A ``TrainingJob``, or its
            ``outputs``, stands for its output data, and where it left none for its model.
        distribution: ``FullyReplicated``, or ``ShardedByS3Key``: each host gets its part of the objects.
        compression: ``Gzip``, for a Pipe channel.
        content_type: a MIME type that is told to the job.
        record_wrapping: ``RecordIO``, for a Pipe channel.
        s3_data_type: ``S3Prefix``, ``ManifestFile`` or ``AugmentedManifestFile``.
        instance_groups: the names of the groups whose hosts get the channel; default: all hosts.
        input_mode: ``File``, ``FastFile`` or ``Pipe``; None takes the estimator's.
        attribute_names: those of an augmented manifest that the job gets, in this order.
        target_attribute_name: one more of them, the last.
        shuffle_config: a ``ShuffleConfig``.
        writable: the job gets a copy, which it may change; this argument is the launcher's own.
    Raises:
        UnsupportedOptionError: an option that is not emulated was given.
    """

    def __init__(
        self,
        s3_data: str | os.PathLike[str] | TrainingJob | JobOutputs,
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
        *,
        writable: bool = False,
    ) -> None:
        location: str | os.PathLike[str] = as_location(s3_data)
        check_options(INPUT_OPTIONS, {**locals(), "s3_data": location}, type(self).__name__)
        self.s3_data = os.fspath(location) if isinstance(location, os.PathLike) else location
        self.distribution = distribution
        self.compression = compression
        self.content_type = content_type
        self.record_wrapping = record_wrapping
        self.s3_data_type = s3_data_type
        self.instance_groups = None if instance_groups is None else list(instance_groups)
        self.input_mode = input_mode
        self.attribute_names = None if attribute_names is None else list(attribute_names)
        self.target_attribute_name = target_attribute_name
        self.shuffle_config = shuffle_config
        self.writable = writable

    @property
    def config(self) -> dict[str, Any]:
        """The channel as a request to SageMaker holds it, without its name."""
        source: dict[str, Any] = {
            "S3DataType": self.s3_data_type,
            "S3Uri": self.s3_data,
            "S3DataDistributionType": self.distribution or "FullyReplicated",
        }
        names = list(self.attribute_names or ())
        if self.target_attribute_name and self.target_attribute_name not in names:
            names.append(self.target_attribute_name)
        if names:
            source["AttributeNames"] = names
        if self.instance_groups is not None:
            source["InstanceGroupNames"] = list(self.instance_groups)
        config: dict[str, Any] = {"DataSource": {"S3DataSource": source}}
        for member, value in (
            ("ContentType", self.content_type),
            ("CompressionType", self.compression),
            ("RecordWrapperType", self.record_wrapping),
            ("InputMode", self.input_mode),
            ("ShuffleConfig", None if self.shuffle_config is None else {"Seed": seed_of(self.shuffle_config)}),
        ):
            if value is not None:
                config[member] = value
        return config


Input = str | os.PathLike[str] | TrainingInput | TrainingJob | JobOutputs
"""What one channel is made of; a job, or its ``outputs``, stands for what it left."""

Inputs = Input | Mapping[str, Input] | None


def make_channels(inputs: Inputs) -> list[dict[str, Any]]:
    """Return ``InputDataConfig`` for what ``fit`` was given; a bare path is the channel ``training``.

    Raises:
        ChannelError: a name or a path of another type.
        UnsupportedOptionError: a scheme that this version does not read.
    """
    if inputs is None:
        return []
    if isinstance(inputs, str | os.PathLike | TrainingInput | TrainingJob | JobOutputs):
        inputs = {DEFAULT_CHANNEL: inputs}
    if not isinstance(inputs, Mapping):
        raise ChannelError(
            f"inputs are a {type(inputs).__name__}.",
            "Give a path, a TrainingInput, a TrainingJob, or a dict of channel to one.",
        )
    return [_make_channel(name, value) for name, value in inputs.items()]


def writable_channels(inputs: Inputs) -> list[str]:
    """Return the names of the channels that the job may write to."""
    named = inputs if isinstance(inputs, Mapping) else {DEFAULT_CHANNEL: inputs}
    return [name for name, value in named.items() if isinstance(value, TrainingInput) and value.writable]


def _make_channel(name: str, value: Input) -> dict[str, Any]:
    if not isinstance(name, str):
        raise ChannelError(f"the channel name {name!r} is a {type(name).__name__}.", "Give it as text.")
    try:
        if isinstance(value, TrainingJob | JobOutputs):
            value = as_location(value, name)
        source = value if isinstance(value, TrainingInput) else TrainingInput(value)
        config = source.config
        config["DataSource"]["S3DataSource"]["S3Uri"] = to_uri(source.s3_data)
    except BadInputError as error:
        raise type(error)(f"channel '{name}': {error.message}", error.hint) from error
    return {"ChannelName": name, **config}


def hyperparameter_texts(values: Mapping[str, Any], *, json_encoded: bool) -> dict[str, str]:
    """Turn hyperparameters into the text that SageMaker sends: a job gets every value as a string.

    Args:
        values: what JSON can hold, and numpy's scalars.
        json_encoded: for scripts, which decode what they get; else as ``str`` makes it, as the SDK does.
    Raises:
        HyperparameterError: a name that a script cannot get, or a value that is not JSON.
    """
    texts = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name or not name.isprintable():
            raise HyperparameterError(
                f"the hyperparameter name {name!r} is empty or not text.", "Use printable characters."
            )
        if "=" in name or " " in name or name.startswith("-"):
            raise HyperparameterError(
                f"the hyperparameter name {name!r} has a space, a '=' or a leading '-'.",
                "A script gets it as --name value, where these would be misread.",
            )
        try:
            encoded = json.dumps(without_numpy(value), ensure_ascii=False, allow_nan=False)
            texts[name] = encoded if json_encoded else str(without_numpy(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise HyperparameterError(
                f"hyperparameter '{name}' is a {type(value).__name__} that JSON cannot hold: {error}.",
                "Give text, a finite number, a boolean, None, or a list or dict of them.",
            ) from error
    return texts


def without_numpy(value: Any) -> Any:
    """Return a value with numpy's scalars as Python's, wherever they stand in it."""
    if isinstance(value, Mapping):
        return {key: without_numpy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_numpy(inner) for inner in value]
    # numpy itself is not loaded for this: a scalar of it has no dimensions.
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value
