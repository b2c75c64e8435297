"""The SDK's predictors of frameworks: ``Predictor`` with the framework's forms of requests and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from launcher.sdk.deserializers import BaseDeserializer, CSVDeserializer, JSONDeserializer, NumpyDeserializer
from launcher.sdk.predictor import Predictor
from launcher.sdk.serializers import BaseSerializer, JSONSerializer, LibSVMSerializer, NumpySerializer
from launcher.sdk.session import Session


class FrameworkPredictor(Predictor):
    """Asks an endpoint in the form that the framework's container of AWS takes by default."""

    _serializer: ClassVar[type[BaseSerializer]] = NumpySerializer
    _deserializer: ClassVar[type[BaseDeserializer]] = NumpyDeserializer

    def __init__(
        self,
        endpoint_name: str,
        sagemaker_session: Session | None = None,
        serializer: BaseSerializer | None = None,
        deserializer: BaseDeserializer | None = None,
        component_name: str | None = None,
    ) -> None:
        super().__init__(
            endpoint_name,
            sagemaker_session,
            serializer or self._serializer(),
            deserializer or self._deserializer(),
            component_name,
        )


class PyTorchPredictor(FrameworkPredictor):
    """Sends and takes numpy arrays."""


class SKLearnPredictor(FrameworkPredictor):
    """Sends and takes numpy arrays."""


class MXNetPredictor(FrameworkPredictor):
    """Sends and takes JSON."""

    _serializer, _deserializer = JSONSerializer, JSONDeserializer


class TensorFlowPredictor(FrameworkPredictor):
    """Sends and takes JSON."""

    _serializer, _deserializer = JSONSerializer, JSONDeserializer


class HuggingFacePredictor(FrameworkPredictor):
    """Sends and takes JSON."""

    _serializer, _deserializer = JSONSerializer, JSONDeserializer


class XGBoostPredictor(FrameworkPredictor):
    """Sends LibSVM, takes CSV."""

    _serializer, _deserializer = LibSVMSerializer, CSVDeserializer


PREDICTORS: Mapping[str, type[Predictor]] = {
    "pytorch": PyTorchPredictor,
    "mxnet": MXNetPredictor,
    "tensorflow": TensorFlowPredictor,
    "sklearn": SKLearnPredictor,
    "xgboost": XGBoostPredictor,
    "huggingface": HuggingFacePredictor,
}
"""By framework, what ``deploy`` of its estimator returns."""
