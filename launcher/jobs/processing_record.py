"""What is recorded of a processing job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from launcher.jobs.processing_spec import ProcessingJobSpec
from launcher.jobs.record import HostsRecord


@dataclass
class ProcessingRecord(HostsRecord):
    """All that is known of a processing job.

    Attributes:
        exit_message: ExitMessage: what the hosts left in ``/opt/ml/output/message``.
    """

    exit_message: str = ""

    @cached_property
    def processing_spec(self) -> ProcessingJobSpec:
        """The spec as it was submitted."""
        return ProcessingJobSpec.from_dict(self.spec)

    @property
    def hosts_spec(self) -> ProcessingJobSpec:
        """The spec as it was submitted."""
        return self.processing_spec

    @property
    def results_uri(self) -> str:
        """The place of its outputs: of the first, where there are several; empty where there is none."""
        return next((output.uri for output in self.processing_spec.outputs), "")
