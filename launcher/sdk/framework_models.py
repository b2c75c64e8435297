"""The SDK's models of frameworks: ``Model`` with the framework's defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from launcher.errors import FrameworkError
from launcher.runtimes import Runtime, choose_runtime
from launcher.sdk import image_uris
from launcher.sdk.framework_predictors import (
    HuggingFacePredictor,
    MXNetPredictor,
    PyTorchPredictor,
    SKLearnPredictor,
    TensorFlowPredictor,
    XGBoostPredictor,
)
from launcher.sdk.frameworks import check_base_versions, check_versions
from launcher.sdk.model import Model
from launcher.sdk.predictor import Predictor
from launcher.settings import AWS_MODE, REGION, default_runtime

ModelData = str | os.PathLike[str] | Mapping[str, Any] | None


class FrameworkModel(Model):
    """A model of a framework, served by what AWS's image of it stands for here unless ``image_uri`` is another.

    Args:
        model_data: as ``Model`` takes it.
        entry_point: the file with the functions for serving.
        framework_version: kept.
        py_version: kept.
        predictor_cls: what ``deploy`` returns.
        model_server_workers: how many processes answer.
        kwargs: what ``Model`` takes.
    Raises:
        BadInputError: neither the versions nor an image were given, as in the SDK.
    """

    _framework_name = "pytorch"
    _predictor: ClassVar[type[Predictor]] = PyTorchPredictor
    _needs_python = True

    def __init__(
        self,
        model_data: ModelData = None,
        role: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Any = None,
        model_server_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.framework_version = framework_version
        self.py_version = py_version
        self.model_server_workers = model_server_workers
        self._check_versions(image_uri)
        env = dict(kwargs.pop("env", None) or {})
        if model_server_workers is not None:
            env["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(model_server_workers)
        super().__init__(
            image_uri, model_data, role, predictor_cls or self._predictor, env, entry_point=entry_point, **kwargs
        )

    def _document(self, name: str | None = None, tags: Sequence[Mapping[str, str]] | None = None) -> dict[str, Any]:
        """Return the CreateModel document; on Docker and on AWS with AWS's name of the framework's image."""
        request = super()._document(name, tags)
        on_aws = self.sagemaker_session.mode == AWS_MODE
        if self.image_uri is None and (on_aws or self._chosen_runtime().runs_images):
            region = self.sagemaker_session.boto_region_name if on_aws else REGION
            request["PrimaryContainer"]["Image"] = image_uris.in_region(self._image(), region)
        return request

    def _chosen_runtime(self) -> Runtime:
        if isinstance(self.runtime, Runtime):
            return self.runtime
        return choose_runtime(self.runtime or default_runtime(), image_uri=None, subject="a model")

    def _image(self) -> str:
        name, version = self._framework_name, self.framework_version
        return image_uris.retrieve(name, REGION, version, self.py_version, image_scope="inference")

    def _check_versions(self, image_uri: str | None) -> None:
        check_versions(self.framework_version, self.py_version if self._needs_python else "py3", image_uri)


class PyTorchModel(FrameworkModel):
    """The SDK's model for PyTorch."""

    def __init__(
        self,
        model_data: ModelData = None,
        role: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str = "1.3",
        py_version: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Any = None,
        model_server_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model_data,
            role,
            entry_point,
            framework_version,
            py_version,
            image_uri,
            predictor_cls,
            model_server_workers,
            **kwargs,
        )


class MXNetModel(FrameworkModel):
    """The SDK's model for MXNet."""

    _framework_name = "mxnet"
    _predictor = MXNetPredictor


class SKLearnModel(FrameworkModel):
    """The SDK's model for scikit-learn."""

    _framework_name = "sklearn"
    _predictor = SKLearnPredictor

    def __init__(
        self,
        model_data: ModelData = None,
        role: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str | None = None,
        py_version: str | None = "py3",
        image_uri: str | None = None,
        predictor_cls: Any = None,
        model_server_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        if py_version and py_version != "py3":
            raise FrameworkError(
                "Scikit-learn image only supports Python 3. Please use 'py3' for py_version.", f"Not {py_version!r}."
            )
        super().__init__(
            model_data,
            role,
            entry_point,
            framework_version,
            py_version,
            image_uri,
            predictor_cls,
            model_server_workers,
            **kwargs,
        )


class XGBoostModel(FrameworkModel):
    """The SDK's model for XGBoost."""

    _framework_name = "xgboost"
    _predictor = XGBoostPredictor

    def __init__(
        self,
        model_data: ModelData = None,
        role: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str | None = None,
        image_uri: str | None = None,
        py_version: str | None = "py3",
        predictor_cls: Any = None,
        model_server_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model_data,
            role,
            entry_point,
            framework_version,
            py_version,
            image_uri,
            predictor_cls,
            model_server_workers,
            **kwargs,
        )


class TensorFlowModel(FrameworkModel):
    """The SDK's model for TensorFlow; its container has no Python version of its own."""

    _framework_name = "tensorflow"
    _predictor = TensorFlowPredictor
    _needs_python = False

    def __init__(
        self,
        model_data: ModelData = None,
        role: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        image_uri: str | None = None,
        framework_version: str | None = None,
        container_log_level: int | None = None,
        predictor_cls: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model_data,
            role,
            entry_point,
            framework_version,
            None,
            image_uri,
            predictor_cls,
            container_log_level=container_log_level or 20,
            **kwargs,
        )


class HuggingFaceModel(FrameworkModel):
    """The SDK's model for Hugging Face's Transformers."""

    _framework_name = "huggingface"
    _predictor = HuggingFacePredictor

    def __init__(
        self,
        role: str | None = None,
        model_data: ModelData = None,
        entry_point: str | os.PathLike[str] | None = None,
        transformers_version: str | None = None,
        tensorflow_version: str | None = None,
        pytorch_version: str | None = None,
        py_version: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Any = None,
        model_server_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_base_versions(transformers_version, tensorflow_version, pytorch_version, image_uri)
        self.tensorflow_version = tensorflow_version
        self.pytorch_version = pytorch_version
        super().__init__(
            model_data,
            role,
            entry_point,
            transformers_version,
            py_version,
            image_uri,
            predictor_cls,
            model_server_workers,
            **kwargs,
        )

    def _image(self) -> str:
        base = f"pytorch{self.pytorch_version}" if self.pytorch_version else f"tensorflow{self.tensorflow_version}"
        name, version = self._framework_name, self.framework_version
        return image_uris.retrieve(
            name, REGION, version, self.py_version, image_scope="inference", base_framework_version=base
        )
