"""What a model is: an image, what it predicts from, and the variables that it is served with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from launcher.jobs.spec import dataclass_of

ModelForm = Literal["archive", "folder", "file", "nothing"]


@dataclass(frozen=True)
class ModelSpec:
    """A model as CreateModel describes it; ``requests.models`` makes it of a checked request.

    Attributes:
        image_uri: an image that serves; None stands for the bundled one.
        model_uri: where the model lies, always with a scheme; None where the image holds it.
        model_form: what lies there. SageMaker downloads nothing from a ``ModelDataUrl`` that does not end in
            ``.tar.gz``: that is ``nothing``.
        container_hostname: the name that the container has; None leaves it to the launcher.
        in_list: whether the request names its container in ``Containers``, not in ``PrimaryContainer``.
        s3: which S3 the model's ``s3://`` URI means, as ``S3Settings.to_dict`` writes it; None where it has none.
        without_effect: members of the request that ask for nothing here, as they were given.
        container_without_effect: the same for members of its container.
    """

    model_name: str
    image_uri: str | None = None
    model_uri: str | None = None
    model_form: ModelForm = "nothing"
    environment: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    container_hostname: str | None = None
    enable_network_isolation: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    in_list: bool = False
    s3: Mapping[str, Any] | None = None
    without_effect: Mapping[str, Any] = field(default_factory=dict)
    container_without_effect: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Rebuild the spec from what ``to_dict`` returned, in this version or another.

        Raises:
            TypeError, ValueError: it is no spec.
        """
        return dataclass_of(cls, values)
