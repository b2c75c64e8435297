"""``image_uris.retrieve``: the names of AWS's images of frameworks, which stand for images of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.settings import REGION

_FRAMEWORK_IMAGES = "763104351884"
_ALGORITHM_IMAGES = "683313688378"
_RL_IMAGES = "462105765813"
# Where the images of frameworks have the same account as in us-east-1.
_SAME_ACCOUNT = frozenset({
    *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    *("ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
})  # fmt: skip
_SCOPES = ("training", "inference")


@dataclass(frozen=True)
class _Family:
    """How the images of a framework are named.

    Attributes:
        account: of the registry in us-east-1.
        repository: ``{scope}`` stands for ``training`` or ``inference``.
        tag: with ``{version}``, ``{processor}`` and ``{python}``.
        served_tag: the same for inference, where it is another.
    """

    account: str
    repository: str
    tag: str = "{version}-{processor}-{python}"
    served_tag: str = ""

    def tag_of(self, scope: str) -> str:
        """Return the pattern of the tag for a scope."""
        return self.served_tag if scope == "inference" and self.served_tag else self.tag


_FAMILIES = {
    "pytorch": _Family(_FRAMEWORK_IMAGES, "pytorch-{scope}"),
    "tensorflow": _Family(_FRAMEWORK_IMAGES, "tensorflow-{scope}", served_tag="{version}-{processor}"),
    "mxnet": _Family(_FRAMEWORK_IMAGES, "mxnet-{scope}"),
    "huggingface": _Family(
        _FRAMEWORK_IMAGES,
        "huggingface-{base}-{scope}",
        "{base_version}-transformers{version}-{processor}-{python}",
    ),
    "sklearn": _Family(_ALGORITHM_IMAGES, "sagemaker-scikit-learn"),
    "xgboost": _Family(_ALGORITHM_IMAGES, "sagemaker-xgboost", "{version}"),
    "coach-tensorflow": _Family(_RL_IMAGES, "sagemaker-rl-coach-container", "coach-{version}-tf-{processor}-{python}"),
    "coach-mxnet": _Family(_RL_IMAGES, "sagemaker-rl-coach-container", "coach-{version}-mxnet-{processor}-{python}"),
    "ray-tensorflow": _Family(_RL_IMAGES, "sagemaker-rl-ray-container", "ray-{version}-tf-{processor}-{python}"),
    "ray-pytorch": _Family(_RL_IMAGES, "sagemaker-rl-ray-container", "ray-{version}-torch-{processor}-{python}"),
}
_PYTHON_3 = {"sklearn": "py3", "coach-tensorflow": "py3", "coach-mxnet": "py3"}


def retrieve(
    framework: str,
    region: str | None,
    version: str | None = None,
    py_version: str | None = None,
    instance_type: str | None = None,
    accelerator_type: str | None = None,
    image_scope: str | None = None,
    container_version: str | None = None,
    distribution: Any = None,
    base_framework_version: str | None = None,
    **refused: Any,
) -> str:
    """Return the name that AWS gives an image; ``launcher images`` shows which image of this machine it stands for.

    Args:
        framework: ``pytorch``, ``tensorflow``, ``mxnet``, ``huggingface``, ``sklearn``, ``xgboost``, or a toolkit for
            reinforcement learning such as ``coach-tensorflow``.
        region: part of the name; the account is always that of us-east-1, because nothing is fetched from there.
        version: of the framework, as it is given: a short one is not completed.
        py_version: such as ``py310``.
        instance_type: a type with a GPU names the image for GPUs; this machine is used as it is.
        image_scope: ``training`` or ``inference``; needed where there is an image for each.
        container_version: taken and not needed.
        distribution: taken and not needed.
        base_framework_version: of Hugging Face's images: ``pytorch1.13.1`` or ``tensorflow2.11.0``.
        refused: other options of the SDK.
    Raises:
        UnsupportedOptionError: images that have no counterpart here, such as AWS's own algorithms.
        BadInputError: the name cannot be made of what was given.
    """
    family = _FAMILIES.get(framework)
    if family is None:
        raise UnsupportedOptionError(
            f"image_uris.retrieve({framework!r}) is not emulated: that image has no counterpart on this machine.",
            f"Use one of: {', '.join(_FAMILIES)}; or name an image of your own, image_uri=...",
        )
    for option, value in {"accelerator_type": accelerator_type, **refused}.items():
        if value:
            raise UnsupportedOptionError(f"image_uris.retrieve({option}=...) is not emulated.", "Leave it out.")
    if version is None:
        raise BadInputError(f"image_uris.retrieve({framework!r}) needs a version.", 'For example: version="1.13.1"')
    if image_scope is not None and image_scope not in _SCOPES:
        raise BadInputError(f"Unsupported image scope: {image_scope}.", f"Use one of: {', '.join(_SCOPES)}.")
    if "{scope}" in family.repository and image_scope is None:
        raise BadInputError(
            f"image_uris.retrieve({framework!r}) needs image_scope.", f"Use one of: {', '.join(_SCOPES)}."
        )
    tag = family.tag_of(image_scope or "")
    py_version = py_version or _PYTHON_3.get(framework)
    if "{python}" in tag and py_version is None:
        raise BadInputError(f"image_uris.retrieve({framework!r}) needs py_version.", 'For example: py_version="py310"')
    base = (base_framework_version or "").rstrip("0123456789.")
    if "{base}" in family.repository and base not in ("pytorch", "tensorflow"):
        raise BadInputError(
            f"image_uris.retrieve({framework!r}) needs base_framework_version.", 'For example: "pytorch1.13.1"'
        )
    repository = family.repository.format(scope=image_scope, base=base)
    tag = tag.format(
        version=version,
        python=py_version,
        processor="gpu" if (instance_type or "").startswith(("ml.p", "ml.g", "local_gpu")) else "cpu",
        base_version=(base_framework_version or "").removeprefix(base),
    )
    return f"{family.account}.dkr.ecr.{region or REGION}.amazonaws.com/{repository}:{tag}"


def in_region(image_uri: str, region: str) -> str:
    """Return the name of an image from ``retrieve`` in a region of AWS itself.

    Raises:
        UnsupportedOptionError: its account there is another.
    """
    registry, _, rest = image_uri.partition("/")
    if region == REGION:
        return image_uri
    if registry.startswith(_FRAMEWORK_IMAGES) and region in _SAME_ACCOUNT:
        return f"{_FRAMEWORK_IMAGES}.dkr.ecr.{region}.amazonaws.com/{rest}"
    raise UnsupportedOptionError(
        f"the account of {rest} in {region} is not listed here.", "Name the image of that region: image_uri=..."
    )
