"""``Predictor``: asks an endpoint, with the SDK's calls, and reports what became of its answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.endpoints.capture import EPISODE_ATTRIBUTE, STEP_ATTRIBUTE
from launcher.endpoints.dataset import Report, build_rows, captured_lines, write_csv
from launcher.endpoints.replies import new_id
from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.jobs.store import EndpointStore
from launcher.sdk.deserializers import BaseDeserializer, BytesDeserializer
from launcher.sdk.endpoint_configs import updated_config
from launcher.sdk.serializers import BaseSerializer, IdentitySerializer
from launcher.settings import home_path

if TYPE_CHECKING:
    from launcher.sdk.session import Session

_RENAMED = {
    "content_type": "Give it to the serializer: JSONSerializer(content_type=...).",
    "accept": "Give it to the deserializer: JSONDeserializer(accept=...).",
    "endpoint": "Use endpoint_name.",
}


class Predictor:
    """Asks one endpoint.

    Args:
        endpoint_name: of this home; it may be made later.
        sagemaker_session: default: a new one.
        serializer: what turns values into the body of a request.
        deserializer: what turns the body of an answer into values.
    Raises:
        UnsupportedOptionError: ``component_name`` is given, or an argument that the SDK's class has no more.
    """

    def __init__(
        self,
        endpoint_name: str,
        sagemaker_session: Session | None = None,
        serializer: BaseSerializer | None = None,
        deserializer: BaseDeserializer | None = None,
        component_name: str | None = None,
        **options: Any,
    ) -> None:
        _refuse_component(component_name)
        for name in options:
            raise UnsupportedOptionError(f"Predictor({name}=...) is not emulated.", _RENAMED.get(name, "Leave it out."))
        if sagemaker_session is None:
            from launcher.sdk.session import Session

            sagemaker_session = Session()
        self.endpoint_name = endpoint_name
        self.component_name = None
        self.sagemaker_session = sagemaker_session
        self.serializer = serializer or IdentitySerializer()
        self.deserializer = deserializer or BytesDeserializer()
        self._content_type: str | None = None
        self._accept: str | tuple[str, ...] | None = None
        self._local = threading.local()

    @property
    def content_type(self) -> str:
        """The content type of the requests; the serializer's, unless it was set."""
        return self._content_type or self.serializer.CONTENT_TYPE

    @content_type.setter
    def content_type(self, value: str) -> None:
        self._content_type = value

    @property
    def accept(self) -> str | tuple[str, ...]:
        """The content types that are asked for; the deserializer's, unless they were set."""
        return self._accept or self.deserializer.ACCEPT

    @accept.setter
    def accept(self, value: str | tuple[str, ...]) -> None:
        self._accept = value

    @property
    def last_inference_id(self) -> str | None:
        """The id of this thread's last request, by which a reward is reported. The launcher's own."""
        identity: str | None = getattr(self._local, "inference_id", None)
        return identity

    def predict(
        self,
        data: Any,
        initial_args: Mapping[str, Any] | None = None,
        target_model: str | None = None,
        target_variant: str | None = None,
        inference_id: str | None = None,
        custom_attributes: str | None = None,
        component_name: str | None = None,
        *,
        episode_id: str | int | None = None,
        step: int | None = None,
    ) -> Any:
        """Return what the endpoint answers.

        Args:
            data: what the serializer takes.
            initial_args: arguments of ``invoke_endpoint``, as boto3 has them.
            target_model: not emulated.
            target_variant: the variant that is to answer; None lets the weights decide.
            inference_id: by which a reward is reported later; None has one made, see ``last_inference_id``.
            custom_attributes: text that the container gets, and the log holds.
            episode_id: the episode that this request is a step of. The launcher's own: it goes into the custom
                attributes. Without it a request is an episode by itself.
            step: its number in the episode, from 0; without it the order of the requests counts.
        Raises:
            ModelError: the container answered with an error.
            InvocationError: the endpoint did, or is not there.
            EndpointFailedError: it has failed.
            UnsupportedOptionError: an argument is not emulated.
        """
        arguments = self._arguments(
            initial_args, target_model, target_variant, inference_id, custom_attributes, component_name
        )
        if episode_id is not None or step is not None:
            arguments["CustomAttributes"] = _with_episode(arguments.get("CustomAttributes"), episode_id, step)
        self._local.inference_id = arguments["InferenceId"]
        answer = self._runtime.invoke_endpoint(Body=self.serializer.serialize(data), **arguments)
        return self.deserializer.deserialize(answer["Body"], answer["ContentType"])

    def predict_stream(
        self,
        data: Any,
        initial_args: Mapping[str, Any] | None = None,
        target_variant: str | None = None,
        inference_id: str | None = None,
        custom_attributes: str | None = None,
        component_name: str | None = None,
        target_container_hostname: str | None = None,
        iterator: Any = None,
    ) -> Iterator[Any]:
        """Return the parts of the answer as the container sends them.

        Args:
            iterator: what is made of them, called with the events as boto3 has them; None: bytes.
        """
        arguments = self._arguments(initial_args, None, target_variant, inference_id, custom_attributes, component_name)
        if target_container_hostname is not None:
            arguments["TargetContainerHostname"] = target_container_hostname
        self._local.inference_id = arguments["InferenceId"]
        answer = self._runtime.invoke_endpoint_with_response_stream(Body=self.serializer.serialize(data), **arguments)
        if iterator is not None:
            made: Iterator[Any] = iterator(answer["Body"])
            return made
        return (event["PayloadPart"]["Bytes"] for event in answer["Body"])

    def report_reward(
        self,
        inference_id: str,
        reward: float,
        *,
        terminated: bool | None = None,
        truncated: bool | None = None,
        action: int | None = None,
    ) -> None:
        """Report what became of an answer, for the dataset that its log becomes. The launcher's own.

        Args:
            inference_id: of the request; of a request with several records ``ID/0``, ``ID/1`` and so on.
            reward: of this step.
            terminated: whether the episode ended by itself with this step. A request that names no episode is one by
                itself, which ends unless this is False.
            truncated: whether the episode was cut off after this step.
            action: what was taken, where the answer leaves the draw to the application.
        Raises:
            InvocationError: the endpoint captures nothing.
        """
        given = {"Terminated": terminated, "Truncated": truncated, "Action": None if action is None else int(action)}
        values = {name: value for name, value in given.items() if value is not None}
        self._runtime.report_reward(
            self.endpoint_name, {"InferenceId": inference_id, "Reward": float(reward), **values}
        )

    def write_dataset(self, path: str | os.PathLike[str], default_reward: float | None = None) -> Report:
        """Write what the endpoint captured and the rewards as CSV, as training reads it. The launcher's own.

        Args:
            path: of the file; it is there whole, or not at all.
            default_reward: of requests without a reported one; None leaves them out.
        Returns:
            How many rows there are, and what was left out.
        Raises:
            CaptureError: the endpoint captures nothing, or what it captured are no decisions.
        """
        self.sagemaker_session._refuse_aws("Predictor.write_dataset")
        rows, report = build_rows(captured_lines(EndpointStore(home_path()), self.endpoint_name), default_reward)
        write_csv(rows, Path(path))
        return report

    def update_endpoint(
        self,
        initial_instance_count: int | None = None,
        instance_type: str | None = None,
        accelerator_type: str | None = None,
        model_name: str | None = None,
        tags: Any = None,
        kms_key: str | None = None,
        data_capture_config_dict: Mapping[str, Any] | None = None,
        max_instance_count: int | None = None,
        min_instance_count: int | None = None,
        wait: bool = True,
    ) -> None:
        """Change the endpoint; no request is dropped: new containers answer before the old ones end.

        Args:
            initial_instance_count: of the new variant.
            instance_type: of the new variant; None keeps the one that there is.
            model_name: of the new variant; None keeps the one that there is.
            tags: of the new configuration.
            data_capture_config_dict: a DataCaptureConfig as a request has it; None keeps the one that there is.
            wait: until the new containers answer.
        Raises:
            BadInputError: a value is wrong, or several variants leave open whose it is.
            EndpointFailedError: the new containers never answered; the old ones still do.
        """
        refused: dict[str, Any] = {"accelerator_type": accelerator_type, "kms_key": kms_key}
        refused |= {"max_instance_count": max_instance_count, "min_instance_count": min_instance_count}
        for name, value in refused.items():
            if value is not None:
                raise UnsupportedOptionError(
                    f"update_endpoint({name}={value!r}) is not emulated.",
                    "Leave it out; initial_instance_count says how many containers answer.",
                )
        session = self.sagemaker_session
        config_name = updated_config(
            session._serving,
            self.endpoint_name,
            initial_instance_count,
            instance_type,
            model_name,
            tags,
            data_capture_config_dict,
        )
        session.update_endpoint(self.endpoint_name, config_name, wait=wait)

    def delete_endpoint(self, delete_endpoint_config: bool = True) -> None:
        """End the endpoint; nothing of it is left on this machine when this returns. AWS goes on deleting.

        Args:
            delete_endpoint_config: its configuration as well.
        Raises:
            NotFoundError: there is none.
        """
        serving = self.sagemaker_session._serving
        config_name = serving.config_of(self.endpoint_name)["EndpointConfigName"]
        serving.ask("DeleteEndpoint", EndpointName=self.endpoint_name)
        if delete_endpoint_config and serving.has("EndpointConfig", config_name):
            serving.ask("DeleteEndpointConfig", EndpointConfigName=config_name)

    def delete_predictor(self, wait: bool = False) -> None:
        """End the endpoint, and delete its configuration."""
        self.delete_endpoint()

    def delete_model(self) -> None:
        """Delete the models that the endpoint serves; it goes on all the same.

        Raises:
            NotFoundError: the endpoint, or a model, is not there.
        """
        serving = self.sagemaker_session._serving
        variants = serving.config_of(self.endpoint_name)["ProductionVariants"]
        for name in dict.fromkeys(variant["ModelName"] for variant in variants):
            serving.ask("DeleteModel", ModelName=name)

    @property
    def _runtime(self) -> Any:
        return self.sagemaker_session.sagemaker_runtime_client

    def _arguments(
        self,
        initial_args: Mapping[str, Any] | None,
        target_model: str | None,
        target_variant: str | None,
        inference_id: str | None,
        custom_attributes: str | None,
        component_name: str | None,
    ) -> dict[str, Any]:
        _refuse_component(component_name)
        if target_model is not None:
            raise UnsupportedOptionError(
                f"predict(target_model={target_model!r}) is not emulated: there are no multi-model endpoints.",
                "Deploy an endpoint for each model.",
            )
        accept = self.accept
        arguments = {
            "EndpointName": self.endpoint_name,
            "ContentType": self.content_type,
            "Accept": accept if isinstance(accept, str) else ", ".join(accept),
            **(initial_args or {}),
        }
        for name, value in (
            ("TargetVariant", target_variant),
            ("InferenceId", inference_id),
            ("CustomAttributes", custom_attributes),
        ):
            if value:
                arguments[name] = value
        arguments.setdefault("InferenceId", new_id())
        return arguments


def _with_episode(attributes: str | None, episode_id: str | int | None, step: int | None) -> str:
    """Return custom attributes that say which step of which episode a request is.

    Raises:
        BadInputError: it cannot be said so.
    """
    if episode_id is None:
        raise BadInputError(f"predict(step={step!r}) names no episode.", "Give episode_id as well.")
    text = str(episode_id)
    if not text or not text.isascii() or not text.isprintable() or any(mark in text for mark in ",;="):
        raise BadInputError(f"episode_id={text!r:.60} cannot be sent.", "Use ASCII text without , ; and =.")
    parts = [attributes] if attributes else []
    parts.append(f"{EPISODE_ATTRIBUTE}={text}")
    if step is not None:
        if isinstance(step, bool) or int(step) != step or step < 0:
            raise BadInputError(f"step={step!r} is no number of a step.", "Count from 0.")
        parts.append(f"{STEP_ATTRIBUTE}={int(step)}")
    return ",".join(parts)


def _refuse_component(component_name: str | None) -> None:
    if component_name is not None:
        raise UnsupportedOptionError(
            f"component_name={component_name!r} is not emulated: there are no inference components.",
            "Use production variants, target_variant=...",
        )
