"""Documents of endpoints as boto3 takes them, and the SDK's arguments that become them."""

import boto3
import pytest

import launcher
from launcher.endpoints import service
from launcher.errors import BadInputError, RequestError, UnsupportedOptionError
from launcher.jobs.store import EndpointConfigStore, ModelStore
from launcher.requests.endpoints import (
    check_config_request,
    check_endpoint_request,
    check_weights_request,
    describe_config,
)
from launcher.sdk.predictor import Predictor
from launcher.serving.models import create_model

VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "local", "InitialInstanceCount": 1}


def config(**members):
    return {"EndpointConfigName": "c", "ProductionVariants": [VARIANT], **members}


def variant(**members):
    return config(ProductionVariants=[{**VARIANT, **members}])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (config(EndpointConfigName="a_b"), "Value 'a_b' at 'endpointConfigName' failed to satisfy constraint"),
        (variant(InstanceType="ml.none"), "Member must satisfy enum value set"),
        (variant(InitialInstanceCount=0), "greater than or equal to 1"),
        (config(ProductionVariants=[VARIANT, VARIANT]), "two production variants have one name"),
        (variant(InitialVariantWeight=0.0), "no production variant has a weight above 0"),
        (config(ProductionVariants=[{"VariantName": "v", "InstanceType": "local"}]), "names no model"),
    ],
)
def test_a_configuration_keeps_awss_limits(request_, words):
    with pytest.raises(RequestError) as raised:
        check_config_request(request_)
    assert words in raised.value.aws_message


@pytest.mark.parametrize(
    "request_",
    [
        variant(ManagedInstanceScaling={"Status": "ENABLED"}),
        variant(AcceleratorType="ml.eia1.medium"),
        config(ShadowProductionVariants=[VARIANT]),
        config(KmsKeyId="key"),
        config(ExplainerConfig={"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}}),
    ],
)
def test_what_is_not_emulated_raises_by_name(request_):
    with pytest.raises(UnsupportedOptionError, match="is not emulated"):
        check_config_request(request_)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([{"VariantName": "v", "DesiredWeight": -1.0}], "greater than or equal to 0"),
        ([{"VariantName": "v", "DesiredInstanceCount": 0}], "variant 'v' would have no container"),
        ([{"VariantName": "v"}, {"VariantName": "v"}], "named twice"),
        ([{"VariantName": "v", "ServerlessUpdateConfig": {"MaxConcurrency": 5}}], "is not emulated"),
    ],
)
def test_weights_keep_awss_limits(members, words):
    with pytest.raises(BadInputError) as raised:
        check_weights_request({"EndpointName": "e", "DesiredWeightsAndCapacities": members})
    assert words in getattr(raised.value, "aws_message", str(raised.value))


def test_canary_updates_raise_by_name():
    routing = {"Type": "CANARY", "WaitIntervalInSeconds": 5}
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    request = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": policy}
    with pytest.raises(UnsupportedOptionError, match="CANARY"):
        check_endpoint_request(request, "UpdateEndpoint")


def test_a_description_has_boto3s_shape_and_what_was_asked_for(home, tmp_path):
    create_model({"ModelName": "m", "PrimaryContainer": {}}, ModelStore(home))
    asked = config(
        DataCaptureConfig={
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"file://{tmp_path}/log",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
        Tags=[{"Key": "a", "Value": "b"}],
    )
    service.create_config(asked, home)
    description = describe_config(EndpointConfigStore(home).load("c"))
    shape = boto3.client("sagemaker", region_name="us-east-1").meta.service_model.operation_model(
        "DescribeEndpointConfig"
    )
    assert set(description) <= set(shape.output_shape.members)
    assert description["DataCaptureConfig"] == asked["DataCaptureConfig"]
    assert description["ProductionVariants"] == [{**VARIANT, "InitialVariantWeight": 1.0}]


def test_a_serverless_variant_is_taken_with_a_warning(home):
    create_model({"ModelName": "m", "PrimaryContainer": {}}, ModelStore(home))
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    serverless_variant = {"VariantName": "v", "ModelName": "m", "ServerlessConfig": serverless}
    service.create_config(config(ProductionVariants=[serverless_variant]), home)
    assert "one container, which is always up" in EndpointConfigStore(home).load("c").warnings[0]


@pytest.mark.parametrize(
    "options",
    [
        {"accelerator_type": "ml.eia1.medium"},
        {"kms_key": "key"},
        {"managed_instance_scaling": {"min": 1}},
        {"inference_component_name": "c"},
        {"explainer_config": object()},
    ],
)
def test_arguments_of_deploy_that_are_not_emulated_raise_by_name(tmp_path, options):
    (tmp_path / "model").mkdir()
    with pytest.raises(UnsupportedOptionError, match=next(iter(options))):
        launcher.Model(model_data=str(tmp_path / "model")).deploy(1, "local", **options)


def test_deploy_says_what_it_needs(tmp_path, home):
    (tmp_path / "model").mkdir()
    with pytest.raises(BadInputError, match="initial_instance_count and instance_type"):
        launcher.Model(model_data=str(tmp_path / "model")).deploy()
    assert ModelStore(home).names() == []


def test_a_predictor_refuses_what_has_no_counterpart():
    with pytest.raises(UnsupportedOptionError, match="content_type"):
        Predictor("e", content_type="text/csv")
    with pytest.raises(UnsupportedOptionError, match="component_name"):
        Predictor("e", component_name="c")
    with pytest.raises(UnsupportedOptionError, match="multi-model"):
        Predictor("e").predict(b"", target_model="m")
    with pytest.raises(UnsupportedOptionError, match="max_instance_count"):
        Predictor("e").update_endpoint(max_instance_count=2)
    with pytest.raises(BadInputError, match="names no episode"):
        Predictor("e").predict(b"", step=1)
    with pytest.raises(BadInputError, match="cannot be sent"):
        Predictor("e").predict(b"", episode_id="a,b")


def test_a_data_capture_config_has_the_sdks_defaults(tmp_path):
    request = launcher.DataCaptureConfig(True).to_request_dict(launcher.Session())
    assert request["InitialSamplingPercentage"] == 20
    assert request["DestinationS3Uri"].endswith("/model-monitor/data-capture")
    assert request["CaptureOptions"] == [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
    with pytest.raises(BadInputError, match="'BOTH' is none"):
        launcher.DataCaptureConfig(True, capture_options=["BOTH"])
