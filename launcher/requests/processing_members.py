"""What happens here to each member of CreateProcessingJob; ``members.py`` says how the table is read.

Every member of the service model is below one of the rows; a member without limits on its row is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.requests.members import Member
from launcher.requests.shapes import OWN_MEMBER

_NO_ENCRYPTION = "what the job writes stays on this machine's disk; encrypt that"
_ONE_TYPE = "Use InstanceType and InstanceCount."

PROCESSING_MEMBERS: Mapping[str, Member] = {
    row.path: row
    for row in (
        Member("ProcessingJobName"),
        Member("RoleArn"),
        Member("Environment"),
        Member("Tags"),
        Member("AppSpecification.ImageUri"),
        Member("AppSpecification.ContainerEntrypoint"),
        Member("AppSpecification.ContainerArguments"),
        Member("ProcessingInputs[].InputName"),
        Member("ProcessingInputs[].AppManaged"),
        Member("ProcessingInputs[].S3Input.S3Uri"),
        Member("ProcessingInputs[].S3Input.LocalPath"),
        Member("ProcessingInputs[].S3Input.S3DataType"),
        Member("ProcessingInputs[].S3Input.S3InputMode"),
        Member("ProcessingInputs[].S3Input.S3DataDistributionType"),
        Member("ProcessingInputs[].S3Input.S3CompressionType"),
        Member(
            "ProcessingInputs[].DatasetDefinition",
            (),
            "This machine has neither Athena nor Redshift: run the query, and give what it returned as an S3Input.",
        ),
        Member("ProcessingOutputConfig.Outputs[].OutputName"),
        Member("ProcessingOutputConfig.Outputs[].AppManaged"),
        Member("ProcessingOutputConfig.Outputs[].S3Output"),
        Member(
            "ProcessingOutputConfig.Outputs[].FeatureStoreOutput", (), "Leave it out: write files, and give S3Output."
        ),
        Member("ProcessingOutputConfig.KmsKeyId", ("",), _NO_ENCRYPTION, noted=True),
        Member("ProcessingResources.ClusterConfig.InstanceCount"),
        Member("ProcessingResources.ClusterConfig.InstanceType"),
        Member(
            "ProcessingResources.ClusterConfig.VolumeSizeInGB",
            (30,),
            "the job uses the disk of LAUNCHER_HOME",
            noted=True,
        ),
        Member("ProcessingResources.ClusterConfig.VolumeKmsKeyId", ("",), _NO_ENCRYPTION, noted=True),
        Member("ProcessingResources.ClusterConfig.InstancePreferences", (), _ONE_TYPE),
        Member("ProcessingResources.ClusterConfig.SelectedInstanceType", (), _ONE_TYPE),
        Member("ProcessingResources.ClusterConfig.SelectedInstanceCount", (), _ONE_TYPE),
        Member("StoppingCondition.MaxRuntimeInSeconds"),
        Member("NetworkConfig.EnableNetworkIsolation"),
        Member(
            "NetworkConfig.EnableInterContainerTrafficEncryption",
            (False,),
            "what the hosts send each other stays on this machine",
            noted=True,
        ),
        Member(
            "NetworkConfig.VpcConfig",
            (),
            "the job runs on this machine, as you; network isolation takes the network away",
            noted=True,
        ),
        Member("ExperimentConfig", ({},), "a job's record is in its folder, under its name", noted=True),
        Member(OWN_MEMBER),
    )
}
