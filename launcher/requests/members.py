"""What happens here to each member of CreateTrainingJob: the one table of what is taken and of what is refused.

The service model holds the limits (``shapes.json``). This table holds what is emulated. Every member of the model is
below one of its rows; a member without limits on its row is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from launcher.errors import UnsupportedOptionError
from launcher.requests.shapes import OWN_MEMBER

_SAME_MACHINE = "the job runs on this machine, as you; network isolation takes the network away"
_NO_ENCRYPTION = "what the job writes stays on this machine's disk; encrypt that"
_ENGINES_IMAGES = "images come from the engine, which holds credentials"
_NO_PROFILER = "there is no profiler; run one in the entry point"
_NO_DEBUGGER = "print values and read them by metric definitions"
_NO_MODEL_HUB = "name an image or an entry point, and give models and data as channels"


class Member(NamedTuple):
    """A row of the table: it counts for the member and for everything below it that has no row of its own.

    Attributes:
        path: as boto3 names it; ``[]`` stands for each item of a list.
        accepted: the values that are accepted; None accepts every value of the service model.
        instead: what to do in place of another value, or why that has no effect; empty where all are taken.
        noted: any other value is accepted too: it means nothing on one machine, and the job's warnings name it.
    """

    path: str
    accepted: tuple[Any, ...] | None = None
    instead: str = ""
    noted: bool = False


MEMBERS: Mapping[str, Member] = {
    row.path: row
    for row in (
        Member("TrainingJobName"),
        Member("RoleArn"),
        Member("HyperParameters"),
        Member("Environment"),
        Member("Tags"),
        Member("AlgorithmSpecification.TrainingImage"),
        Member("AlgorithmSpecification.AlgorithmName", (), "Name its image in TrainingImage."),
        Member("AlgorithmSpecification.TrainingInputMode"),
        Member("AlgorithmSpecification.MetricDefinitions"),
        Member("AlgorithmSpecification.ContainerEntrypoint"),
        Member("AlgorithmSpecification.ContainerArguments"),
        # Of every metric its whole series is there, asked for or not.
        Member("AlgorithmSpecification.EnableSageMakerMetricsTimeSeries"),
        Member(
            "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode",
            ("Platform",),
            _ENGINES_IMAGES,
            noted=True,
        ),
        Member(
            "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig", (), _ENGINES_IMAGES, noted=True
        ),
        Member("InputDataConfig[].ChannelName"),
        Member("InputDataConfig[].ContentType"),
        Member("InputDataConfig[].InputMode"),
        Member("InputDataConfig[].CompressionType"),
        Member("InputDataConfig[].RecordWrapperType"),
        Member("InputDataConfig[].ShuffleConfig"),
        Member("InputDataConfig[].DataSource.S3DataSource.S3Uri"),
        Member(
            "InputDataConfig[].DataSource.S3DataSource.S3DataType",
            ("S3Prefix", "ManifestFile", "AugmentedManifestFile"),
            "Leave it out: a prefix, or a folder, is read as it is.",
        ),
        Member("InputDataConfig[].DataSource.S3DataSource.S3DataDistributionType"),
        Member("InputDataConfig[].DataSource.S3DataSource.AttributeNames"),
        Member("InputDataConfig[].DataSource.S3DataSource.InstanceGroupNames"),
        Member("InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig", (), "Leave it out: give a local path."),
        Member("InputDataConfig[].DataSource.S3DataSource.HubAccessConfig", (), "Leave it out: give a local path."),
        Member("InputDataConfig[].DataSource.FileSystemDataSource", (), "Give the folder as file:///path."),
        Member("InputDataConfig[].DataSource.DatasetSource", (), "Give the data as file:// or s3://."),
        Member("OutputDataConfig.S3OutputPath"),
        Member("OutputDataConfig.KmsKeyId", ("",), _NO_ENCRYPTION, noted=True),
        Member(
            "OutputDataConfig.CompressionType",
            ("GZIP",),
            "Leave it out; latest_training_job.outputs.model_path is unpacked.",
        ),
        Member("ResourceConfig.InstanceType"),
        Member("ResourceConfig.InstanceCount"),
        Member("ResourceConfig.VolumeSizeInGB", (30,), "the job uses the disk of LAUNCHER_HOME", noted=True),
        Member("ResourceConfig.VolumeKmsKeyId", ("",), _NO_ENCRYPTION, noted=True),
        Member("ResourceConfig.KeepAlivePeriodInSeconds"),
        Member("ResourceConfig.InstanceGroups"),
        Member("ResourceConfig.InstancePreferences", (), "Use one instance type and a count."),
        Member("ResourceConfig.SelectedInstanceType", (), "Use InstanceType."),
        Member("ResourceConfig.SelectedInstanceCount", (), "Use InstanceCount."),
        Member("ResourceConfig.TrainingPlanArn", (), "this machine needs no reservation", noted=True),
        Member("ResourceConfig.InstancePlacementConfig", (), "there is one machine", noted=True),
        Member("StoppingCondition.MaxRuntimeInSeconds"),
        Member("StoppingCondition.MaxWaitTimeInSeconds"),
        Member("StoppingCondition.MaxPendingTimeInSeconds"),
        Member("CheckpointConfig"),
        Member("EnableNetworkIsolation"),
        Member(
            "EnableInterContainerTrafficEncryption",
            (False,),
            "what the hosts send each other stays on this machine",
            noted=True,
        ),
        Member("EnableManagedSpotTraining"),
        Member("VpcConfig", (), _SAME_MACHINE, noted=True),
        # The SDK sends the next two with every job; so little of them asks for nothing.
        Member("DebugHookConfig.S3OutputPath"),
        Member("DebugHookConfig.LocalPath"),
        Member("DebugHookConfig.HookParameters", ({},), f"Leave it out: {_NO_DEBUGGER}."),
        Member("DebugHookConfig.CollectionConfigurations", ([],), f"Leave it out: {_NO_DEBUGGER}."),
        Member("ProfilerConfig.S3OutputPath"),
        Member("ProfilerConfig.DisableProfiler"),
        Member("ProfilerConfig.ProfilingIntervalInMilliseconds"),
        Member("ProfilerConfig.ProfilingParameters", ({},), _NO_PROFILER, noted=True),
        Member("DebugRuleConfigurations", ([],), f"Leave it out: {_NO_DEBUGGER}."),
        Member("ProfilerRuleConfigurations", ([],), _NO_PROFILER, noted=True),
        Member("TensorBoardOutputConfig", (), "Write event files to /opt/ml/output/data."),
        Member("ExperimentConfig", ({},), "a job's metrics are in its folder, under its name", noted=True),
        Member("RetryStrategy"),
        Member("RemoteDebugConfig.EnableRemoteDebug", (False,), "the job is on this machine", noted=True),
        Member("InfraCheckConfig.EnableInfraCheck", (False,), "launcher doctor checks this machine", noted=True),
        Member("SessionChainingConfig.EnableSessionTagChaining", (False,), "there is no session to tag", noted=True),
        Member("ServerlessJobConfig", (), f"Leave it out: {_NO_MODEL_HUB}."),
        Member("MlflowConfig", (), "Leave it out; log to a tracking server from the entry point."),
        Member("ModelPackageConfig", (), f"Leave it out: {_NO_MODEL_HUB}."),
        Member(OWN_MEMBER),
    )
}

UPDATE_MEMBERS: Mapping[str, Member] = {
    row.path: row
    for row in (
        Member("TrainingJobName"),
        Member(
            "ProfilerConfig.DisableProfiler", (True,), "Nothing is profiled here; run a profiler in the entry point."
        ),
        Member("ProfilerConfig.S3OutputPath", (), "Leave it out, or run a profiler in the entry point."),
        Member("ProfilerConfig.ProfilingIntervalInMilliseconds", (), "Leave it out."),
        Member("ProfilerConfig.ProfilingParameters", ({},), "Leave it out, or run a profiler in the entry point."),
        Member("ProfilerRuleConfigurations", ([],), "Leave it out, or run a profiler in the entry point."),
        Member("ResourceConfig.KeepAlivePeriodInSeconds"),
        Member("RemoteDebugConfig.EnableRemoteDebug", (False,), "Attach to the process on this machine directly."),
    )
}
"""The same for UpdateTrainingJob."""


def refuse_unsupported(request: Mapping[str, Any], members: Mapping[str, Member] = MEMBERS) -> None:
    """Raise for the first member of a checked request that asks for something that is not emulated.

    Args:
        request: checked against the service model.
        members: the table of its operation.
    Raises:
        UnsupportedOptionError: it names the member, its value, and what to use instead.
    """
    for name, row, value in _rows(request, "", "", members):
        if row.accepted is not None and not row.noted and not is_accepted(row.accepted, value):
            raise UnsupportedOptionError(f"{name}={value!r:.80} is not emulated.", row.instead)


def without_effect(request: Mapping[str, Any], members: Mapping[str, Member] = MEMBERS) -> list[str]:
    """Return a line for each member of a checked request that is accepted and means nothing on one machine."""
    return [f"{text} has no effect here: {row.instead}" for text, row in _noted(request, members)]


def not_carried(request: Mapping[str, Any], members: Mapping[str, Member] = MEMBERS) -> list[str]:
    """Return each of these members with its value, for somebody who runs the request elsewhere."""
    return [text for text, _ in _noted(request, members)]


def _noted(request: Mapping[str, Any], members: Mapping[str, Member]) -> Iterator[tuple[str, Member]]:
    for name, row, value in _rows(request, "", "", members):
        if row.noted and row.accepted is not None and not is_accepted(row.accepted, value):
            yield f"{name}={value!r:.80}", row


def is_accepted(accepted: tuple[Any, ...], value: Any) -> bool:
    """Return whether ``value`` is among the values that ask for nothing: equal, and of the same type."""
    return any(value is choice or (type(value) is type(choice) and value == choice) for choice in accepted)


def _rows(value: Any, name: str, path: str, members: Mapping[str, Member]) -> Iterator[tuple[str, Member, Any]]:
    """Yield the name of each member that has a row, as the request has it, with that row and the value."""
    if path in members:
        yield name, members[path], value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _rows(inner, f"{name}.{key}" if name else key, f"{path}.{key}" if path else key, members)
    else:
        for index, inner in enumerate(value):
            yield from _rows(inner, f"{name}[{index}]", f"{path}[]", members)
