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
    from launcher.estimator import Estimator as Estimator
    from launcher.estimator import RLEstimator as RLEstimator
    from launcher.estimator import RLFramework as RLFramework
    from launcher.estimator import RLToolkit as RLToolkit
    from launcher.estimator import fit as fit
    from launcher.inputs import TrainingInput as TrainingInput
    from launcher.session import Session as Session
    from launcher.session import get_execution_role as get_execution_role
    from launcher.session import wait_for_s3_object as wait_for_s3_object
    from launcher.training_job import TrainingJob as TrainingJob
    from launcher.training_job import TrainingJobAnalytics as TrainingJobAnalytics

__version__ = "0.1.0"

_HOME_OF_NAME = {
    "BadInputError": "launcher.errors",
    "Estimator": "launcher.estimator",
    "JobFailedError": "launcher.errors",
    "LauncherError": "launcher.errors",
    "RLEstimator": "launcher.estimator",
    "RLFramework": "launcher.estimator",
    "RLToolkit": "launcher.estimator",
    "Session": "launcher.session",
    "TrainingInput": "launcher.inputs",
    "TrainingJob": "launcher.training_job",
    "TrainingJobAnalytics": "launcher.training_job",
    "UnsupportedOptionError": "launcher.errors",
    "fit": "launcher.estimator",
    "get_execution_role": "launcher.session",
    "wait_for_s3_object": "launcher.session",
}

__all__ = sorted(_HOME_OF_NAME)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF_NAME:
        return getattr(import_module(_HOME_OF_NAME[name]), name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
