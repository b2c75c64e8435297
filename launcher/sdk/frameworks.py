"""The SDK's estimators of frameworks: ``Estimator`` with the framework's version, and the name of its image."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping
from typing import Any

from launcher.errors import BadInputError, FrameworkError, UnsupportedOptionError
from launcher.requests.shapes import OWN_MEMBER
from launcher.running.source import Source
from launcher.runtimes.images import is_bundled, local_image
from launcher.sdk import image_uris
from launcher.sdk.estimator import Estimator
from launcher.sdk.framework_predictors import PREDICTORS
from launcher.sdk.model import Model
from launcher.settings import REGION, data_path

# What a framework's version is the version of, and what its image needs besides.
_DISTRIBUTIONS = {
    "pytorch": "torch",
    "tensorflow": "tensorflow",
    "mxnet": "mxnet",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
    "huggingface": "transformers",
}


class Framework(Estimator):
    """An estimator of a framework: a script, and the framework's image, which stands for an image of this machine.

    Args:
        entry_point: the script.
        framework_version: part of the image's name, and kept.
        py_version: the same, such as ``py310``.
        image_uri: an image of one's own instead.
        compiler_config: not emulated.
        kwargs: what ``Estimator`` takes.
    Raises:
        BadInputError: neither the versions nor an image were given, as in the SDK.
        UnsupportedOptionError: an option that is not emulated.
    """

    _framework_name = ""
    serves_its_script = True
    """Whether the script has the functions for serving, as the SDK assumes it for this framework."""

    def __init__(
        self,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        *,
        compiler_config: object | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        if entry_point is None:
            raise BadInputError(f"{owner} needs an entry point.", 'Name the script: entry_point="train.py".')
        refuse_options(owner, compiler_config=compiler_config)
        self.framework_version = framework_version
        self.py_version = py_version
        self._check_versions(image_uri)
        self._image_given = image_uri is not None
        super().__init__(
            image_uri or self._image(str(kwargs.get("instance_type") or "local")),
            entry_point=os.fspath(entry_point),
            source_dir=None if source_dir is None else os.fspath(source_dir),
            hyperparameters=hyperparameters,
            **kwargs,
        )

    def training_image_uri(self, region: str | None = None) -> str:
        """Return the image's name; ``launcher images`` shows what it stands for here."""
        return self.image_uri or ""

    def create_model(
        self,
        role: str | None = None,
        image_uri: str | None = None,
        predictor_cls: Any = None,
        vpc_config_override: Any = None,
        enable_network_isolation: bool | None = None,
        **options: Any,
    ) -> Model:
        """Return the latest job's model, served by the functions in the script unless ``entry_point`` is another.

        Args:
            image_uri: default: an image of one's own that trained it, else the bundled one.
            options: of ``Model``, such as ``entry_point``, ``source_dir``, ``env`` and ``name``.
        Raises:
            BadInputError: there is no job yet.
        """
        if self.serves_its_script and "entry_point" not in options:
            options |= {"entry_point": self.entry_point, "source_dir": self.source_dir}
            options.setdefault("dependencies", self.dependencies)
        return super().create_model(
            role,
            image_uri,
            predictor_cls or self._predictor_class(),
            vpc_config_override,
            enable_network_isolation,
            **options,
        )

    def _predictor_class(self) -> Any:
        return PREDICTORS[self._framework_name]

    def _check_versions(self, image_uri: str | None) -> None:
        check_versions(self.framework_version, self.py_version, image_uri)

    def _image(self, instance_type: str) -> str:
        return image_uris.retrieve(
            self._framework_name, REGION, self.framework_version, self.py_version, instance_type, image_scope="training"
        )

    def _image_on_aws(self, region: str) -> str | None:
        """Return the image that AWS runs: one of one's own, or the framework's in that region."""
        if self._image_given or self.image_uri is None:
            return self.image_uri
        return image_uris.in_region(self.image_uri, region)

    def _warnings(self, runtime: str) -> list[str]:
        """Return what differs from the framework that was asked for."""
        if self._image_given or self.framework_version is None:
            return []
        if runtime == "docker" and not is_bundled(local_image(self.image_uri)):
            return []
        distribution = _DISTRIBUTIONS[self._framework_name]
        version = _version_of_image(distribution) if runtime == "docker" else _version_here(distribution)
        place = "the launcher's image" if runtime == "docker" else "this Python"
        asked = f"{type(self).__name__}(framework_version={self.framework_version!r})"
        if version is None:
            return [] if runtime == "docker" else [f"{asked}: {place} has no {distribution}"]
        is_it = f"{version}.".startswith(f"{self.framework_version}.")
        return [] if is_it else [f"{asked}: {place} has {distribution} {version}"]

    def _own_options(self, source: Source | None) -> dict[str, Any]:
        own = {
            "Framework": self._framework_name,
            "FrameworkVersion": self.framework_version,
            "PyVersion": self.py_version,
        }
        return super()._own_options(source) | {name: value for name, value in own.items() if value}

    def _base_name(self) -> str:
        if self.base_job_name or self._image_given:
            return super()._base_name()
        return (self.image_uri or "").rpartition("/")[2].partition(":")[0]

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options_of(request)
        own = request[OWN_MEMBER].get("Estimator", {})
        name = request["TrainingJobName"]
        if own.get("Framework") != cls._framework_name:
            raise BadInputError(f"job '{name}' was not begun by {cls.__name__}.", "Use Estimator.attach().")
        return options | {"framework_version": own.get("FrameworkVersion"), "py_version": own.get("PyVersion")}


