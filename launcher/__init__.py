"""Amazon SageMaker training jobs on one machine.

The public names are loaded when they are first used, so that ``import launcher`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.errors import BadInputError as BadInputError
    from launcher.errors import JobFailedError as JobFailedError
    from launcher.errors import LauncherError as LauncherError
    from launcher.errors import UnsupportedOptionError as UnsupportedOptionError
    from launcher.sdk.analytics import TrainingJobAnalytics as TrainingJobAnalytics
    from launcher.sdk.estimator import Estimator as Estimator
    from launcher.sdk.estimator import RLEstimator as RLEstimator
    from launcher.sdk.estimator import RLFramework as RLFramework
    from launcher.sdk.estimator import RLToolkit as RLToolkit
    from launcher.sdk.estimator import fit as fit
    from launcher.sdk.inputs import TrainingInput as TrainingInput
    from launcher.sdk.session import Session as Session
    from launcher.sdk.session import get_execution_role as get_execution_role
    from launcher.sdk.session import wait_for_s3_object as wait_for_s3_object
    from launcher.sdk.training_job import TrainingJob as TrainingJob

__version__ = "0.1.0"

_HOME_OF_NAME = {
    "BadInputError": "launcher.errors",
    "Estimator": "launcher.sdk.estimator",
    "JobFailedError": "launcher.errors",
    "LauncherError": "launcher.errors",
    "RLEstimator": "launcher.sdk.estimator",
    "RLFramework": "launcher.sdk.estimator",
    "RLToolkit": "launcher.sdk.estimator",
    "Session": "launcher.sdk.session",
    "TrainingInput": "launcher.sdk.inputs",
    "TrainingJob": "launcher.sdk.training_job",
    "TrainingJobAnalytics": "launcher.sdk.analytics",
    "UnsupportedOptionError": "launcher.errors",
    "fit": "launcher.sdk.estimator",
    "get_execution_role": "launcher.sdk.session",
    "wait_for_s3_object": "launcher.sdk.session",
}

__all__ = sorted(_HOME_OF_NAME)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF_NAME:
        return getattr(import_module(_HOME_OF_NAME[name]), name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
