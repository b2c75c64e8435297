"""``RLEstimator``: the SDK's estimator for reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from launcher.errors import BadInputError
from launcher.requests.shapes import OWN_MEMBER
from launcher.running.source import Source
from launcher.sdk.estimator import Estimator


class RLToolkit(Enum):
    """The toolkits that ``RLEstimator`` knows."""

    COACH = "coach"
    RAY = "ray"


class RLFramework(Enum):
    """The frameworks that ``RLEstimator`` knows."""

    TENSORFLOW = "tensorflow"
    MXNET = "mxnet"
    PYTORCH = "pytorch"


class RLEstimator(Estimator):
    """The SDK's estimator for reinforcement learning; its toolkits' work is done by the bundled image.

    Args:
        entry_point: the script.
        toolkit: Coach's or Ray's metric definitions are the default ones.
        toolkit_version: kept; the bundled image has its own library.
        framework: kept; the bundled image has PyTorch.
        image_uri: an image of one's own instead.
    Raises:
        AttributeError: neither toolkit, version and framework nor an image were given, as in the SDK.
    """

    COACH_LATEST_VERSION_TF = "0.11.1"
    COACH_LATEST_VERSION_MXNET = "0.11.0"
    RAY_LATEST_VERSION = "1.6.0"

    def __init__(
        self,
        entry_point: str,
        toolkit: RLToolkit | None = None,
        toolkit_version: str | None = None,
        framework: RLFramework | None = None,
        source_dir: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        if image_uri is None:
            for name, value in (("toolkit", toolkit), ("toolkit_version", toolkit_version), ("framework", framework)):
                if not value:
                    raise AttributeError(f"Please provide `{name}`, or `image_uri`, to RLEstimator.")
        for name, value, kind in (("toolkit", toolkit, RLToolkit), ("framework", framework, RLFramework)):
            if value is not None and not isinstance(value, kind):
                raise BadInputError(
                    f"RLEstimator({name}={value!r}) is no {kind.__name__}.",
                    f"Use one of: {', '.join(f'{kind.__name__}.{member.name}' for member in kind)}.",
                )
        self.toolkit = toolkit.value if toolkit else None
        self.toolkit_version = toolkit_version
        self.framework = framework.value if framework else None
        if metric_definitions is None and toolkit is not None:
            metric_definitions = self.default_metric_definitions(toolkit)
        super().__init__(
            image_uri,
            entry_point=entry_point,
            source_dir=source_dir,
            hyperparameters=hyperparameters,
            metric_definitions=metric_definitions,
            **kwargs,
        )

    @classmethod
    def default_metric_definitions(cls, toolkit: RLToolkit) -> list[dict[str, str]]:
        """Return the metric definitions that SageMaker uses for a toolkit's log."""
        if toolkit is RLToolkit.COACH:
            return [
                {"Name": "reward-training", "Regex": "^Training>.*Total reward=(.*?),"},
                {"Name": "reward-testing", "Regex": "^Testing>.*Total reward=(.*?),"},
            ]
        number = r"([-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?)"
        return [{"Name": name, "Regex": f"{name}: {number}"} for name in ("episode_reward_mean", "episode_reward_max")]

    def _platform_hyperparameters(self, output_uri: str) -> dict[str, Any]:
        return {"sagemaker_s3_output": output_uri, "sagemaker_estimator": "RLEstimator"}

    def _own_options(self, source: Source | None) -> dict[str, Any]:
        own = {"Toolkit": self.toolkit, "ToolkitVersion": self.toolkit_version, "Framework": self.framework}
        return super()._own_options(source) | {name: value for name, value in own.items() if value}

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options_of(request)
        own = request[OWN_MEMBER].get("Estimator", {})
        if options["image_uri"] is None and not {"Toolkit", "ToolkitVersion", "Framework"} <= set(own):
            raise BadInputError(
                f"job '{request['TrainingJobName']}' was not begun by an RLEstimator.", "Use Estimator.attach()."
            )
        return options | {
            "toolkit": RLToolkit(own["Toolkit"]) if "Toolkit" in own else None,
            "toolkit_version": own.get("ToolkitVersion"),
            "framework": RLFramework(own["Framework"]) if "Framework" in own else None,
        }
