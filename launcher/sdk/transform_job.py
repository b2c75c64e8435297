"""A transform job that was submitted, by whichever process: its description, log, progress and outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.errors import UnsupportedOptionError
from launcher.jobs.store import TransformStore
from launcher.jobs.transform_record import TransformRecord
from launcher.jobs.transform_spec import TransformJobSpec
from launcher.remote.client import TRANSFORM
from launcher.requests.for_aws import as_request
from launcher.requests.transform import OPERATION, check_transform_request, describe_transform
from launcher.runtimes import Runtime
from launcher.sdk.job_handle import JobHandle, fetched_folder
from launcher.sdk.remote_job import RemoteJob
from launcher.settings import home_path
from launcher.storage import Storage, recorded_storage


class TransformJob(JobHandle[TransformRecord]):
    """A handle on one transform job.

    Args:
        store: the home it lives in; default: ``LAUNCHER_HOME``.
        name, runtime: as of ``JobHandle``.
    Raises:
        JobNotFoundError: there is no such job.
    """

    def __init__(self, name: str, store: TransformStore | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(name, store or TransformStore(home_path()), runtime)

    @property
    def spec(self) -> TransformJobSpec:
        """What it was asked to do."""
        return self._record.transform_spec

    @property
    def output_path(self) -> str:
        """The prefix that its outputs are below, as a URI."""
        return self.spec.output_uri

    def fetch_outputs(self) -> Path:
        """Return a folder with its outputs as they are now; those in S3 are copied to this machine.

        Raises:
            ArtifactError: there are none.
        """
        return fetched_folder(self._storage(self.output_path), self.output_path, self.path / "outputs")

    @property
    def progress(self) -> dict[str, float]:
        """How far it is: objects, done, failed, records, records a second; empty before it has begun."""
        try:
            facts: dict[str, float] = json.loads((self.path / "progress.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return facts

    @property
    def counts(self) -> dict[str, int]:
        """What was counted when it ended: objects, failed, skipped, records, bytes_out; requests, retried, bytes_in."""
        return dict(self._record.done)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTransformJob returns, in boto3's types."""
        return describe_transform(self._looked_after())

    def _storage(self, uri: str) -> Storage:
        return recorded_storage(uri, self.spec.s3)

    @property
    def _hosts(self) -> int:
        return self._record.transform_spec.instance_count


class RemoteTransformJob(RemoteJob, TransformJob):  # type: ignore[misc]  # of its notebook view, which is none
    """A handle on a transform job that runs elsewhere."""

    remote_kind = TRANSFORM
    noun = "transform job"

    @property
    def progress(self) -> dict[str, float]:
        """Raise: AWS says nothing of it before the job's end."""
        raise _unsaid("progress")

    @property
    def counts(self) -> dict[str, int]:
        """Raise: AWS counts nothing."""
        raise _unsaid("counts")

    @property
    def spec(self) -> TransformJobSpec:
        """What it was asked to do."""
        return check_transform_request(as_request(OPERATION, self._first))

    def _storage(self, _uri: str) -> Storage:
        return self._client.storage

    @property
    def _hosts(self) -> int:
        return int(self._first["TransformResources"]["InstanceCount"])


def _unsaid(name: str) -> UnsupportedOptionError:
    return UnsupportedOptionError(
        f"TransformJob.{name} is not there for a job on AWS.", "What AWS says of it: describe()"
    )
