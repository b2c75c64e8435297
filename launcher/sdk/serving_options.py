"""The options of the SDK's ``Model`` and ``Transformer``: the member that each becomes, and those that raise."""

from __future__ import annotations

from launcher.sdk.options import Option

_NO_ENCRYPTION = "Leave it out: what the job writes stays on this machine's disk; encrypt that."
_SAME_MACHINE = "Leave it out: the model runs on this machine; network isolation takes the network away."


def _refused(name: str, instead: str, *accepted: object) -> Option:
    return Option(name, accepted=(None, *accepted), instead=instead)


MODEL_OPTIONS = (
    Option("image_uri", member="PrimaryContainer.Image", kind="text"),
    Option("model_data", member="PrimaryContainer.ModelDataUrl", kind="anything"),
    Option("role", member="ExecutionRoleArn", kind="text"),
    Option("env", member="PrimaryContainer.Environment", kind="mapping"),
    Option("name", member="ModelName", kind="text"),
    Option("enable_network_isolation", member="EnableNetworkIsolation", kind="boolean"),
    Option("source_dir", kind="path"),
    Option("entry_point", kind="path"),
    Option("dependencies", kind="paths"),
    Option("code_location", kind="path"),
    Option("container_log_level", kind="level"),
    _refused("vpc_config", _SAME_MACHINE),
    _refused("model_kms_key", _NO_ENCRYPTION),
    _refused("image_config", "Leave it out: images come from the engine; log it in with: docker login"),
    _refused("git_config", "Clone the repository and give source_dir."),
    _refused("resources", "Leave it out: the model uses this machine as it is."),
)
TRANSFORMER_OPTIONS = (
    Option("model_name", member="ModelName", kind="text", optional=False),
    Option("instance_count", member="TransformResources.InstanceCount", kind="anything"),
    Option("instance_type", member="TransformResources.InstanceType", kind="text"),
    Option("strategy", member="BatchStrategy", kind="text"),
    Option("assemble_with", member="TransformOutput.AssembleWith", kind="text"),
    Option("output_path", member="TransformOutput.S3OutputPath", kind="path"),
    Option("accept", member="TransformOutput.Accept", kind="text"),
    Option("max_concurrent_transforms", member="MaxConcurrentTransforms", kind="anything"),
    Option("max_payload", member="MaxPayloadInMB", kind="anything"),
    Option("tags", member="Tags", kind="anything"),
    Option("env", member="Environment", kind="mapping"),
    Option("base_transform_job_name", kind="text"),
    _refused("output_kms_key", _NO_ENCRYPTION),
    _refused("volume_kms_key", _NO_ENCRYPTION),
)
TRANSFORM_OPTIONS = (
    Option("data", member="TransformInput.DataSource.S3DataSource.S3Uri", kind="path", optional=False),
    Option("data_type", member="TransformInput.DataSource.S3DataSource.S3DataType", kind="text", optional=False),
    Option("content_type", member="TransformInput.ContentType", kind="text"),
    Option("compression_type", member="TransformInput.CompressionType", kind="text"),
    Option("split_type", member="TransformInput.SplitType", kind="text"),
    Option("job_name", member="TransformJobName", kind="text"),
    Option("input_filter", member="DataProcessing.InputFilter", kind="text"),
    Option("output_filter", member="DataProcessing.OutputFilter", kind="text"),
    Option("join_source", member="DataProcessing.JoinSource", kind="text"),
    Option("model_client_config", member="ModelClientConfig", kind="mapping"),
    _refused("experiment_config", "Leave it out: a job's record is in its folder, under its name.", {}),
    _refused("batch_data_capture_config", "Leave it out: join_source='Input' puts each record beside its answer."),
)
