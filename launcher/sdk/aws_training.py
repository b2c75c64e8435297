"""A training job for AWS itself: the estimator's request as AWS takes it, with the files that are uploaded before."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import ArtifactError, OutputPathError
from launcher.remote.client import WireClient
from launcher.remote.shipping import Shipment, pack_source, ship_inputs
from launcher.requests.for_aws import aws_document, check_for_aws
from launcher.sdk.remote_training_job import RemoteTrainingJob
from launcher.storage.s3_uris import split_s3_uri


@dataclass(frozen=True)
class AwsSubmission:
    """What is about to be sent.

    Attributes:
        request: the document; nothing of it means this machine.
        shipment: the inputs that are folders of this machine.
        source_uri: where the source archive goes; empty where none is packed.
        members: name and path of each member of that archive.
        warnings: for the user.
    """

    request: Mapping[str, Any]
    shipment: Shipment
    source_uri: str
    members: Sequence[tuple[str, Path]]
    warnings: tuple[str, ...]

    def send(self, client: WireClient) -> RemoteTrainingJob:
        """Upload what is missing, and ask for the job.

        Raises:
            StorageError: the bucket is not there, or may not be written; no job was asked for.
            RemoteRequestError: AWS refused the job.
        """
        self.upload(client)
        client.submit(self.request)
        return RemoteTrainingJob(str(self.request["TrainingJobName"]), client, warnings=self.warnings)

    def enqueue(self, client: WireClient, queue: str, *, priority: int | None = None, share: str | None = None) -> str:
        """Upload what is missing, and put the job into a queue of AWS Batch; return the service job's id.

        Args:
            queue: its name or ARN.
            priority: within the queue, or the share.
            share: of a queue with a scheduling policy.
        Raises:
            StorageError, RemoteRequestError: as of ``send``.
        """
        self.upload(client)
        optional = {"schedulingPriority": priority, "shareIdentifier": share}
        answer = client.ask(
            "batch",
            "SubmitServiceJob",
            jobName=self.request["TrainingJobName"],
            jobQueue=queue,
            serviceJobType="SAGEMAKER_TRAINING",
            serviceRequestPayload=json.dumps(self.request),
            **{name: value for name, value in optional.items() if value is not None},
        )
        return str(answer["jobId"])

    def upload(self, client: WireClient) -> None:
        """Upload source and inputs, as far as they are not there.

        Raises:
            StorageError: the bucket is not there, or may not be written.
        """
        if self.source_uri:
            with tempfile.TemporaryDirectory(prefix="launcher-source-") as scratch:
                try:
                    archive = pack_source(self.members, Path(scratch, "sourcedir.tar.gz"))
                except ArtifactError as error:
                    raise OutputPathError(f"the source: {error.message}", error.hint) from error
                client.storage.put_file(archive, self.source_uri)
        self.shipment.send(client)


def submission_for_aws(
    request: Mapping[str, Any], *, source_uri: str = "", members: Sequence[tuple[str, Path]] = ()
) -> AwsSubmission:
    """Check a request for AWS, and work out what is uploaded; reads files, sends nothing.

    Args:
        request: of a training job, with channels here or in S3.
        source_uri: where the source archive goes that is made of ``members``.
    Raises:
        BadInputError: AWS would refuse it, or an input cannot be read.
    """
    document = aws_document(request)
    check_for_aws(document)
    bucket, _ = split_s3_uri(document["OutputDataConfig"]["S3OutputPath"])
    shipment = ship_inputs(document, f"s3://{bucket}")
    warnings: tuple[str, ...] = ()
    if document["OutputDataConfig"].get("KmsKeyId") and (source_uri or shipment.files):
        warnings = ("the output key encrypts results; source and inputs are uploaded with the bucket's own encryption",)
    return AwsSubmission(shipment.request, shipment, source_uri, members, warnings)
