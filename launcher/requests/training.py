"""CreateTrainingJob: the document as boto3 takes it, checked, and turned into what the launcher runs and back.

``check_training_request`` is the only way from a document to a ``TrainingJobSpec``. The limits are the service model's
(``shapes.json``); ``members.py`` says what is emulated; what neither says stands here.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from launcher.errors import (
    BadInputError,
    ChannelError,
    HyperparameterError,
    RequestError,
    SourceError,
    UnsupportedOptionError,
)
from launcher.jobs.interruptions import check_plan
from launcher.jobs.spec import (
    CHECKPOINTS,
    OPT_ML,
    Channel,
    CheckpointConfig,
    InstanceGroup,
    MetricDefinition,
    Spot,
    TrainingJobSpec,
)
from launcher.requests.members import refuse_unsupported
from launcher.requests.shapes import OWN_MEMBER, operation_shape
from launcher.requests.tags import tag_pairs
from launcher.requests.validation import Exceptions, check
from launcher.storage import to_uri
from launcher.storage.own_s3 import check_key
from launcher.storage.s3_uris import split_s3_uri

OPERATION = "CreateTrainingJob"
LOCAL_INSTANCE_TYPES = ("local", "local_cpu", "local_gpu")
DEFAULT_MAX_RUN_SECONDS = 86400
MAX_RUN_LIMIT_SECONDS = 28 * 24 * 3600
DEFAULT_VOLUME_GB = 30
_RESERVED = (
    *(f"{OPT_ML}/{name}" for name in ("code", "input", "model", "output")),
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"),
)
_S3_FIELDS = {
    "Kind": "kind",
    "EndpointUrl": "endpoint_url",
    "Region": "region",
    "Profile": "profile",
    "AwsNames": "aws_names",
}
_GROUP_MEMBERS = ("InstanceGroupName", "InstanceType", "InstanceCount")
EXCEPTIONS: Exceptions = {
    "S3Uri": lambda value: value.startswith("file://") and len(value) <= 4096,
    "TrainingInstanceType": lambda value: value in LOCAL_INSTANCE_TYPES,
}
"""What is accepted here though AWS refuses it: folders of this machine, and the SDK's names for it."""


