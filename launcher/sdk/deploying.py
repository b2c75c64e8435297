"""``deploy()``: from a model's name to an endpoint that answers, by documents as boto3 takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, RemoteRequestError, TakenError, UnsupportedOptionError
from launcher.requests.names import make_job_name
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import s3_member
from launcher.sdk.async_inference import AsyncInferenceConfig, AsyncPredictor
from launcher.sdk.data_capture import DataCaptureConfig
from launcher.sdk.deserializers import BaseDeserializer
from launcher.sdk.endpoint_configs import next_name, tag_members
from launcher.sdk.predictor import Predictor
from launcher.sdk.serializers import BaseSerializer
from launcher.sdk.serverless import ServerlessInferenceConfig

if TYPE_CHECKING:
    from launcher.sdk.session import Session

ALL_TRAFFIC = "AllTraffic"
_INSTEAD = {
    "accelerator_type": "Leave it out: accelerators are not emulated.",
    "kms_key": "Leave it out: what the endpoint writes stays on this machine's disk; encrypt that.",
    "inference_recommendation_id": "Leave it out: there are no recommendations here.",
    "explainer_config": "Leave it out: explanations are not emulated.",
    "resources": "Leave it out: there are no inference components; a container has this machine's resources.",
    "managed_instance_scaling": "Leave it out: autoscaling is not emulated; give initial_instance_count.",
    "inference_component_name": "Leave it out: use production variants.",
    "routing_config": "Leave it out: a request goes to the container with the fewest under way.",
    "model_reference_arn": "Leave it out: give model_data.",
    "inference_ami_version": "Leave it out: the endpoint runs on this machine.",
    "use_compiled_model": "Leave it out: models are not compiled.",
    "endpoint_type": "Leave it out: endpoints are of production variants.",
    "accept_eula": "Leave it out: models of the hub are not emulated.",
}


def deploy(
    model_name: str,
    session: Session,
    *,
    initial_instance_count: int | None = None,
    instance_type: str | None = None,
    serializer: BaseSerializer | None = None,
    deserializer: BaseDeserializer | None = None,
    endpoint_name: str | None = None,
    base_name: str = "endpoint",
    tags: Any = None,
    wait: bool = True,
    data_capture_config: DataCaptureConfig | None = None,
    async_inference_config: AsyncInferenceConfig | None = None,
    serverless_inference_config: ServerlessInferenceConfig | None = None,
    volume_size: int | None = None,
    model_data_download_timeout: int | None = None,
    container_startup_health_check_timeout: int | None = None,
    endpoint_logging: bool = False,
    update_endpoint: bool = False,
    predictor_cls: Any = None,
    runtime: str = "auto",
    **refused: Any,
) -> Any:
    """Make an endpoint of a model, and return what asks it: a Predictor, or an AsyncPredictor.

    Args:
        model_name: a model of the session's place.
        session: whose buckets are meant.
        base_name: what the endpoint's name begins with where none is given.
        wait: until it answers.
        endpoint_logging: taken and not needed: ``launcher endpoints logs -f`` follows the log.
        update_endpoint: exchange what the endpoint serves, if there is one of that name.
        predictor_cls: called with name and session in place of ``Predictor``.
        runtime: of the containers.
        refused: options of the SDK's that are not emulated.
    Raises:
        BadInputError: the endpoint cannot be made so.
        EndpointFailedError: it was, and its containers do not answer.
    """
    refuse_options(refused)
    serving = session._serving
    name = endpoint_name or make_job_name(base_name)
    variant: dict[str, Any] = {"VariantName": ALL_TRAFFIC, "ModelName": model_name, "InitialVariantWeight": 1}
    if serverless_inference_config is not None:
        variant["ServerlessConfig"] = serverless_inference_config.to_request_dict()
    else:
        check_instances(initial_instance_count, instance_type, serverless_inference_config)
        variant |= {"InitialInstanceCount": initial_instance_count, "InstanceType": instance_type}
    for member, value in (
        ("VolumeSizeInGB", volume_size),
        ("ModelDataDownloadTimeoutInSeconds", model_data_download_timeout),
        ("ContainerStartupHealthCheckTimeoutInSeconds", container_startup_health_check_timeout),
    ):
        if value is not None:
            variant[member] = value
    request: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [variant],
        OWN_MEMBER: {"S3": session_s3(session)},
    }
    if data_capture_config is not None:
        request["DataCaptureConfig"] = data_capture_config.to_request_dict(session)
    if async_inference_config is not None:
        request["AsyncInferenceConfig"] = async_inference_config.to_request_dict(session)
    if tags:
        request["Tags"] = tag_members(tags)
    exists = serving.has("Endpoint", name)
    if exists and not update_endpoint:
        hint = "Choose another name, or give update_endpoint=True."
        raise TakenError(f'Cannot create already existing endpoint "{name}".', hint)
    if serving.has("EndpointConfig", name):
        request["EndpointConfigName"] = next_name(name)
    serving.ask("CreateEndpointConfig", **request)
    asked: dict[str, Any] = {"EndpointName": name, "EndpointConfigName": request["EndpointConfigName"]}
    update = ""
    try:
        if exists:
            update = serving.update(name, request["EndpointConfigName"])
        else:
            tag_list = {"Tags": request["Tags"]} if "Tags" in request else {}
            serving.ask("CreateEndpoint", **asked, **tag_list, **{OWN_MEMBER: {"Runtime": runtime}})
    except (BadInputError, RemoteRequestError):
        serving.ask("DeleteEndpointConfig", EndpointConfigName=request["EndpointConfigName"])
        raise
    if wait:
        serving.wait(name, update)
    predictor = (predictor_cls or Predictor)(name, session)
    if serializer is not None:
        predictor.serializer = serializer
    if deserializer is not None:
        predictor.deserializer = deserializer
    return AsyncPredictor(predictor, name) if async_inference_config is not None else predictor


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse options of the SDK's that ask for something that is not emulated.

    Raises:
        UnsupportedOptionError: one of them has a value.
    """
    for name, value in options.items():
        if value:
            raise UnsupportedOptionError(
                f"deploy({name}={value!r:.60}) is not emulated.", _INSTEAD.get(name, "Leave it out.")
            )


def check_instances(count: int | None, instance_type: str | None, serverless: object | None) -> None:
    """Refuse a deployment that does not say on what.

    Raises:
        BadInputError: count or type is missing, and it is not serverless.
    """
    if serverless is None and (count is None or instance_type is None):
        raise BadInputError(
            "deploy() needs initial_instance_count and instance_type.", 'For example: deploy(1, "ml.m5.large")'
        )


def session_s3(session: Session) -> dict[str, str]:
    """Return which S3 a session means, as a request has it."""
    return s3_member(session.s3.to_dict())
