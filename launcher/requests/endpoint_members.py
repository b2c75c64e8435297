"""What happens here to each member of CreateEndpointConfig, CreateEndpoint and both updates, as in ``members.py``."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.requests.members import Member
from launcher.requests.shapes import OWN_MEMBER

_NO_ENCRYPTION = "Leave it out: what the endpoint writes stays on this machine's disk; encrypt that."
_ONE_MACHINE = "Leave it out: the containers run on this machine."
_VARIANT = "ProductionVariants[]"
_ROUTING = "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration"


def _table(*rows: Member) -> Mapping[str, Member]:
    return {row.path: row for row in rows}


CONFIG_MEMBERS = _table(
    Member("EndpointConfigName"),
    *(
        Member(f"{_VARIANT}.{name}")
        for name in (
            *("VariantName", "ModelName", "InitialInstanceCount", "InstanceType", "InitialVariantWeight"),
            *("ContainerStartupHealthCheckTimeoutInSeconds", "ModelDataDownloadTimeoutInSeconds", "VolumeSizeInGB"),
            # A container that is always up serves what a serverless one does; the record says so.
            "ServerlessConfig",
        )
    ),
    Member(f"{_VARIANT}.AcceleratorType", (), "Leave it out: accelerators are not emulated."),
    Member(f"{_VARIANT}.CoreDumpConfig", (), "Leave it out: see the container's log with: launcher endpoints logs"),
    Member(f"{_VARIANT}.InstancePools", (), _ONE_MACHINE),
    Member(f"{_VARIANT}.VariantInstanceProvisionTimeoutInSeconds", (), _ONE_MACHINE),
    Member(f"{_VARIANT}.EnableSSMAccess", (False,), "Leave it out: docker exec -it CONTAINER sh opens a shell."),
    Member(
        f"{_VARIANT}.ManagedInstanceScaling",
        (),
        "Leave it out: autoscaling is not emulated; set InitialInstanceCount, or update the endpoint.",
    ),
    Member(
        f"{_VARIANT}.RoutingConfig.RoutingStrategy",
        ("LEAST_OUTSTANDING_REQUESTS", "RANDOM"),
        "Leave it out: a request goes to the container with the fewest under way.",
    ),
    Member(f"{_VARIANT}.RoutingConfig.PrefixAwareRoutingConfig", (), "Leave it out."),
    Member(f"{_VARIANT}.InferenceAmiVersion", (), _ONE_MACHINE),
    Member(f"{_VARIANT}.CapacityReservationConfig", (), _ONE_MACHINE),
    Member(f"{_VARIANT}.AcceleratorPartitionLayouts", (), _ONE_MACHINE),
    Member("DataCaptureConfig.EnableCapture"),
    Member("DataCaptureConfig.InitialSamplingPercentage"),
    Member("DataCaptureConfig.DestinationS3Uri"),
    Member("DataCaptureConfig.CaptureOptions"),
    Member("DataCaptureConfig.CaptureContentTypeHeader"),
    Member("DataCaptureConfig.KmsKeyId", ("",), _NO_ENCRYPTION),
    Member("Tags"),
    Member("KmsKeyId", ("",), _NO_ENCRYPTION),
    Member("AsyncInferenceConfig.ClientConfig"),
    Member("AsyncInferenceConfig.OutputConfig.S3OutputPath"),
    Member("AsyncInferenceConfig.OutputConfig.S3FailurePath"),
    Member("AsyncInferenceConfig.OutputConfig.KmsKeyId", ("",), _NO_ENCRYPTION),
    Member(
        "AsyncInferenceConfig.OutputConfig.NotificationConfig",
        ({},),
        "Leave it out: there are no topics; wait for the object at OutputLocation.",
    ),
    Member("ExplainerConfig", (), "Leave it out: explanations are not emulated."),
    Member("ShadowProductionVariants", ([],), "Leave it out: use production variants with weights."),
    Member("ExecutionRoleArn"),
    Member("VpcConfig", (), f"{_ONE_MACHINE} Network isolation takes the network away."),
    Member("EnableNetworkIsolation"),
    Member("MetricsConfig", ({},), "Leave it out: count the captured answers."),
    Member("CrossRegionTrafficConfig", (), _ONE_MACHINE),
    Member(OWN_MEMBER),
)
ENDPOINT_MEMBERS = _table(
    Member("EndpointName"),
    Member("EndpointConfigName"),
    Member("Tags"),
    # Every update here is a blue/green one: all new containers are up before the old ones go.
    Member(
        "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration.Type", ("ALL_AT_ONCE",), "Leave it out."
    ),
    Member(f"{_ROUTING}.WaitIntervalInSeconds"),
    Member(f"{_ROUTING}.CanarySize", (), "Leave it out."),
    Member(f"{_ROUTING}.LinearStepSize", (), "Leave it out."),
    Member("DeploymentConfig.BlueGreenUpdatePolicy.TerminationWaitInSeconds"),
    Member("DeploymentConfig.BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds"),
    Member("DeploymentConfig.RollingUpdatePolicy", (), "Leave it out: new containers are up before the old ones go."),
    Member("DeploymentConfig.AutoRollbackConfiguration", ({},), "Leave it out: there are no alarms here."),
    Member("RetainAllVariantProperties", (False,), "Leave it out: the new configuration holds what is wanted."),
    Member("ExcludeRetainedVariantProperties", ([],), "Leave it out."),
    Member("RetainDeploymentConfig", (False,), "Leave it out."),
    Member(OWN_MEMBER),
)
WEIGHTS_MEMBERS = _table(
    Member("EndpointName"),
    Member("DesiredWeightsAndCapacities[].VariantName"),
    Member("DesiredWeightsAndCapacities[].DesiredWeight"),
    Member("DesiredWeightsAndCapacities[].DesiredInstanceCount"),
    Member(
        "DesiredWeightsAndCapacities[].ServerlessUpdateConfig",
        ({},),
        "Leave it out: a serverless variant is one container here, which takes any number of requests at once.",
    ),
)