def check_training_request(request: Mapping[str, Any]) -> TrainingJobSpec:
    """Check a CreateTrainingJob document, and return the job that it asks for.

    Args:
        request: as boto3's ``create_training_job(**request)`` takes it, with our own member ``Launcher`` or without.
    Raises:
        RequestError: a limit of the service model is broken; the message is AWS's.
        UnsupportedOptionError: a member asks for something that is not emulated.
        BadInputError: a rule that the service model does not hold is broken.
    """
    check(request, operation_shape(OPERATION), exceptions=EXCEPTIONS)
    check_times(request.get("StoppingCondition", {}), request.get("EnableManagedSpotTraining", False))
    check_encodable(request)
    refuse_unsupported(request)
    rest = copy.deepcopy(dict(request))
    algorithm = rest.pop("AlgorithmSpecification", {})
    resources = rest.pop("ResourceConfig", {})
    output = rest["OutputDataConfig"]
    stopping = rest.pop("StoppingCondition", {})
    own = rest.pop(OWN_MEMBER, {})
    checkpoints = rest.pop("CheckpointConfig", None)
    definitions = algorithm.pop("MetricDefinitions", [])
    input_mode = algorithm.pop("TrainingInputMode", "File")
    groups = _instance_groups(resources)
    spec = TrainingJobSpec(
        job_name=rest.pop("TrainingJobName"),
        runtime=own.get("Runtime", "auto"),
        image_uri=algorithm.pop("TrainingImage", None),
        role=rest.pop("RoleArn"),
        hyperparameters=rest.pop("HyperParameters", {}),
        channels=_channels(rest.pop("InputDataConfig", []), input_mode, own.get("WritableChannels", [])),
        input_mode=input_mode,
        output_uri=checked_uri(output.pop("S3OutputPath"), "OutputDataConfig.S3OutputPath"),
        instance_type=groups[0].instance_type if groups else resources.pop("InstanceType", "local"),
        instance_count=sum(group.instance_count for group in groups) if groups else resources.pop("InstanceCount", 1),
        instance_groups=groups,
        volume_size_gb=resources.pop("VolumeSizeInGB", DEFAULT_VOLUME_GB),
        keep_alive_seconds=resources.pop("KeepAlivePeriodInSeconds", None),
        environment=rest.pop("Environment", {}),
        metric_definitions=tuple(MetricDefinition(entry["Name"], entry["Regex"]) for entry in definitions),
        max_run_seconds=stopping.pop("MaxRuntimeInSeconds", DEFAULT_MAX_RUN_SECONDS),
        max_retries=rest.pop("RetryStrategy", {}).get("MaximumRetryAttempts", 0),
        max_pending_seconds=stopping.pop("MaxPendingTimeInSeconds", 0),
        spot=_spot(rest.pop("EnableManagedSpotTraining", False), stopping, own.get("SpotInterruptions")),
        faults=None if "Faults" not in own else tuple(own["Faults"]),
        container_entry_point=tuple(algorithm.pop("ContainerEntrypoint", ())),
        container_arguments=tuple(algorithm.pop("ContainerArguments", ())),
        enable_network_isolation=rest.pop("EnableNetworkIsolation", False),
        tags=tag_pairs(rest.pop("Tags", [])),
        checkpoint_config=None if checkpoints is None else checkpoint_config(checkpoints),
        s3=s3_of(own.get("S3")),
        estimator=own.get("Estimator", {}),
        tuning_job_arn=own.get("TuningJobArn", ""),
        debug=own.get("Debug"),
        without_effect={
            **rest,
            **{
                name: members
                for name, members in (
                    ("AlgorithmSpecification", algorithm),
                    ("OutputDataConfig", output),
                    ("ResourceConfig", resources),
                    ("StoppingCondition", stopping),
                )
                if members
            },
        },
    )
    _check_rules(spec)
    return spec


def training_request(spec: TrainingJobSpec) -> dict[str, Any]:
    """Return the document that asks for a job: the one it was made of, with AWS's defaults filled in."""
    request: dict[str, Any] = copy.deepcopy(dict(spec.without_effect))
    request |= {
        "TrainingJobName": spec.job_name,
        "RoleArn": spec.role,
        "HyperParameters": dict(spec.hyperparameters),
        "Environment": dict(spec.environment),
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags],
        "EnableNetworkIsolation": spec.enable_network_isolation,
    }
    if spec.channels:
        request["InputDataConfig"] = [_channel_request(channel) for channel in spec.channels]
    algorithm = request.setdefault("AlgorithmSpecification", {})
    algorithm["TrainingInputMode"] = spec.input_mode
    algorithm["MetricDefinitions"] = [{"Name": entry.name, "Regex": entry.regex} for entry in spec.metric_definitions]
    for name, value in (
        ("TrainingImage", spec.image_uri),
        ("ContainerEntrypoint", list(spec.container_entry_point) or None),
        ("ContainerArguments", list(spec.container_arguments) or None),
    ):
        if value is not None:
            algorithm[name] = value
    request.setdefault("OutputDataConfig", {})["S3OutputPath"] = spec.output_uri
    hosts: dict[str, Any] = {"InstanceType": spec.instance_type, "InstanceCount": spec.instance_count}
    if spec.instance_groups:
        hosts = {
            "InstanceGroups": [
                {
                    "InstanceGroupName": group.name,
                    "InstanceType": group.instance_type,
                    "InstanceCount": group.instance_count,
                }
                for group in spec.instance_groups
            ]
        }
    request.setdefault("ResourceConfig", {}).update(**hosts, VolumeSizeInGB=spec.volume_size_gb)
    if spec.keep_alive_seconds is not None:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = spec.keep_alive_seconds
    stopping = request.setdefault("StoppingCondition", {})
    stopping["MaxRuntimeInSeconds"] = spec.max_run_seconds
    if spec.max_pending_seconds:
        stopping["MaxPendingTimeInSeconds"] = spec.max_pending_seconds
    if spec.max_retries:
        request["RetryStrategy"] = {"MaximumRetryAttempts": spec.max_retries}
    if spec.spot is not None:
        request["EnableManagedSpotTraining"] = True
        stopping["MaxWaitTimeInSeconds"] = spec.spot.max_wait_seconds
    if spec.checkpoint_config is not None:
        places = {"S3Uri": spec.checkpoint_config.s3_uri, "LocalPath": spec.checkpoint_config.local_path}
        request["CheckpointConfig"] = dict(spec.checkpoint_config.asked) or places
    own = {
        "Runtime": spec.runtime,
        "S3": None if spec.s3 is None else s3_member(spec.s3),
        "Estimator": dict(spec.estimator) or None,
        "WritableChannels": [channel.name for channel in spec.channels if channel.writable] or None,
        "SpotInterruptions": _interruptions(spec.spot),
        "Faults": None if spec.faults is None else list(spec.faults),
        "TuningJobArn": spec.tuning_job_arn or None,
        "Debug": spec.debug,
    }
    request[OWN_MEMBER] = {name: value for name, value in own.items() if value is not None}
    return completed(request)


