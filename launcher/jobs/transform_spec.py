"""What a batch transform job is, in SageMaker's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher.jobs.spec import dataclass_of

DEFAULT_TIMEOUT_SECONDS, DEFAULT_RETRIES = 600, 3


@dataclass(frozen=True)
class TransformJobSpec:
    """Everything that one transform job was asked to do; ``requests.transform`` makes it of a checked request.

    Attributes:
        model_name: the model that answers.
        runtime: its name; ``auto`` until it is decided, when the job is submitted.
        input_uri: a prefix, an object, a manifest, a folder or a file, always with a scheme.
        output_uri: the prefix; an answer goes to ``<output_uri>/<key relative to the input>.out``.
        max_concurrent_transforms: requests under way at once for each host; None or 0 asks the container.
        max_payload_mb: of a request, in units of 2**20 bytes; 0 sets no limit, None asks the container.
        batch_strategy: ``MultiRecord`` or ``SingleRecord``; None asks the container.
        invocations_timeout_seconds, invocations_max_retries: of a request.
        resume: whether outputs that are there already are left as they are (our own).
        s3: which S3 the job's ``s3://`` URIs mean, as ``S3Settings.to_dict`` writes it; None where it has none.
        without_effect: members of the request that ask for nothing here, as they were given.
    """

    job_name: str
    model_name: str
    runtime: str
    input_uri: str
    output_uri: str
    s3_data_type: str = "S3Prefix"
    content_type: str | None = None
    compression: str = "None"
    split_type: str = "None"
    accept: str | None = None
    assemble_with: str = "None"
    instance_type: str = "local"
    instance_count: int = 1
    max_concurrent_transforms: int | None = None
    max_payload_mb: int | None = None
    batch_strategy: str | None = None
    invocations_timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    invocations_max_retries: int = DEFAULT_RETRIES
    environment: Mapping[str, str] = field(default_factory=dict)
    input_filter: str = "$"
    output_filter: str = "$"
    join_source: str = "None"
    tags: tuple[tuple[str, str], ...] = ()
    resume: bool = False
    s3: Mapping[str, Any] | None = None
    without_effect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def processes_data(self) -> bool:
        """Whether records are filtered or joined on the way, so that they have to be read as CSV or JSON."""
        return self.input_filter != "$" or self.combines

    @property
    def combines(self) -> bool:
        """Whether answers are joined with their records, or filtered, so that they have to be read as well."""
        return self.output_filter != "$" or self.join_source == "Input"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransformJobSpec:
        """Rebuild the spec from what ``to_dict`` returned, in this version or another.

        Raises:
            TypeError, ValueError: it is no spec.
        """
        return dataclass_of(cls, values)