class PyTorch(Framework):
    """The SDK's estimator for scripts that use PyTorch."""

    _framework_name = "pytorch"

    def __init__(
        self,
        entry_point: str | os.PathLike[str] | None = None,
        framework_version: str | None = None,
        py_version: str | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        distribution: Mapping[str, Any] | None = None,
        compiler_config: object | None = None,
        training_recipe: str | None = None,
        recipe_overrides: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_options("PyTorch", training_recipe=training_recipe, recipe_overrides=recipe_overrides)
        super().__init__(
            entry_point,
            framework_version,
            py_version,
            source_dir,
            hyperparameters,
            image_uri,
            distribution=distribution,
            compiler_config=compiler_config,
            **kwargs,
        )


class MXNet(Framework):
    """The SDK's estimator for scripts that use MXNet."""

    _framework_name = "mxnet"

    def __init__(
        self,
        entry_point: str | os.PathLike[str],
        framework_version: str | None = None,
        py_version: str | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        distribution: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            entry_point,
            framework_version,
            py_version,
            source_dir,
            hyperparameters,
            image_uri,
            distribution=distribution,
            **kwargs,
        )


class TensorFlow(Framework):
    """The SDK's estimator for scripts that use TensorFlow.

    Args:
        model_dir: the hyperparameter ``model_dir``; default: ``<output_path>/<job>/model``; False gives none.
    """

    _framework_name = "tensorflow"
    serves_its_script = False

    def __init__(
        self,
        py_version: str | None = None,
        framework_version: str | None = None,
        model_dir: str | bool | None = None,
        image_uri: str | None = None,
        distribution: Mapping[str, Any] | None = None,
        compiler_config: object | None = None,
        **kwargs: Any,
    ) -> None:
        self.model_dir = model_dir
        super().__init__(
            kwargs.pop("entry_point", None),
            framework_version,
            py_version,
            image_uri=image_uri,
            distribution=distribution,
            compiler_config=compiler_config,
            **kwargs,
        )

    def _hyperparameter_texts(
        self, program: str | None, archive: str | None, name: str, output_uri: str, region: str
    ) -> dict[str, str]:
        texts = super()._hyperparameter_texts(program, archive, name, output_uri, region)
        if self.model_dir is False:
            return texts
        place = self.model_dir or f"{output_uri.rstrip('/')}/{name}/model"
        return texts | {"model_dir": json.dumps(place)}

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options_of(request)
        return options | {"model_dir": options["hyperparameters"].pop("model_dir", False)}


class SKLearn(Framework):
    """The SDK's estimator for scripts that use scikit-learn: on a single host, with Python 3."""

    _framework_name = "sklearn"

    def __init__(
        self,
        entry_point: str | os.PathLike[str],
        framework_version: str | None = None,
        py_version: str | None = "py3",
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        image_uri_region: str | None = None,
        **kwargs: Any,
    ) -> None:
        if py_version and py_version != "py3":
            raise FrameworkError(
                "Scikit-learn image only supports Python 3. Please use 'py3' for py_version.", f"Not {py_version!r}."
            )
        if kwargs.get("instance_count") not in (None, 1):
            raise FrameworkError(
                "Scikit-Learn does not support distributed training. Please remove the 'instance_count' argument or "
                "set 'instance_count=1' when initializing SKLearn."
            )
        super().__init__(entry_point, framework_version, py_version, source_dir, hyperparameters, image_uri, **kwargs)


class XGBoost(Framework):
    """The SDK's estimator for scripts that use XGBoost."""

    _framework_name = "xgboost"

    def __init__(
        self,
        entry_point: str | os.PathLike[str],
        framework_version: str,
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        py_version: str | None = "py3",
        image_uri: str | None = None,
        image_uri_region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(entry_point, framework_version, py_version, source_dir, hyperparameters, image_uri, **kwargs)


class HuggingFace(Framework):
    """The SDK's estimator for scripts that use Hugging Face's Transformers.

    Args:
        transformers_version: the version of Transformers.
        tensorflow_version: of the framework below it; either this or ``pytorch_version``.
        pytorch_version: the same.
    """

    _framework_name = "huggingface"

    def __init__(
        self,
        py_version: str | None = None,
        entry_point: str | os.PathLike[str] | None = None,
        transformers_version: str | None = None,
        tensorflow_version: str | None = None,
        pytorch_version: str | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        image_uri: str | None = None,
        distribution: Mapping[str, Any] | None = None,
        compiler_config: object | None = None,
        **kwargs: Any,
    ) -> None:
        self.tensorflow_version = tensorflow_version
        self.pytorch_version = pytorch_version
        super().__init__(
            entry_point,
            transformers_version,
            py_version,
            source_dir,
            hyperparameters,
            image_uri,
            distribution=distribution,
            compiler_config=compiler_config,
            **kwargs,
        )

    @property
    def base_framework(self) -> str:
        """The framework below Transformers, with its version: ``pytorch1.13.1``."""
        return f"pytorch{self.pytorch_version}" if self.pytorch_version else f"tensorflow{self.tensorflow_version}"

    def _check_versions(self, image_uri: str | None) -> None:
        check_base_versions(self.framework_version, self.tensorflow_version, self.pytorch_version, image_uri)
        if image_uri is None and self.py_version is None:
            raise BadInputError("py_version and image_uri are both None.", 'For example: py_version="py310"')

    def _image(self, instance_type: str) -> str:
        return image_uris.retrieve(
            "huggingface",
            REGION,
            self.framework_version,
            self.py_version,
            instance_type,
            image_scope="training",
            base_framework_version=self.base_framework,
        )

    def _own_options(self, source: Source | None) -> dict[str, Any]:
        own = super()._own_options(source)
        return own | ({"BaseFramework": self.base_framework} if self.pytorch_version or self.tensorflow_version else {})

    @classmethod
    def _options_of(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        options = super()._options_of(request)
        options["transformers_version"] = options.pop("framework_version")
        base = request[OWN_MEMBER].get("Estimator", {}).get("BaseFramework", "")
        name = base.rstrip("0123456789.")
        return options | ({f"{name}_version": base.removeprefix(name)} if name else {})


def check_versions(framework_version: str | None, py_version: str | None, image_uri: str | None) -> None:
    """Refuse a framework without versions and image, in the SDK's words.

    Raises:
        BadInputError: it has neither.
    """
    if (framework_version is None or py_version is None) and image_uri is None:
        raise BadInputError(
            "framework_version or py_version was None, yet image_uri was also None. Either specify both "
            "framework_version and py_version, or specify image_uri."
        )


def check_base_versions(
    transformers_version: str | None, tensorflow_version: str | None, pytorch_version: str | None, image_uri: str | None
) -> None:
    """Refuse versions of Hugging Face's images that do not belong together, in the SDK's words.

    Raises:
        BadInputError: they do not.
    """
    if image_uri is not None:
        return
    if transformers_version is None:
        raise BadInputError(
            "transformers_version, and image_uri are both None. Specify either transformers_version or image_uri"
        )
    if tensorflow_version is not None and pytorch_version is not None:
        raise BadInputError(
            "tensorflow_version and pytorch_version are both not None. Specify only tensorflow_version or "
            "pytorch_version."
        )
    if tensorflow_version is None and pytorch_version is None:
        raise BadInputError(
            "tensorflow_version and pytorch_version are both None. Specify either tensorflow_version or "
            "pytorch_version."
        )


def refuse_options(owner: str, **options: object) -> None:
    """Refuse options that ask for something that is not emulated.

    Raises:
        UnsupportedOptionError: one of them has a value.
    """
    instead = {
        "compiler_config": "Leave it out: there is no compiler.",
    }
    for name, value in options.items():
        if value:
            raise UnsupportedOptionError(
                f"{owner}({name}={value!r:.60}) is not emulated.", instead.get(name, "Leave it out.")
            )


def _version_of_image(distribution: str) -> str | None:
    """Return the version that the bundled image has of a distribution; None where it has none by itself."""
    folder = data_path("container")
    names = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    pins = dict(
        line.split("==", 1)
        for line in (folder / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    return pins.get(distribution) if distribution in names else None


def _version_here(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
