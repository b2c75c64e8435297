"""Amazon SageMaker training jobs on one machine.

The public names are loaded when they are first used, so that ``import launcher`` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.errors import BadInputError as BadInputError
    from launcher.errors import JobFailedError as JobFailedError
    from launcher.errors import LauncherError as LauncherError
    from launcher.errors import ModelError as ModelError
    from launcher.errors import UnsupportedOptionError as UnsupportedOptionError
    from launcher.sdk.analytics import HyperparameterTuningJobAnalytics as HyperparameterTuningJobAnalytics
    from launcher.sdk.analytics import TrainingJobAnalytics as TrainingJobAnalytics
    from launcher.sdk.bundled import fit as fit
    from launcher.sdk.comparisons import compare_jobs as compare_jobs
    from launcher.sdk.comparisons import replay_job as replay_job
    from launcher.sdk.data_capture import DataCaptureConfig as DataCaptureConfig
    from launcher.sdk.estimator import Estimator as Estimator
    from launcher.sdk.framework_processors import FrameworkProcessor as FrameworkProcessor
    from launcher.sdk.inputs import TrainingInput as TrainingInput
    from launcher.sdk.instance_group import InstanceGroup as InstanceGroup
    from launcher.sdk.model import Model as Model
    from launcher.sdk.predictor import Predictor as Predictor
    from launcher.sdk.processing import Processor as Processor
    from launcher.sdk.processing import ScriptProcessor as ScriptProcessor
    from launcher.sdk.processing_inputs import ProcessingInput as ProcessingInput
    from launcher.sdk.processing_inputs import ProcessingOutput as ProcessingOutput
    from launcher.sdk.processing_job import ProcessingJob as ProcessingJob
    from launcher.sdk.rl import RLEstimator as RLEstimator
    from launcher.sdk.rl import RLFramework as RLFramework
    from launcher.sdk.rl import RLToolkit as RLToolkit
    from launcher.sdk.session import LocalSession as LocalSession
    from launcher.sdk.session import Session as Session
    from launcher.sdk.session import get_execution_role as get_execution_role
    from launcher.sdk.session import wait_for_s3_object as wait_for_s3_object
    from launcher.sdk.training_job import TrainingJob as TrainingJob
    from launcher.sdk.transform_job import TransformJob as TransformJob
    from launcher.sdk.transformer import Transformer as Transformer
    from launcher.sdk.tuner import HyperparameterTuner as HyperparameterTuner
    from launcher.sdk.tuning_job import TuningJob as TuningJob

__version__ = "0.1.0"

_HOME_OF_NAME = {
    "BadInputError": "launcher.errors",
    "DataCaptureConfig": "launcher.sdk.data_capture",
    "Estimator": "launcher.sdk.estimator",
    "FrameworkProcessor": "launcher.sdk.framework_processors",
    "HyperparameterTuner": "launcher.sdk.tuner",
    "HyperparameterTuningJobAnalytics": "launcher.sdk.analytics",
    "InstanceGroup": "launcher.sdk.instance_group",
    "JobFailedError": "launcher.errors",
    "LauncherError": "launcher.errors",
    "LocalSession": "launcher.sdk.session",
    "Model": "launcher.sdk.model",
    "ModelError": "launcher.errors",
    "Predictor": "launcher.sdk.predictor",
    "ProcessingInput": "launcher.sdk.processing_inputs",
    "ProcessingJob": "launcher.sdk.processing_job",
    "ProcessingOutput": "launcher.sdk.processing_inputs",
    "Processor": "launcher.sdk.processing",
    "RLEstimator": "launcher.sdk.rl",
    "RLFramework": "launcher.sdk.rl",
    "RLToolkit": "launcher.sdk.rl",
    "ScriptProcessor": "launcher.sdk.processing",
    "Session": "launcher.sdk.session",
    "TrainingInput": "launcher.sdk.inputs",
    "TrainingJob": "launcher.sdk.training_job",
    "TrainingJobAnalytics": "launcher.sdk.analytics",
    "TransformJob": "launcher.sdk.transform_job",
    "Transformer": "launcher.sdk.transformer",
    "TuningJob": "launcher.sdk.tuning_job",
    "UnsupportedOptionError": "launcher.errors",
    "compare_jobs": "launcher.sdk.comparisons",
    "fit": "launcher.sdk.bundled",
    "get_execution_role": "launcher.sdk.session",
    "replay_job": "launcher.sdk.comparisons",
    "wait_for_s3_object": "launcher.sdk.session",
}

__all__ = sorted(_HOME_OF_NAME)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF_NAME:
        return getattr(import_module(_HOME_OF_NAME[name]), name)
    if name in _modules():
        return import_module(f"launcher.{name}")
    if not name.startswith("_"):
        _refuse(name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}")


def load_ipython_extension(_ipython: object) -> None:
    """``%load_ext launcher``: programs for real AWS that run in this notebook reach the local one."""
    import_module("launcher.proxy.notebook").load()


def unload_ipython_extension(_ipython: object) -> None:
    """``%unload_ext launcher``: what is asked from here on goes where it went before."""
    import_module("launcher.proxy.notebook").unload()


def __dir__() -> list[str]:
    return [*__all__, *_modules(), "__version__"]


def _modules() -> list[str]:
    names: list[str] = import_module("launcher.aliases").names()
    return names


def _refuse(name: str) -> None:
    import_module("launcher.sdk.missing").refuse_name(name)


class _AliasFinder:
    """Finds launcher.session, which is what sagemaker.session is in the SDK; the last finder that is asked."""

    @staticmethod
    def find_spec(full_name: str, _path: object = None, _target: object = None) -> Any:
        package, _, name = full_name.partition(".")
        return import_module("launcher.aliases").find(name) if package == "launcher" and name else None


sys.meta_path.append(_AliasFinder)
