"""``Model``: the SDK's, as a translator to CreateModel."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import BadInputError, TakenError, UnsupportedOptionError
from launcher.paths import make_private
from launcher.requests.names import make_job_name
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import s3_member
from launcher.running import artifacts
from launcher.running.source import check_source, list_members
from launcher.runtimes import Runtime
from launcher.sdk.options import check_options, in_sdk_words
from launcher.sdk.roles import role_in
from launcher.sdk.serving_options import MODEL_OPTIONS
from launcher.sdk.session import Session, check_session
from launcher.sdk.training_job import TrainingJob
from launcher.sdk.transformer import Transformer
from launcher.settings import AWS_MODE, REGION, home_path
from launcher.storage import to_uri
from launcher.terminal import say_error

if TYPE_CHECKING:
    from launcher.sdk.async_inference import AsyncInferenceConfig
    from launcher.sdk.data_capture import DataCaptureConfig
    from launcher.sdk.deserializers import BaseDeserializer
    from launcher.sdk.serializers import BaseSerializer
    from launcher.sdk.serverless import ServerlessInferenceConfig

_CODE = "/opt/ml/model/code"


class Model:
    """An image and the model that it serves, with the arguments that the SDK has.

    Args:
        image_uri: an image that follows the serving contract; None takes the bundled one.
        model_data: a ``model.tar.gz``, by a path or a URI; a folder is served as it is. A
            ``TrainingJob`` stands for its own.
        role: kept and described; nothing here asks for permission.
        predictor_cls: what ``deploy`` returns.
        env: variables for the container.
        name: default: made from the time.
        sagemaker_session: default: ``Session(mode=mode)``.
        enable_network_isolation: whether the container has no network.
        source_dir: a folder with functions of your own for serving, packed into the model as ``code/``.
        entry_point: the file in it, such as ``inference.py``.
        dependencies: files and folders that are packed beside the source.
        code_location: where the model with the code in it goes; default: as for the SDK, the session's bucket.
        container_log_level: told to the container.
        runtime: this project's own: ``auto``, ``docker`` or ``process``.
        mode: this project's own: ``local``, ``s3`` or ``aws``, where no session says it.
    """

    def __init__(
        self,
        image_uri: str | None = None,
        model_data: str | os.PathLike[str] | Mapping[str, Any] | TrainingJob | None = None,
        role: str | None = None,
        predictor_cls: Any = None,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        vpc_config: Any = None,
        sagemaker_session: Session | None = None,
        enable_network_isolation: bool | None = None,
        model_kms_key: Any = None,
        image_config: Any = None,
        source_dir: str | os.PathLike[str] | None = None,
        code_location: str | os.PathLike[str] | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        container_log_level: int = 20,
        dependencies: Sequence[str | os.PathLike[str]] | None = None,
        git_config: Any = None,
        resources: Any = None,
        *,
        runtime: str | Runtime | None = None,
        mode: str | None = None,
    ) -> None:
        options = {**locals()}
        check_options(MODEL_OPTIONS, {option.name: options[option.name] for option in MODEL_OPTIONS}, "Model")
        if sagemaker_session is not None:
            check_session(sagemaker_session, "Model")
        if source_dir is not None and entry_point is None:
            raise BadInputError(
                "source_dir is given, but no entry_point.", 'Name the file: entry_point="inference.py".'
            )
        self.image_uri = image_uri
        self.model_data = model_data.model_data if isinstance(model_data, TrainingJob) else model_data
        self.role = role
        self.predictor_cls = predictor_cls
        self.env = dict(env or {})
        self.name = name
        self.vpc_config = None
        self.sagemaker_session = sagemaker_session or Session(mode=mode)
        self.sagemaker_session._refuse_runtime(runtime)
        self._session_given = sagemaker_session is not None
        self.source_dir = source_dir
        self.code_location = code_location
        self.entry_point = entry_point
        self.container_log_level = container_log_level
        self.dependencies = list(dependencies or [])
        self.runtime = runtime
        self._enable_network_isolation = bool(enable_network_isolation)
        self._base_name = ""

    def enable_network_isolation(self) -> bool:
        """Return whether the container has no network."""
        return self._enable_network_isolation

    def create(
        self, instance_type: str | None = None, tags: Sequence[Mapping[str, str]] | None = None, **refused: Any
    ) -> str:
        """Make the model, as CreateModel does, and return its name.

        A model of that name is used as it is, as by the SDK.

        Args:
            instance_type: taken and not needed.
            tags: kept with it.
            refused: what the SDK takes besides.
        """
        for option, value in refused.items():
            if value is not None:
                raise UnsupportedOptionError(f"Model.create({option}=...) is not emulated.", "Leave it out.")
        name = self.name or make_job_name(self._base_name or _base_of(self.image_uri))
        request = self._document(name, tags)
        with in_sdk_words(MODEL_OPTIONS):
            try:
                self._make(name, request)
            except TakenError:
                say_error(f"Using already existing model: {name}. What this one asks for besides is not looked at.")
        self.name = name
        return name

    def _make(self, name: str, request: dict[str, Any]) -> None:
        serving = self.sagemaker_session._serving
        if self.entry_point is None:
            serving.ask("CreateModel", **request)
            return
        serving.shown("CreateModel", request)  # checks it
        if serving.has("Model", name):
            raise TakenError(f'Cannot create already existing model "{name}".', "Choose another name.")
        with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
            container = request["PrimaryContainer"]
            container["ModelDataUrl"] = self._with_code(name, Path(folder))
            container.pop("ModelDataSource", None)
            serving.ask("CreateModel", **request)

    def request(self, name: str | None = None, tags: Sequence[Mapping[str, str]] | None = None) -> dict[str, Any]:
        """Return the CreateModel document; with an entry point, as it is before the code is packed.

        Raises:
            BadInputError: it is for AWS, which would refuse it.
        """
        with in_sdk_words(MODEL_OPTIONS):
            return self.sagemaker_session._serving.shown("CreateModel", self._document(name, tags))

    def _document(self, name: str | None = None, tags: Sequence[Mapping[str, str]] | None = None) -> dict[str, Any]:
        container: dict[str, Any] = {"Environment": self._environment()}
        if self.image_uri is not None:
            container["Image"] = self.image_uri
        data = self.model_data
        if isinstance(data, Mapping):
            container["ModelDataSource"] = dict(data)
        elif data is not None:
            uri = to_uri(os.fspath(data))
            if uri.endswith(".tar.gz") or not uri.startswith("file://"):
                container["ModelDataUrl"] = uri
            else:
                source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
                container["ModelDataSource"] = {"S3DataSource": source}
        session = self.sagemaker_session
        uses_s3 = session.mode == "s3" or "s3://" in str(data)
        return {
            "ModelName": name or self.name or make_job_name(_base_of(self.image_uri)),
            "ExecutionRoleArn": role_in(session.mode, self.role),
            "PrimaryContainer": container,
            "EnableNetworkIsolation": self._enable_network_isolation,
            "Tags": [dict(tag) for tag in tags or ()],
            OWN_MEMBER: {"S3": s3_member(session.s3.to_dict())} if uses_s3 else {},
        }

    def transformer(
        self,
        instance_count: int,
        instance_type: str,
        strategy: str | None = None,
        assemble_with: str | None = None,
        output_path: str | os.PathLike[str] | None = None,
        output_kms_key: Any = None,
        accept: str | None = None,
        env: Mapping[str, str] | None = None,
        max_concurrent_transforms: int | None = None,
        max_payload: int | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        volume_kms_key: Any = None,
    ) -> Transformer:
        """Make the model, and return what transforms data by it; arguments as the SDK has them."""
        return Transformer(
            self.create(instance_type, tags),
            instance_count,
            instance_type,
            strategy=strategy,
            assemble_with=assemble_with,
            output_path=output_path,
            output_kms_key=output_kms_key,
            accept=accept,
            max_concurrent_transforms=max_concurrent_transforms,
            max_payload=max_payload,
            env=env,
            tags=tags,
            base_transform_job_name=self._base_name or _base_of(self.image_uri),
            volume_kms_key=volume_kms_key,
            sagemaker_session=self.sagemaker_session if self._session_given else None,
            runtime=self.runtime,
            mode=self.sagemaker_session.mode,
        )

    def deploy(
        self,
        initial_instance_count: int | None = None,
        instance_type: str | None = None,
        serializer: BaseSerializer | None = None,
        deserializer: BaseDeserializer | None = None,
        accelerator_type: Any = None,
        endpoint_name: str | None = None,
        tags: Any = None,
        kms_key: Any = None,
        wait: bool = True,
        data_capture_config: DataCaptureConfig | None = None,
        async_inference_config: AsyncInferenceConfig | None = None,
        serverless_inference_config: ServerlessInferenceConfig | None = None,
        volume_size: int | None = None,
        model_data_download_timeout: int | None = None,
        container_startup_health_check_timeout: int | None = None,
        inference_recommendation_id: Any = None,
        explainer_config: Any = None,
        accept_eula: bool | None = None,
        endpoint_logging: bool = False,
        update_endpoint: bool = False,
        **refused: Any,
    ) -> Any:
        """Make the model and an endpoint of it, and return what asks it; arguments as the SDK has them.

        Returns:
            ``predictor_cls``, else a Predictor; an AsyncPredictor with ``async_inference_config``.
        Raises:
            BadInputError: the endpoint cannot be made so; UnsupportedOptionError: an argument is not emulated.
            EndpointFailedError: its containers do not answer.
        """
        from launcher.sdk.deploying import check_instances, deploy, refuse_options

        refused |= {"accelerator_type": accelerator_type, "kms_key": kms_key, "explainer_config": explainer_config}
        refused |= {"inference_recommendation_id": inference_recommendation_id, "accept_eula": accept_eula}
        refuse_options(refused)
        check_instances(initial_instance_count, instance_type, serverless_inference_config)
        exists = self.name is not None and self.sagemaker_session._serving.has("Model", self.name)
        runtime = self.runtime.name if isinstance(self.runtime, Runtime) else self.runtime
        return deploy(
            str(self.name) if exists else self.create(instance_type),
            self.sagemaker_session,
            initial_instance_count=initial_instance_count,
            instance_type=instance_type,
            serializer=serializer,
            deserializer=deserializer,
            endpoint_name=endpoint_name,
            base_name=self._base_name or _base_of(self.image_uri),
            tags=tags,
            wait=wait,
            data_capture_config=data_capture_config,
            async_inference_config=async_inference_config,
            serverless_inference_config=serverless_inference_config,
            volume_size=volume_size,
            model_data_download_timeout=model_data_download_timeout,
            container_startup_health_check_timeout=container_startup_health_check_timeout,
            endpoint_logging=endpoint_logging,
            update_endpoint=update_endpoint,
            predictor_cls=self.predictor_cls,
            runtime=runtime or "auto",
        )

    def delete_model(self) -> None:
        """Delete the model, as DeleteModel does; transform jobs that use it go on.

        Raises:
            BadInputError: it has not been made, or is gone.
        """
        if self.name is None:
            raise BadInputError("the model has not been made yet.", "Call create(), or transformer().")
        self.sagemaker_session._serving.ask("DeleteModel", ModelName=self.name)

    def _environment(self) -> dict[str, str]:
        if self.entry_point is None:
            return dict(self.env)
        on_aws = self.sagemaker_session.mode == AWS_MODE
        return {
            "SAGEMAKER_PROGRAM": Path(self.entry_point).name
            if self.source_dir is None
            else os.fspath(self.entry_point),
            "SAGEMAKER_SUBMIT_DIRECTORY": _CODE,
            "SAGEMAKER_CONTAINER_LOG_LEVEL": str(self.container_log_level),
            "SAGEMAKER_REGION": self.sagemaker_session.boto_region_name if on_aws else REGION,
            **self.env,
        }

    def _with_code(self, name: str, scratch: Path) -> str:
        """Pack the source into the model, as the SDK does, and return where the new archive is."""
        location = None if self.source_dir is None else os.fspath(self.source_dir)
        dependencies = [os.fspath(path) for path in self.dependencies]
        source = check_source(os.fspath(self.entry_point or ""), location, dependencies)
        model_path = scratch / "model"
        if self.model_data is None:
            model_path.mkdir()
        elif isinstance(self.model_data, Mapping):
            raise UnsupportedOptionError(
                "code cannot be packed into a model_data of this form.", "Give a model.tar.gz."
            )
        else:
            uri = to_uri(os.fspath(self.model_data))
            fetched = self.sagemaker_session._storage_of(uri).fetch(uri, scratch / "fetched")
            if fetched.is_dir():
                shutil.copytree(fetched, model_path)
            else:
                artifacts.unpack(fetched, model_path)
        code = {
            f"code/{member}": path for member, path in list_members(source.path, source.members, source.dependencies)
        }
        own = {path.relative_to(model_path).as_posix(): path for path in sorted(model_path.rglob("*"))}
        model_files = {member: path for member, path in own.items() if member.partition("/")[0] != "code"}
        archive = scratch / "model.tar.gz"
        artifacts.write_archive(sorted({**model_files, **code}.items()), archive)
        target = f"{self._code_uri().rstrip('/')}/{name}/model.tar.gz"
        self.sagemaker_session._storage_of(target).put_file(archive, target)
        return target

    def _code_uri(self) -> str:
        if self.code_location is not None:
            return to_uri(os.fspath(self.code_location))
        if self._session_given or self.sagemaker_session.mode != "local":
            return self.sagemaker_session.default_output_uri()
        home = home_path()
        folder = home / "model-archives"
        for path in (home, folder):
            if not path.exists():
                make_private(path)
        return f"file://{folder}"


def _base_of(image_uri: str | None) -> str:
    return (image_uri or "model").rsplit("/", 1)[-1].split("@")[0].split(":")[0]
