"""What the drivers of all kinds of job have in common: the job, and the record of what is done."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from launcher.jobs.record import DrivenRecord
from launcher.jobs.store import DISK_FULL, Store
from launcher.running.following import LogReader
from launcher.running.signals import Interrupts
from launcher.runtimes import Runtime

DrivenRecordType = TypeVar("DrivenRecordType", bound=DrivenRecord)


class JobDriver(ABC, Generic[DrivenRecordType]):
    """Carries one job through the steps that are not recorded yet; the caller holds the driver's lock.

    Args:
        store: the home that the job lives in.
        name: the job.
        runtime: what runs it.
        lines: reads the log for the caller.
        interrupts: what Ctrl-C and other signals have asked for meanwhile.
        looking_on: whether the job is left to another driver when the sink of ``lines`` has failed.
    """

    def __init__(
        self,
        store: Store[DrivenRecordType],
        name: str,
        runtime: Runtime,
        lines: LogReader | None = None,
        interrupts: Interrupts | None = None,
        *,
        looking_on: bool = False,
    ) -> None:
        self._store = store
        self._name = name
        self._folder = store.folder(name)
        self._record = store.load(name)
        self._runtime = runtime
        self._lines = lines
        self._interrupts = interrupts or Interrupts()
        self._looking_on = looking_on
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Make what the driver of a kind holds besides; nothing is done yet."""

    @abstractmethod
    def run(self) -> None:
        """Do all that is left to do; the record is terminal afterwards, unless this process has to go.

        Raises:
            HandOver: this process has to go; everything is as the next driver needs it.
            JobFolderError: the job's own files could not be written or read.
        """

    def step(self, name: str, effect: Callable[[], None]) -> None:
        """Do ``effect`` unless it is recorded as done, then record it."""
        if name not in self._record.steps:
            effect()
            self._record.steps[name] = time.time()
            self._save()

    def _save(self) -> None:
        """Write the record. On a full disk the job goes on without: a step that is not recorded is repeated."""
        try:
            self._store.save(self._name, self._record)
        except OSError as error:
            if self._record.terminal or error.errno not in DISK_FULL:
                raise
            self._record.warn(f"the record could not be written for a while: {error.strerror}")
