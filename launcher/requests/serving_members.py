"""What happens here to each member of CreateModel and CreateTransformJob; ``members.py`` says how the tables are read.

Every member of the service model is below one of the rows; a member without limits on its row is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.requests.members import Member
from launcher.requests.shapes import OWN_MEMBER

_NO_ENCRYPTION = "what the job writes stays on this machine's disk; encrypt that"
_NO_REGISTRY = "Name its image in Image and its archive in ModelDataUrl."


def _table(*rows: Member) -> Mapping[str, Member]:
    return {row.path: row for row in rows}


def _of_model_data(path: str) -> Iterator[Member]:
    for name in ("S3Uri", "S3DataType", "CompressionType"):
        yield Member(f"{path}.{name}")
    yield Member(f"{path}.ModelAccessConfig.AcceptEula")
    yield Member(f"{path}.HubAccessConfig", (), "Leave it out: give a local path.")
    yield Member(f"{path}.ManifestS3Uri", (), "Leave it out: give a prefix that holds just the files wanted.")
    yield Member(f"{path}.ETag", (), "Leave it out: what lies there now is taken.")
    yield Member(f"{path}.ManifestEtag", (), "Leave it out: what lies there now is taken.")


def _of_container(path: str) -> Iterator[Member]:
    for name in ("ContainerHostname", "Image", "ModelDataUrl", "Environment"):
        yield Member(f"{path}.{name}")
    yield from _of_model_data(f"{path}.ModelDataSource.S3DataSource")
    yield Member(
        f"{path}.ImageConfig.RepositoryAccessMode",
        ("Platform",),
        "Leave it out: images come from the engine, which holds credentials.",
    )
    yield Member(f"{path}.ImageConfig.RepositoryAuthConfig", (), "Leave it out: log the engine in with: docker login")
    yield Member(f"{path}.Mode", ("SingleModel",), "Give each model an endpoint or a transform job of its own.")
    yield Member(f"{path}.MultiModelConfig", (), "Give each model an endpoint or a transform job of its own.")
    yield Member(f"{path}.AdditionalModelDataSources", ([],), "Leave it out: pack everything into one model.tar.gz.")
    yield Member(f"{path}.ModelPackageName", (), _NO_REGISTRY)
    yield Member(f"{path}.InferenceSpecificationName", (), _NO_REGISTRY)
    yield Member(f"{path}.ContainerMetricsConfig", ({},), "Leave it out: read what the container prints.")


MODEL_MEMBERS = _table(
    Member("ModelName"),
    Member("ExecutionRoleArn"),
    Member("Tags"),
    Member("EnableNetworkIsolation"),
    *_of_container("PrimaryContainer"),
    *_of_container("Containers[]"),
    Member("InferenceExecutionConfig.Mode", ("Serial",), "Leave it out: a model has one container."),
    Member("VpcConfig", (), "Leave it out: the model runs on this machine; network isolation takes the network away."),
    Member(OWN_MEMBER),
)
TRANSFORM_MEMBERS = _table(
    Member("TransformJobName"),
    Member("ModelName"),
    Member("MaxConcurrentTransforms"),
    Member("MaxPayloadInMB"),
    Member("BatchStrategy"),
    Member("ModelClientConfig"),
    Member("Environment"),
    Member("TransformInput.DataSource.S3DataSource.S3Uri"),
    Member(
        "TransformInput.DataSource.S3DataSource.S3DataType",
        ("S3Prefix", "ManifestFile"),
        "Use 'S3Prefix' or 'ManifestFile'.",
    ),
    Member("TransformInput.ContentType"),
    Member("TransformInput.CompressionType"),
    Member("TransformInput.SplitType"),
    Member("TransformOutput.S3OutputPath"),
    Member("TransformOutput.Accept"),
    Member("TransformOutput.AssembleWith"),
    Member("TransformOutput.KmsKeyId", ("",), f"Leave it out: {_NO_ENCRYPTION}."),
    Member(
        "DataCaptureConfig", (), "Leave it out: join_source='Input' puts each record beside its answer in the output."
    ),
    Member("TransformResources.InstanceType"),
    Member("TransformResources.InstanceCount"),
    Member("TransformResources.VolumeKmsKeyId", ("",), f"Leave it out: {_NO_ENCRYPTION}."),
    Member("TransformResources.TransformAmiVersion", (), "Leave it out: the job runs on this machine."),
    Member("DataProcessing"),
    Member("Tags"),
    Member("ExperimentConfig", ({},), "Leave it out: a job's record is in its folder, under its name."),
    Member(OWN_MEMBER),
)
