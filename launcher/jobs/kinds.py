"""What lives under a name in the home: for each kind its folder, the form of its record, and who sees it through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from launcher.errors import (
    BadInputError,
    JobExistsError,
    JobNotFoundError,
    NotFoundError,
    TakenError,
    TuningJobNotFoundError,
)
from launcher.jobs.record import JobRecord, Record
from launcher.settings import local_arn

if TYPE_CHECKING:
    from launcher.jobs.endpoint_record import EndpointConfigRecord, EndpointRecord
    from launcher.jobs.model_record import ModelRecord
    from launcher.jobs.processing_record import ProcessingRecord
    from launcher.jobs.transform_record import TransformRecord
    from launcher.jobs.tuning_record import TuningRecord

RecordType = TypeVar("RecordType", bound=Record)


@dataclass(frozen=True)
class Kind(Generic[RecordType]):
    """One kind of thing that lives in the home.

    Attributes:
        folder: of all of them, below the home.
        record_file: the file in the folder of each.
        noun: as a person says it.
        form: ``module:Class`` of its record.
        arn_kind: how an ARN of AWS names it.
        taken: the error for a name that is used; takes the words and what to do.
        missing: the error for a name that nothing has.
        taken_words: AWS's words for a name that is used, around the ARN.
        missing_words: AWS's words for a name that nothing has, around the ARN or the name; empty for our own.
        listing: the command that lists them.
        driver: ``module:Class`` of what sees one through to its end; empty where nothing has to.
        service: of AWS's, that has it.
    """

    folder: str
    record_file: str
    noun: str
    form: str
    arn_kind: str
    taken: Callable[[str, str], BadInputError]
    missing: Callable[[str, str], BadInputError]
    taken_words: str
    missing_words: str = ""
    listing: str = "launcher ls"
    driver: str = ""
    service: str = "sagemaker"

    @property
    def record(self) -> type[RecordType]:
        """The class of its record, which is loaded when it is first needed."""
        module, _, name = self.form.partition(":")
        record: type[RecordType] = getattr(import_module(module), name)
        return record

    def arn(self, name: str) -> str:
        """Return the ARN of the local account for a name."""
        return local_arn(self.arn_kind, name, self.service)


TRAINING_JOBS: Kind[JobRecord] = Kind(
    folder="jobs",
    record_file="job.json",
    noun="job",
    form="launcher.jobs.record:JobRecord",
    arn_kind="training-job",
    taken=JobExistsError,
    missing=JobNotFoundError,
    taken_words=(
        "Training job names must be unique within an AWS account and region, and a training job with this name "
        "already exists ({arn})"
    ),
    driver="launcher.running.runner:Driver",
)
TRANSFORM_JOBS: Kind[TransformRecord] = Kind(
    folder="transform-jobs",
    record_file="job.json",
    noun="transform job",
    form="launcher.jobs.transform_record:TransformRecord",
    arn_kind="transform-job",
    taken=JobExistsError,
    missing=JobNotFoundError,
    taken_words=(
        "Transform job names must be unique within an AWS account and region, and a transform job with this name "
        "already exists ({arn})"
    ),
    listing="launcher ls --kind transform",
    driver="launcher.transform.driver:TransformDriver",
)
PROCESSING_JOBS: Kind[ProcessingRecord] = Kind(
    folder="processing-jobs",
    record_file="job.json",
    noun="processing job",
    form="launcher.jobs.processing_record:ProcessingRecord",
    arn_kind="processing-job",
    taken=JobExistsError,
    missing=JobNotFoundError,
    taken_words=(
        "Processing job names must be unique within an AWS account and region, and a processing job with this name "
        "already exists ({arn})"
    ),
    missing_words="Could not find requested job with name: {name}",
    listing="launcher ls --kind processing",
    driver="launcher.processing_jobs.driver:ProcessingDriver",
)
TUNING_JOBS: Kind[TuningRecord] = Kind(
    folder="tuning-jobs",
    record_file="job.json",
    noun="tuning job",
    form="launcher.jobs.tuning_record:TuningRecord",
    arn_kind="hyper-parameter-tuning-job",
    taken=JobExistsError,
    missing=TuningJobNotFoundError,
    taken_words=(
        "Hyper parameter tuning job names must be unique within an AWS account and region, and a tuning job with this "
        "name already exists ({arn})"
    ),
    missing_words="Amazon SageMaker can't find a tuning job with the name {name}. Check the name and try again.",
    listing="launcher ls --kind tuning",
    driver="launcher.tuning.driver:TuningDriver",
)
MODELS: Kind[ModelRecord] = Kind(
    folder="models",
    record_file="model.json",
    noun="model",
    form="launcher.jobs.model_record:ModelRecord",
    arn_kind="model",
    taken=TakenError,
    missing=NotFoundError,
    taken_words='Cannot create already existing model "{arn}".',
    missing_words='Could not find model "{arn}".',
    listing="launcher ls --kind model",
)
ENDPOINT_CONFIGS: Kind[EndpointConfigRecord] = Kind(
    folder="endpoint-configs",
    record_file="config.json",
    noun="endpoint configuration",
    form="launcher.jobs.endpoint_record:EndpointConfigRecord",
    arn_kind="endpoint-config",
    taken=TakenError,
    missing=NotFoundError,
    taken_words='Cannot create already existing endpoint configuration "{arn}".',
    missing_words='Could not find endpoint configuration "{arn}".',
    listing="launcher endpoints ls --configs",
)
ENDPOINTS: Kind[EndpointRecord] = Kind(
    folder="endpoints",
    record_file="endpoint.json",
    noun="endpoint",
    form="launcher.jobs.endpoint_record:EndpointRecord",
    arn_kind="endpoint",
    taken=TakenError,
    missing=NotFoundError,
    taken_words='Cannot create already existing endpoint "{arn}".',
    missing_words='Could not find endpoint "{arn}".',
    listing="launcher endpoints ls",
)

KINDS: dict[str, Kind[Any]] = {
    kind.folder: kind
    for kind in (TRAINING_JOBS, PROCESSING_JOBS, TRANSFORM_JOBS, TUNING_JOBS, MODELS, ENDPOINT_CONFIGS, ENDPOINTS)
}
"""Every kind of SageMaker's, by the name of its folder."""
