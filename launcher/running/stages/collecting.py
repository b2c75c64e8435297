"""From the end of the hosts to the last record."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable

from launcher.errors import ArtifactError, LauncherError
from launcher.jobs.states import STOPS, SecondaryStatus, Status, StopReason
from launcher.running.failure import failure_reason
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.running.stages.following import Following
from launcher.running.stages.job_state import HostsRecordType
from launcher.running.syncing import FolderSync
from launcher.runtimes import EndCause
from launcher.trees import OnSkip, Skipped, remove_tree


class Collecting(Following[HostsRecordType]):
    """Puts the results in their places, says why a job failed, and removes what its hosts have left."""

    uploading = "Uploading generated training model"
    """The message of a status: the hosts have ended."""

    def _heed_endings(self) -> None:
        """Note what the hosts tell of their end: a host without a driver stops itself at its limit."""
        stopped = STOPS[self._record.stop_reason] is not None  # a host that ended after another's failure was not
        if stopped or not self._record.exit_codes or self._record.terminal:
            return
        if any(self._ending(container).cause is EndCause.MAX_RUNTIME for container in self._plan.containers):
            self._record.stop_started, self._record.stop_reason = time.time(), StopReason.MAX_RUNTIME_EXCEEDED
            self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")

    def _reclaim(self) -> None:
        self._heed_endings()
        for container in self._plan.containers:
            self._runtime.reclaim(container)

    def _collect(self) -> None:
        """Pack the job's results and put them under their keys, also after a failure or a stop.

        Model and output come first; an error of one part does not stop the others.

        Raises:
            Exception: the first error, after all parts were tried.
        """
        if not self._record.terminal:
            self._move(self._record.status, SecondaryStatus.UPLOADING, self.uploading)
        errors = []
        for part in self._results():
            try:
                part()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    @abstractmethod
    def _results(self) -> tuple[Callable[[], None], ...]:
        """Return what puts the results in their places, in order; an error of one does not stop the others."""

    def _copy_out(self, sync: FolderSync) -> None:
        self._warn(sync.run())

    def _note_failure_reason(self) -> None:
        """Note why the job failed: the first host that did says so, the others were only stopped for it."""
        skipped = Skipped()
        texts = self._last_words(skipped.add)
        self._warn([f"not read: {line}" for line in skipped.lines])
        host, code = next(((host, code) for host, code in self._record.exit_codes.items() if code != 0), ("", 0))
        self._record.failure_reason = ""
        if self._record.input_failure and self._record.status != Status.STOPPING:
            self._record.failure_reason = f"ClientError: {self._record.input_failure}"[:FAILURE_REASON_LIMIT]
        elif code != 0 and self._record.platform_failure and self._record.status != Status.STOPPING:
            tail = f", exit code: {code}"
            text = f"InternalServerError: {self._record.platform_failure}"
            self._record.failure_reason = text[: FAILURE_REASON_LIMIT - len(tail)] + tail
        elif code != 0 and self._record.status != Status.STOPPING:
            container = next(container for container in self._plan.containers if container.host == host)
            self._record.failure_reason = failure_reason(container, code, self._ending(container), texts[host])

    def _last_words(self, on_skip: OnSkip) -> dict[str, str]:
        """Return what each host says of its failure, by host."""
        return {host: tree.read_failure(on_skip) for host, tree in self._hosts}

    def _keep_warm(self) -> None:
        """Keep what a matching job can start from, where the job asked for it; its hosts have ended."""
        container = self._with_requirements(self._plan.containers[0])
        if not container.keep_alive_seconds or "follow" not in self._record.steps or self._runtime.no_warm_pools:
            return
        try:
            self._record.warm_pool = self._runtime.keep_warm(container)
        except LauncherError as error:
            self._record.warn(f"no warm pool is kept: {error.message}")

    def _finish(self) -> None:
        self._keep_warm()
        for execution in self._found_executions():
            try:
                execution.remove()
            except (LauncherError, OSError) as error:
                self._record.warn(f"what its runtime keeps of it could not be removed: {error}; try: launcher gc")
        if "start" in self._record.steps:
            try:
                self._runtime.close(self._plan.containers)
            except (LauncherError, OSError) as error:
                self._record.warn(f"what its hosts shared could not be removed: {error}; try: launcher gc")
        self._feeder.stop()
        try:
            remove_tree(self._folder.work_path)
        except OSError as error:  # every result is in its place, and that counts
            self._record.warn(f"{self._folder.work_path} could not be removed: {error}")
        if self._folder.stop_requested() and not self._record.exit_codes:
            self._move(Status.STOPPING, SecondaryStatus.STOPPING, f"Stopping the {self.activity} job")
        if self._record.status == Status.STOPPING:
            secondary = STOPS[self._record.stop_reason] or SecondaryStatus.STOPPED
            self._end(Status.STOPPED, secondary, f"{self.activity.capitalize()} job stopped")
        elif any(self._record.exit_codes.values()) or self._record.failure_reason or self._record.input_failure:
            self._end(Status.FAILED, SecondaryStatus.FAILED, f"{self.activity.capitalize()} job failed")
        else:
            self._end(Status.COMPLETED, SecondaryStatus.COMPLETED, f"{self.activity.capitalize()} job completed")

    def collect_again(self) -> None:
        """Pack what a job has left whose results could not be packed when it ended; its status stays as it is.

        Raises:
            ArtifactError: nothing of it is left.
        """
        if not self._folder.work_path.is_dir():
            raise ArtifactError(
                f"job '{self._name}' has nothing left to pack: {self._folder.work_path} is gone.",
                f"What was packed when it ended is in {self._record.results_uri}.",
            )
        reason = self._record.failure_reason
        self._reclaim()
        self._collect()
        self._record.failure_reason = reason
        self._record.warnings = [text for text in self._record.warnings if text != self._left_behind]
        self._record.warn("its results were packed again after it had ended")
        self._save()
        remove_tree(self._folder.work_path)

    @property
    def _left_behind(self) -> str:
        return f"what the job wrote and was not packed is in {self._folder.work_path}: launcher collect {self._name}"
