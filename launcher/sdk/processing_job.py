"""A processing job that was submitted, by whichever process: its description, log and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.errors import BadInputError
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.processing_spec import ProcessingJobSpec
from launcher.jobs.store import ProcessingStore
from launcher.remote.client import PROCESSING
from launcher.requests.for_aws import as_request
from launcher.requests.processing import OPERATION, check_processing_request, describe_processing
from launcher.running.driving import raise_unless_completed
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle, fetched_folder
from launcher.sdk.processing_inputs import ProcessingInput, ProcessingOutput
from launcher.sdk.remote_job import RemoteJob
from launcher.sdk.session import Session, check_session
from launcher.settings import AWS_MODE, home_path
from launcher.storage import Storage, recorded_storage


class ProcessingJob(JobHandle[ProcessingRecord]):
    """A handle on one processing job.

    Args:
        name: the job.
        store: the home it lives in; None takes ``LAUNCHER_HOME``.
        runtime: None takes the one it was submitted for.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: ProcessingStore | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(name, store or ProcessingStore(home_path()), runtime)

    @classmethod
    def from_processing_name(
        cls, sagemaker_session: Session | None = None, processing_job_name: str = ""
    ) -> ProcessingJob:
        """Return the job of that name.

        Raises:
            JobNotFoundError: there is no such job.
        """
        session = check_session(sagemaker_session, "ProcessingJob")
        if session is not None and session.mode == AWS_MODE:
            return RemoteProcessingJob(processing_job_name, session.wire)
        return cls(processing_job_name)

    @classmethod
    def from_processing_arn(
        cls, sagemaker_session: Session | None = None, processing_job_arn: str = ""
    ) -> ProcessingJob:
        """Return the job of that ARN.

        Raises:
            JobNotFoundError: there is no such job.
        """
        return cls.from_processing_name(sagemaker_session, processing_job_arn.rpartition("/")[2])

    @property
    def spec(self) -> ProcessingJobSpec:
        """What it was asked to do."""
        return self._record.processing_spec

    @property
    def inputs(self) -> list[ProcessingInput]:
        """Its inputs, those with its program among them."""
        return [
            ProcessingInput(
                source=given.channel.uri,
                destination=given.local_path or None,
                input_name=given.channel.name,
                s3_data_type=given.channel.s3_data_type,
                s3_input_mode=given.channel.input_mode,
                s3_data_distribution_type=given.channel.distribution,
                s3_compression_type=given.channel.compression,
                app_managed=given.app_managed,
            )
            for given in self.spec.inputs
        ]

    @property
    def outputs(self) -> list[ProcessingOutput]:
        """Its outputs: ``destination`` is where the files are."""
        return [
            ProcessingOutput(
                source=output.local_path or None,
                destination=output.uri,
                output_name=output.name,
                s3_upload_mode="Continuous" if output.continuous else "EndOfJob",
                app_managed=output.app_managed,
            )
            for output in self.spec.outputs
        ]

    @property
    def exit_message(self) -> str:
        """What its program left in ``/opt/ml/output/message``; empty where it left nothing."""
        return self._record.exit_message

    @property
    def output_uris(self) -> dict[str, str]:
        """The place of each output, by its name; this project's own."""
        return {output.name: output.uri for output in self.spec.outputs}

    def fetch_output(self, name: str) -> Path:
        """Return a folder with an output as it is now; one in S3 is copied to this machine.

        Raises:
            BadInputError: it has no output of this name.
            ArtifactError: there is nothing in it.
        """
        uris = self.output_uris
        if name not in uris:
            raise BadInputError(f"job '{self.name}' has no output '{name}'.", f"It has: {', '.join(uris) or 'none'}.")
        return fetched_folder(self._storage(uris[name]), uris[name], self.path / "outputs" / name)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeProcessingJob returns, in boto3's types."""
        return describe_processing(self._looked_after())

    def _storage(self, uri: str) -> Storage:
        return recorded_storage(uri, self.spec.s3)

    def _raise_unless_completed(self, record: ProcessingRecord, *, log_shown: bool) -> None:
        raise_unless_completed(self._store, record, log_shown=log_shown)

    @property
    def _hosts(self) -> int:
        return self._record.processing_spec.instance_count


class RemoteProcessingJob(RemoteJob, ProcessingJob):  # type: ignore[misc]  # of its notebook view, which is none
    """A handle on a processing job that runs elsewhere."""

    remote_kind = PROCESSING
    noun = "processing job"

    @property
    def exit_message(self) -> str:
        """What its program left in ``/opt/ml/output/message``; empty where it left nothing."""
        return str(self._describe().get("ExitMessage", ""))

    @property
    def spec(self) -> ProcessingJobSpec:
        """What it was asked to do."""
        return check_processing_request(as_request(OPERATION, self._first))

    def _storage(self, _uri: str) -> Storage:
        return self._client.storage

    @property
    def _hosts(self) -> int:
        return int(self._first["ProcessingResources"]["ClusterConfig"]["InstanceCount"])
