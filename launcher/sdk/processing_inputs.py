"""``ProcessingInput``, ``ProcessingOutput`` and ``NetworkConfig``: what the SDK's processors are given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.sdk.job_results import as_location
from launcher.sdk.training_job import TrainingJob
from launcher.storage import to_uri


@dataclass
class S3Input:
    """Objects for a processing job, as ``ProcessingInput(s3_input=...)`` takes them in the SDK."""

    s3_uri: str | None = None
    local_path: str | None = None
    s3_data_type: str = "S3Prefix"
    s3_input_mode: str = "File"
    s3_data_distribution_type: str = "FullyReplicated"
    s3_compression_type: str | None = None


class ProcessingInput:
    """Data for a processing job, with the arguments that the SDK has.

    Args:
        source: a path, a ``file://`` or an ``s3://`` URI; a local one is read where it lies. A ``TrainingJob``
            stands for its output data.
        destination: where the job sees it, below ``/opt/ml/processing/``.
        input_name: default: ``input-1`` and so on.
        s3_data_type: ``S3Prefix``.
        s3_input_mode: ``File``, or ``Pipe``: named pipes at ``destination`` with ``_0``, ``_1`` and so on at its end.
        s3_data_distribution_type: ``ShardedByS3Key`` gives each host a part of the files.
        s3_compression_type: ``None``, or ``Gzip``, which a pipe decompresses.
        s3_input: an ``S3Input`` in place of all of these.
        app_managed: the job gets the data itself.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | TrainingJob | None = None,
        destination: str | None = None,
        input_name: str | None = None,
        s3_data_type: str = "S3Prefix",
        s3_input_mode: str = "File",
        s3_data_distribution_type: str = "FullyReplicated",
        s3_compression_type: str = "None",
        s3_input: S3Input | None = None,
        dataset_definition: Any = None,
        app_managed: bool = False,
    ) -> None:
        if dataset_definition is not None:
            raise UnsupportedOptionError(
                "ProcessingInput(dataset_definition=...) is not emulated: there is neither Athena nor Redshift here.",
                "Run the query, and give what it returned as source.",
            )
        if s3_input is not None:
            if source is not None:
                raise BadInputError("ProcessingInput has a source and an s3_input.", "Give one of them.")
            source, destination = s3_input.s3_uri, s3_input.local_path
            s3_data_type, s3_input_mode = s3_input.s3_data_type, s3_input.s3_input_mode
            s3_data_distribution_type = s3_input.s3_data_distribution_type
            s3_compression_type = s3_input.s3_compression_type or "None"
        if source is None:
            raise BadInputError("ProcessingInput has no source.", "Give a path or an s3:// URI.")
        location: str | os.PathLike[str] = as_location(source)
        self.source = os.fspath(location)
        self.destination = destination
        self.input_name = input_name
        self.s3_data_type = s3_data_type
        self.s3_input_mode = s3_input_mode
        self.s3_data_distribution_type = s3_data_distribution_type
        self.s3_compression_type = s3_compression_type
        self.app_managed = app_managed

    def to_member(self, number: int) -> dict[str, Any]:
        """Return the member of ProcessingInputs.

        Args:
            number: its place in the list, from 1, for an input without a name.
        """
        source = {
            "S3Uri": to_uri(self.source),
            "S3DataType": self.s3_data_type,
            "S3InputMode": self.s3_input_mode,
            "S3DataDistributionType": self.s3_data_distribution_type,
            "S3CompressionType": self.s3_compression_type,
        }
        if self.destination is not None:
            source["LocalPath"] = self.destination
        return {
            "InputName": self.input_name or f"input-{number}",
            "AppManaged": self.app_managed,
            "S3Input": source,
        }


class ProcessingOutput:
    """A folder that a processing job writes, with the arguments that the SDK has.

    Args:
        source: the folder, below ``/opt/ml/processing/``.
        destination: a path, a ``file://`` or an ``s3://`` URI; default: a folder of the job, or of the session's
            bucket.
        output_name: default: ``output-1`` and so on.
        s3_upload_mode: ``EndOfJob`` or ``Continuous``.
        app_managed: the job takes the files away itself.
    """

    def __init__(
        self,
        source: str | None = None,
        destination: str | os.PathLike[str] | None = None,
        output_name: str | None = None,
        s3_upload_mode: str = "EndOfJob",
        app_managed: bool = False,
        feature_store_output: Any = None,
    ) -> None:
        if feature_store_output is not None:
            raise UnsupportedOptionError(
                "ProcessingOutput(feature_store_output=...) is not emulated.", "Write files, and give destination."
            )
        self.source = source
        self.destination = None if destination is None else os.fspath(destination)
        self.output_name = output_name
        self.s3_upload_mode = s3_upload_mode
        self.app_managed = app_managed

    def to_member(self, number: int, outputs_uri: str) -> dict[str, Any]:
        """Return the member of ProcessingOutputConfig.

        Args:
            number: its place in the list, from 1, for an output without a name.
            outputs_uri: the prefix for an output without a place.
        """
        name = self.output_name or f"output-{number}"
        uri = f"{outputs_uri}/{name}" if self.destination is None else to_uri(self.destination)
        target = {"S3Uri": uri, "S3UploadMode": self.s3_upload_mode}
        if self.source is not None:
            target["LocalPath"] = self.source
        return {"OutputName": name, "AppManaged": self.app_managed, "S3Output": target}


class NetworkConfig:
    """The network of a job, with the arguments that the SDK has.

    Args:
        enable_network_isolation: the job has no network.
        security_group_ids, subnets, encrypt_inter_container_traffic: kept; a warning says that they have no effect.
    """

    def __init__(
        self,
        enable_network_isolation: bool = False,
        security_group_ids: Any = None,
        subnets: Any = None,
        encrypt_inter_container_traffic: bool | None = None,
    ) -> None:
        self.enable_network_isolation = enable_network_isolation
        self.security_group_ids = security_group_ids
        self.subnets = subnets
        self.encrypt_inter_container_traffic = encrypt_inter_container_traffic

    def to_member(self) -> dict[str, Any]:
        """Return the member NetworkConfig."""
        member: dict[str, Any] = {"EnableNetworkIsolation": self.enable_network_isolation}
        if self.encrypt_inter_container_traffic is not None:
            member["EnableInterContainerTrafficEncryption"] = self.encrypt_inter_container_traffic
        if self.security_group_ids is not None or self.subnets is not None:
            member["VpcConfig"] = {
                "SecurityGroupIds": list(self.security_group_ids or ()),
                "Subnets": list(self.subnets or ()),
            }
        return member