def _interruptions(spot: Spot | None) -> list[str] | None:
    return None if spot is None or spot.interruptions is None else list(spot.interruptions)


def completed(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the defaults of AWS, or of this machine, where it says nothing; nothing else changes.

    The given one stays as it is, and shares what gets no default: nobody changes the answer below its first level.
    """
    full = dict(request)
    for name, default in (
        ("HyperParameters", {}),
        ("Environment", {}),
        ("Tags", []),
        ("EnableNetworkIsolation", False),
        ("EnableInterContainerTrafficEncryption", False),
        ("EnableManagedSpotTraining", False),
    ):
        full.setdefault(name, default)
    for name, defaults in (
        ("AlgorithmSpecification", {"TrainingInputMode": "File", "MetricDefinitions": []}),
        ("OutputDataConfig", {"KmsKeyId": "", "CompressionType": "GZIP"}),
        ("ResourceConfig", {**_one_group(full.get("ResourceConfig", {})), "VolumeSizeInGB": DEFAULT_VOLUME_GB}),
        ("StoppingCondition", {"MaxRuntimeInSeconds": DEFAULT_MAX_RUN_SECONDS}),
        (OWN_MEMBER, {"Runtime": "auto"}),
    ):
        full[name] = {**defaults, **full.get(name, {})}
    if "CheckpointConfig" in full:
        full["CheckpointConfig"] = {"LocalPath": CHECKPOINTS, **full["CheckpointConfig"]}
    if "InputDataConfig" in full:
        mode = full["AlgorithmSpecification"]["TrainingInputMode"]
        full["InputDataConfig"] = [_completed_channel(channel, mode) for channel in full["InputDataConfig"]]
    return full


def _one_group(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default type and count of hosts; none where the request has its hosts in groups."""
    return {} if resources.get("InstanceGroups") else {"InstanceType": "local", "InstanceCount": 1}


def _instance_groups(resources: dict[str, Any]) -> tuple[InstanceGroup, ...]:
    """Take the groups of hosts out of a ResourceConfig; none where it has none.

    Raises:
        BadInputError: there is a type or count besides, or two groups have one name.
    """
    members = resources.pop("InstanceGroups") if resources.get("InstanceGroups") else []
    for name in ("InstanceType", "InstanceCount"):
        if members and name in resources:
            raise BadInputError(
                f"ResourceConfig.InstanceGroups and ResourceConfig.{name} are both given.",
                "Give either the groups, or one type and a count.",
            )
    names = [member["InstanceGroupName"] for member in members]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(
                f"ResourceConfig.InstanceGroups has two groups '{name}'.", "Give each group a name of its own."
            )
    for member in members:
        if member["InstanceCount"] < 1:
            name = member["InstanceGroupName"]
            raise BadInputError(f"ResourceConfig.InstanceGroups: the group '{name}' has no host.", "Use 1 or more.")
    return tuple(InstanceGroup(*(member[key] for key in _GROUP_MEMBERS)) for member in members)


def _completed_channel(channel: Mapping[str, Any], input_mode: str) -> dict[str, Any]:
    source = channel["DataSource"]
    objects = {"S3DataDistributionType": "FullyReplicated", **source["S3DataSource"]}
    defaults = {"CompressionType": "None", "RecordWrapperType": "None", "InputMode": input_mode}
    return {**defaults, **channel, "DataSource": {**source, "S3DataSource": objects}}


def s3_member(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return which S3 is meant, as the member ``Launcher.S3`` holds it."""
    return {name: settings[field] for name, field in _S3_FIELDS.items() if settings.get(field)}


def s3_of(member: Mapping[str, str] | None) -> dict[str, Any] | None:
    """Return which S3 a member ``Launcher.S3`` means, as a spec holds it; None where there is none."""
    if member is None:
        return None
    settings = {field: member.get(name) for name, field in _S3_FIELDS.items()}
    if not settings["aws_names"]:  # older versions do not know it
        del settings["aws_names"]
    return settings


def checked_uri(uri: str, member: str) -> str:
    """Return a URI of a request if this version reads and writes such, ``file://`` ones as an absolute path.

    Raises:
        ChannelError: it names another machine, no bucket, or no absolute path.
        UnsupportedOptionError: another scheme.
    """
    if uri.startswith("file://") and not uri.removeprefix("file://localhost").removeprefix("file://").startswith("/"):
        raise ChannelError(f"{member}: '{uri}' is no absolute path.", "Write three slashes: file:///path/to/folder")
    try:
        return to_uri(uri)
    except (ChannelError, UnsupportedOptionError) as error:
        raise type(error)(f"{member}: {error.message}", error.hint) from error


def request_uri(uri: str, member: str) -> str:
    """Return a URI as ``checked_uri`` does, for what is no channel.

    Raises:
        BadInputError: it names another machine, no bucket, or no absolute path; it has another scheme.
    """
    try:
        return checked_uri(uri, member)
    except ChannelError as error:
        raise BadInputError(error.message, error.hint) from error


def checkpoint_config(member: Mapping[str, str]) -> CheckpointConfig:
    """Return where a job's checkpoints are kept, and where it sees them.

    Raises:
        BadInputError: no place, or a path that the job needs for something else.
    """
    try:
        uri = checked_uri(member["S3Uri"], "CheckpointConfig.S3Uri").rstrip("/")
        if uri.startswith("s3://"):
            check_key(*split_s3_uri(f"{uri}/file"))
    except ChannelError as error:
        raise BadInputError(error.message, error.hint) from error
    except BadInputError as error:
        if isinstance(error, UnsupportedOptionError):
            raise
        raise BadInputError(f"CheckpointConfig.S3Uri: {error.message}", error.hint) from error
    if uri == "file:":
        raise BadInputError(
            "CheckpointConfig.S3Uri is the root of the disk.", "Give checkpoints a folder of their own."
        )
    asked = {"LocalPath": CHECKPOINTS, **member}
    return CheckpointConfig(uri, _checkpoint_path(asked["LocalPath"]), asked)


def _checkpoint_path(path: str) -> str:
    if not path.isprintable() or not path.startswith("/") or ".." in path.split("/"):
        raise BadInputError(
            f"CheckpointConfig.LocalPath={path!r:.60} is no absolute path without '..'.", f"For example: {CHECKPOINTS}"
        )
    wanted = PurePosixPath("/", *PurePosixPath(path).parts[1:])
    for reserved in map(PurePosixPath, _RESERVED):
        if wanted.is_relative_to(reserved) or reserved.is_relative_to(wanted):
            raise BadInputError(
                f"CheckpointConfig.LocalPath={path!r} is in the way of {reserved}, which a job has for something else.",
                f"Leave it out, for {CHECKPOINTS}, or name a folder of its own.",
            )
    return str(wanted)


def check_metric_definition(name: str, regex: str) -> None:
    """Refuse a metric definition that can find no value.

    Raises:
        BadInputError: the pattern is not valid, or has no group.
    """
    try:
        groups = re.compile(regex).groups
    except re.error as error:
        raise BadInputError(
            f"metric definition '{name}': {regex!r} is not a regular expression: {error}.", "Correct the pattern."
        ) from error
    if groups < 1:
        raise BadInputError(
            f"metric definition '{name}': {regex!r} has no group.", "Put parentheses around the value: loss=([0-9.]+)"
        )


def _channels(members: list[dict[str, Any]], input_mode: str, writable: Sequence[str]) -> tuple[Channel, ...]:
    channels: dict[str, Channel] = {}
    for position, member in enumerate(members):
        name = member.pop("ChannelName")
        place = f"InputDataConfig[{position}]"
        if name in (".", ".."):
            raise ChannelError(
                f"{place}: the channel name {name!r} leaves /opt/ml/input/data.", "Give it a name of its own."
            )
        if name in channels:
            raise ChannelError(f"{place}: there are two channels '{name}'.", "Give each channel a name of its own.")
        source = member.get("DataSource", {}).pop("S3DataSource", None)
        if source is None:
            raise ChannelError(
                f"{place}: channel '{name}' names no data.", "Give DataSource.S3DataSource.S3Uri, file:// or s3://."
            )
        try:
            uri = checked_uri(source.pop("S3Uri"), place)
        except (ChannelError, UnsupportedOptionError) as error:
            raise type(error)(f"channel '{name}': {error.message.removeprefix(f'{place}: ')}", error.hint) from error
        s3_data_type = source.pop("S3DataType")
        distribution = source.pop("S3DataDistributionType", "FullyReplicated")
        attribute_names = tuple(source.pop("AttributeNames", ()))
        instance_groups = tuple(source.pop("InstanceGroupNames") if source.get("InstanceGroupNames") else ())
        if source:
            member["DataSource"]["S3DataSource"] = source
        if not member["DataSource"]:
            del member["DataSource"]
        channels[name] = Channel(
            name=name,
            uri=uri,
            content_type=member.pop("ContentType", None),
            input_mode=member.pop("InputMode", input_mode),
            distribution=distribution,
            compression=member.pop("CompressionType", "None"),
            record_wrapping=member.pop("RecordWrapperType", "None"),
            s3_data_type=s3_data_type,
            attribute_names=attribute_names,
            instance_groups=instance_groups,
            shuffle_seed=member.pop("ShuffleConfig", {}).get("Seed"),
            writable=name in writable,
            without_effect=member,
        )
        _check_channel(channels[name], place)
    for name in set(writable) - set(channels):
        raise ChannelError(
            f"{OWN_MEMBER}.WritableChannels names '{name}', which is no channel of the job.", "Name a channel."
        )
    _check_pipe_names(channels)
    return tuple(channels.values())


def _check_channel(channel: Channel, place: str) -> None:
    """Refuse what a channel cannot be at the same time.

    Raises:
        ChannelError: the message names the member.
    """
    for refused, message, hint in (
        (
            channel.compression != "None" and not channel.is_stream,
            f"CompressionType={channel.compression} is used only in Pipe input mode, and this channel's is "
            f"{channel.input_mode}",
            "In File mode, leave this field unset or set it to None.",
        ),
        (
            channel.record_wrapping != "None" and not channel.is_stream,
            f"RecordWrapperType={channel.record_wrapping} is used only in Pipe input mode, and this channel's is "
            f"{channel.input_mode}",
            "In File mode, leave this field unset or set it to None.",
        ),
        (
            channel.s3_data_type == "AugmentedManifestFile" and not channel.is_stream,
            "AugmentedManifestFile can only be used if the channel's input mode is Pipe",
            "Set InputMode to Pipe.",
        ),
        (
            channel.s3_data_type == "AugmentedManifestFile" and not channel.attribute_names,
            "AugmentedManifestFile needs AttributeNames",
            "Name the attributes that the job reads, in their order.",
        ),
        (
            channel.s3_data_type != "AugmentedManifestFile" and bool(channel.attribute_names),
            f"AttributeNames are those of an AugmentedManifestFile, and S3DataType is {channel.s3_data_type}",
            "Leave AttributeNames out, or set S3DataType to AugmentedManifestFile.",
        ),
        (
            channel.input_mode == "FastFile" and channel.s3_data_type != "S3Prefix",
            f"FastFile reads S3Prefix only, and S3DataType is {channel.s3_data_type}",
            "Use File or Pipe.",
        ),
        (
            channel.writable and channel.input_mode != "File",
            f"a channel that the job may write to is a copy, and InputMode is {channel.input_mode}",
            "Use File.",
        ),
    ):
        if refused:
            raise ChannelError(f"{place}: channel '{channel.name}': {message}.", hint)


def _check_pipe_names(channels: Mapping[str, Channel]) -> None:
    """Refuse a channel whose folder has the name of another channel's pipe, such as ``train_0``."""
    for name in channels:
        stem, _, number = name.rpartition("_")
        if number.isdecimal() and stem in channels and channels[stem].is_stream:
            raise ChannelError(
                f"channel '{name}' has the name of a pipe of channel '{stem}', whose InputMode is Pipe.",
                "Rename one of the two.",
            )


def _channel_request(channel: Channel) -> dict[str, Any]:
    request: dict[str, Any] = copy.deepcopy(dict(channel.without_effect))
    request |= {
        "ChannelName": channel.name,
        "InputMode": channel.input_mode,
        "CompressionType": channel.compression,
        "RecordWrapperType": channel.record_wrapping,
    }
    if channel.content_type is not None:
        request["ContentType"] = channel.content_type
    if channel.shuffle_seed is not None:
        request["ShuffleConfig"] = {"Seed": channel.shuffle_seed}
    request.setdefault("DataSource", {}).setdefault("S3DataSource", {}).update(
        S3DataType=channel.s3_data_type, S3Uri=channel.uri, S3DataDistributionType=channel.distribution
    )
    if channel.instance_groups:
        request["DataSource"]["S3DataSource"]["InstanceGroupNames"] = list(channel.instance_groups)
    if channel.attribute_names:
        request["DataSource"]["S3DataSource"]["AttributeNames"] = list(channel.attribute_names)
    return request


def _check_rules(spec: TrainingJobSpec) -> None:
    """Check what the service model does not say, and AWS, or a job, needs all the same."""
    for channel in spec.channels:
        _check_groups(channel, spec)
    if spec.instance_count < 1:
        raise BadInputError(
            f"ResourceConfig.InstanceCount={spec.instance_count} is no count of hosts.", "Use 1 or more."
        )
    if spec.image_uri is not None and not spec.image_uri.strip():
        raise BadInputError("AlgorithmSpecification.TrainingImage names no image.", "Name one, or leave it out.")
    if spec.image_uri is None and not spec.source_uri and not spec.container_entry_point:
        raise SourceError(
            "neither an image nor an entry point is given, so there is nothing to run.",
            "Name TrainingImage, or the hyperparameters sagemaker_program and sagemaker_submit_directory.",
        )
    if spec.source_uri:
        checked_uri(spec.source_uri, "the hyperparameter sagemaker_submit_directory")
        if not spec.entry_point:
            raise SourceError(
                "the hyperparameter sagemaker_submit_directory names a source, and none names its entry point.",
                "Name the script in the hyperparameter sagemaker_program.",
            )
    for name, value in spec.hyperparameters.items():
        if not name or "\0" in name or "\0" in value:
            raise HyperparameterError(
                f"the hyperparameter {name!r} has no name, or a NUL.", "Leave it out; no variable can hold it."
            )
    for name, value in spec.environment.items():
        if not name or "\0" in value:
            raise BadInputError(
                f"the environment variable {name!r} has no name, or a NUL.", "Leave it out; no process can have it."
            )
    for definition in spec.metric_definitions:
        check_metric_definition(definition.name, definition.regex)


def _spot(enabled: bool, stopping: dict[str, Any], interruptions: Sequence[str] | None) -> Spot | None:
    """Return what makes a job a spot job; None for one that is none.

    Raises:
        BadInputError: interruptions of a job that cannot be interrupted, or that cannot be read.
    """
    member = f"{OWN_MEMBER}.SpotInterruptions"
    if not enabled:
        if interruptions:
            raise BadInputError(
                f"{member} interrupts spot jobs alone, and EnableManagedSpotTraining is not true.",
                "Make it a spot job, or leave the interruptions out.",
            )
        return None
    check_plan(interruptions or (), member)
    return Spot(stopping.pop("MaxWaitTimeInSeconds"), None if interruptions is None else tuple(interruptions))


def check_groups_of_hosts(resources: Mapping[str, Any]) -> None:
    """Refuse groups of hosts that do not go together in a ResourceConfig.

    Raises:
        BadInputError: there is a type or count besides, two groups have one name, or a group has no host.
    """
    _instance_groups(dict(resources))


def check_channels(request: Mapping[str, Any]) -> None:
    """Refuse channels that do not go together; those without an S3DataSource are AWS's alone to check.

    Raises:
        ChannelError: the message names the channel.
    """
    members = [
        member
        for member in copy.deepcopy(list(request.get("InputDataConfig", ())))
        if "S3DataSource" in member.get("DataSource", {})
    ]
    _channels(members, request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File"), [])


def _check_groups(channel: Channel, spec: TrainingJobSpec) -> None:
    """Refuse a channel for groups that the job has not.

    Raises:
        ChannelError: it names one, or is a stream.
    """
    for name in channel.instance_groups:
        if name not in {group.name for group in spec.instance_groups}:
            listed = ", ".join(group.name for group in spec.instance_groups) or "none"
            raise ChannelError(
                f"channel '{channel.name}': InstanceGroupNames has '{name}', and the job's groups are: {listed}.",
                "Name groups of ResourceConfig.InstanceGroups.",
            )
    if channel.instance_groups and channel.is_stream:
        raise UnsupportedOptionError(
            f"channel '{channel.name}': InstanceGroupNames in Pipe mode is not emulated.", "Use File or FastFile."
        )


def check_times(stopping: Mapping[str, Any], spot: bool) -> None:
    """Refuse times that do not go together, in AWS's words."""
    seconds, wait = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUN_SECONDS), stopping.get("MaxWaitTimeInSeconds")
    problem = ""
    if wait is not None and not spot:
        problem = "It is only supported when EnableManagedSpotTraining is set to true"
    elif spot and (wait is None or wait < seconds):
        problem = "It must be present and be greater than or equal to MaxRuntimeInSeconds"
    if problem:
        raise RequestError(
            f"Invalid MaxWaitTimeInSeconds. {problem}.",
            f"MaxRuntimeInSeconds is {seconds}. Waiting for a spot instance counts as well.",
            aws_message=f"Invalid MaxWaitTimeInSeconds. {problem}",
            members=("StoppingCondition.MaxWaitTimeInSeconds",),
        )
    if seconds > MAX_RUN_LIMIT_SECONDS:
        raise RequestError(
            "StoppingCondition.MaxRuntimeInSeconds is more than 28 days.",
            f"Give whole seconds, 1 to {MAX_RUN_LIMIT_SECONDS}.",
            members=("StoppingCondition.MaxRuntimeInSeconds",),
        )


def check_encodable(request: Mapping[str, Any]) -> None:
    """Refuse a document that is not JSON.

    Raises:
        BadInputError: it is none.
    """
    try:
        json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadInputError(f"the request is not JSON: {error}.", "Give text, whole numbers and booleans.") from error
