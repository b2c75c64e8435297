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
_NO_DEBUGGER = "print values and read them by metric definitions"
_NO_MODEL_HUB = "name an image or an entry point, and give models and data as channels"


class Member(NamedTuple):
    """A row of the table: it counts for the member and for everything below it that has no row of its own.

    Attributes:
        path: as boto3 names it; ``[]`` stands for each item of a list.
        accepted: the values that are accepted; None accepts every value of the service model.
        instead: what to do in place of another value; empty where all are taken.
    """

    path: str
    accepted: tuple[Any, ...] | None = None
    instead: str = ""


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
        Member(
            "AlgorithmSpecification.TrainingInputMode", ("File",), "Use 'File': local data are mounted, never copied."
        ),
        Member("AlgorithmSpecification.MetricDefinitions"),
        Member("AlgorithmSpecification.ContainerEntrypoint"),
        Member("AlgorithmSpecification.ContainerArguments"),
        Member("AlgorithmSpecification.EnableSageMakerMetricsTimeSeries", (False,), "Use metric definitions."),
        Member(
            "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode",
            ("Platform",),
            "Leave it out: images come from the engine, which holds credentials.",
        ),
        Member(
            "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig",
            (),
            "Leave it out: log the engine in with: docker login",
        ),
        Member("InputDataConfig[].ChannelName"),
        Member("InputDataConfig[].ContentType"),
        Member("InputDataConfig[].InputMode", ("File",), "Use 'File': local data are mounted, never copied."),
        Member("InputDataConfig[].CompressionType", ("None",), "Leave it out: decompress the files before."),
        Member(
            "InputDataConfig[].RecordWrapperType", ("None",), "Leave it out: let the job read the files as they are."
        ),
        Member("InputDataConfig[].ShuffleConfig", (), "Leave it out: shuffle in the job."),
        Member("InputDataConfig[].DataSource.S3DataSource.S3Uri"),
        Member(
            "InputDataConfig[].DataSource.S3DataSource.S3DataType",
            ("S3Prefix",),
            "Leave it out: give a folder that holds just the files wanted.",
        ),
        Member(
            "InputDataConfig[].DataSource.S3DataSource.S3DataDistributionType",
            ("FullyReplicated",),
            "Leave it out: every host gets all of the data.",
        ),
        Member(
            "InputDataConfig[].DataSource.S3DataSource.AttributeNames",
            ([],),
            "Leave it out: let the job read the attributes it wants.",
        ),
        Member(
            "InputDataConfig[].DataSource.S3DataSource.InstanceGroupNames",
            ([],),
            "Leave it out: all hosts are of one group.",
        ),
        Member("InputDataConfig[].DataSource.S3DataSource.ModelAccessConfig", (), "Leave it out: give a local path."),
        Member("InputDataConfig[].DataSource.S3DataSource.HubAccessConfig", (), "Leave it out: give a local path."),
        Member("InputDataConfig[].DataSource.FileSystemDataSource", (), "Give the folder as file:///path."),
        Member("InputDataConfig[].DataSource.DatasetSource", (), "Give the data as file:// or s3://."),
        Member("OutputDataConfig.S3OutputPath"),
        Member("OutputDataConfig.KmsKeyId", ("",), f"Leave it out: {_NO_ENCRYPTION}."),
        Member(
            "OutputDataConfig.CompressionType",
            ("GZIP",),
            "Leave it out; latest_training_job.outputs.model_path is unpacked.",
        ),
        Member("ResourceConfig.InstanceType"),
        Member("ResourceConfig.InstanceCount"),
        Member("ResourceConfig.VolumeSizeInGB", (30,), "Leave it out: the job uses the disk of LAUNCHER_HOME."),
        Member("ResourceConfig.VolumeKmsKeyId", ("",), f"Leave it out: {_NO_ENCRYPTION}."),
        Member(
            "ResourceConfig.KeepAlivePeriodInSeconds",
            (0,),
            "Leave it out: a local job starts in a fraction of a second.",
        ),
        Member("ResourceConfig.InstanceGroups", ([],), "Use one instance type and a count."),
        Member("ResourceConfig.InstancePreferences", (), "Use one instance type and a count."),
        Member("ResourceConfig.SelectedInstanceType", (), "Use InstanceType."),
        Member("ResourceConfig.SelectedInstanceCount", (), "Use InstanceCount."),
        Member("ResourceConfig.TrainingPlanArn", (), "Leave it out: this machine needs no reservation."),
        Member("ResourceConfig.InstancePlacementConfig", (), "Leave it out: there is one machine."),
        Member("StoppingCondition.MaxRuntimeInSeconds"),
        Member(
            "StoppingCondition.MaxWaitTimeInSeconds",
            (),
            "Leave it out and limit the run time: a local job waits for nothing.",
        ),
        Member("StoppingCondition.MaxPendingTimeInSeconds", (), "Leave it out: a local job waits for nothing."),
        Member("CheckpointConfig"),
        Member("EnableNetworkIsolation"),
        Member("EnableInterContainerTrafficEncryption", (False,), "Leave it out: there is one host."),
        Member(
            "EnableManagedSpotTraining", (False,), "Leave it out: nothing interrupts a local job; stop it to test that."
        ),
        Member("VpcConfig", (), f"Leave it out: {_SAME_MACHINE}."),
        # The SDK sends the next two with every job; so little of them asks for nothing.
        Member("DebugHookConfig.S3OutputPath"),
        Member("DebugHookConfig.LocalPath"),
        Member("DebugHookConfig.HookParameters", ({},), f"Leave it out: {_NO_DEBUGGER}."),
        Member("DebugHookConfig.CollectionConfigurations", ([],), f"Leave it out: {_NO_DEBUGGER}."),
        Member("ProfilerConfig.S3OutputPath"),
        Member("ProfilerConfig.DisableProfiler"),
        Member("ProfilerConfig.ProfilingIntervalInMilliseconds"),
        Member("ProfilerConfig.ProfilingParameters", ({},), "Leave it out, or run a profiler in the entry point."),
        Member("DebugRuleConfigurations", ([],), f"Leave it out: {_NO_DEBUGGER}."),
        Member("ProfilerRuleConfigurations", ([],), "Leave it out, or run a profiler in the entry point."),
        Member("TensorBoardOutputConfig", (), "Write event files to /opt/ml/output/data."),
        Member("ExperimentConfig", ({},), "Leave it out: a job's metrics are in its folder, under its name."),
        Member("RetryStrategy", (), "Leave it out: a job that fails here fails again."),
        Member(
            "RemoteDebugConfig.EnableRemoteDebug",
            (False,),
            "Leave it out: the process is on this machine, attach to it directly.",
        ),
        Member("InfraCheckConfig.EnableInfraCheck", (False,), "Leave it out; check this machine with: launcher doctor"),
        Member("SessionChainingConfig.EnableSessionTagChaining", (False,), "Leave it out: there is no session to tag."),
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
        Member("ResourceConfig.KeepAlivePeriodInSeconds", (0,), "Give 0: nothing is kept after a job."),
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
        if row.accepted is not None and not is_accepted(row.accepted, value):
            raise UnsupportedOptionError(f"{name}={value!r:.80} is not emulated.", row.instead)


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
