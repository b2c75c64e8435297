"""The options of the SDK's processors: the member that each becomes, and those that raise."""

from __future__ import annotations

from launcher.sdk.options import Option

_NO_ENCRYPTION = "Leave it out: what the job writes stays on this machine's disk; encrypt that."
_CLUSTER = "ProcessingResources.ClusterConfig"


def _refused(name: str, instead: str) -> Option:
    return Option(name, accepted=(None,), instead=instead)


PROCESSOR_OPTIONS = (
    Option("role", member="RoleArn", kind="text"),
    Option("image_uri", member="AppSpecification.ImageUri", kind="text"),
    Option("instance_count", member=f"{_CLUSTER}.InstanceCount", kind="anything"),
    Option("instance_type", member=f"{_CLUSTER}.InstanceType", kind="text"),
    Option("entrypoint", member="AppSpecification.ContainerEntrypoint", kind="anything"),
    Option("volume_size_in_gb", member=f"{_CLUSTER}.VolumeSizeInGB", kind="anything", optional=False),
    Option("max_runtime_in_seconds", member="StoppingCondition.MaxRuntimeInSeconds", kind="anything"),
    Option("base_job_name", kind="text"),
    Option("env", member="Environment", kind="mapping"),
    Option("tags", member="Tags", kind="anything"),
    Option("volume_kms_key", member=f"{_CLUSTER}.VolumeKmsKeyId", kind="text"),
    Option("output_kms_key", member="ProcessingOutputConfig.KmsKeyId", kind="text"),
)
PROCESSOR_RUN_OPTIONS = (
    Option("job_name", member="ProcessingJobName", kind="text"),
    Option("arguments", member="AppSpecification.ContainerArguments", kind="anything"),
    Option("experiment_config", member="ExperimentConfig", kind="mapping"),
    _refused("kms_key", _NO_ENCRYPTION),
    _refused("git_config", "Clone the repository and give source_dir."),
    _refused("code_location", "Leave it out: the program goes beside the outputs."),
)
