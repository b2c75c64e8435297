"""The process of one endpoint: it answers requests, watches the containers, and does what the endpoint's folder asks.

It holds the endpoint's lock as long as it lives. When it is killed the containers go on, and the next process finds
them: the record says which there are. Updates and deletion are asked for by files, so that they outlive it as well.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher.endpoints.asynchronous import AsyncQueue
from launcher.endpoints.capture import Capture, CaptureSettings
from launcher.endpoints.files import DELETION, SPOOL, WANTED, spool_folder
from launcher.endpoints.fleet import Fleet
from launcher.endpoints.invocations import Invocations
from launcher.endpoints.replies import Reply
from launcher.endpoints.router import Router
from launcher.endpoints.routing import Routes
from launcher.errors import LauncherError, ModelHostError
from launcher.jobs.endpoint_record import EndpointStatus
from launcher.jobs.endpoint_spec import Deployment
from launcher.jobs.log_times import FolderTimes
from launcher.jobs.store import EndpointStore
from launcher.runtimes import Runtime, get_runtime
from launcher.storage import recorded_storage

FAILURE_REASON_CHARACTERS = 1024
_TICK_SECONDS = 0.5
_STARTING_TICK_SECONDS = 0.02
_CAPTURE_SECONDS = 5.0
_DRAIN_SECONDS = 60.0
_LAST_REQUESTS_SECONDS = 5.0
_SENDING_TRIES = 3
_LOG = logging.getLogger("launcher.endpoint")


class EndpointProcess:
    """Carries an endpoint; the caller holds its lock.

    Args:
        store: the home.
        name: of the endpoint.
        listener: where it is asked.
        runtime: by default the one that the endpoint was made for.
    """

    def __init__(
        self, store: EndpointStore, name: str, listener: socket.socket, runtime: Runtime | None = None
    ) -> None:
        self._store = store
        self._name = name
        self._folder = store.folder(name)
        self._times = FolderTimes(self._folder)
        self._record = store.load(name)
        self._runtime = runtime or get_runtime(self._record.runtime)
        self._saving = threading.Lock()
        self._woken = threading.Event()
        self._stop_wanted = False
        self._routes = Routes()
        self._invocations = Invocations(name, self._routes)
        self._queue = AsyncQueue(self._folder.path / "async", self._invocations)
        self._router = Router(name, listener, self._record.token, self._invocations, self)
        self._fleet: Fleet | None = None
        self._coming: Fleet | None = None
        self._leaving: list[threading.Thread] = []
        self._next_capture = 0.0
        self._record.port = int(listener.getsockname()[1])

    # What the router asks of the process around it.

    def state(self) -> Mapping[str, Any]:
        """Return how the endpoint is, for the launcher."""
        return {"status": self._record.status}

    def wake(self) -> None:
        """Look at once what is wanted of the endpoint."""
        self._woken.set()

    def accept_later(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Take a request that is answered in S3."""
        self._invocations.check_serving()
        return self._queue.accept(headers, body)

    # The life of an endpoint.

    def stop(self) -> None:
        """End this process soon; the endpoint goes on in another."""
        self._stop_wanted = True
        self._woken.set()

    def run(self) -> None:
        """Serve until the endpoint is deleted, has failed, or another process is to go on."""
        self._save()
        self._router.start()
        try:
            if not self._is_deleted():
                self._take_up()
            while not self._stop_wanted:
                if self._is_deleted():
                    self._delete()
                    return
                self._look_for_update()
                self._look_at_coming()
                self._look_at_fleet()
                if self._record.status == EndpointStatus.FAILED:
                    return
                self._tick_capture()
                self._times.note()
                is_starting = self._record.status in (EndpointStatus.CREATING, EndpointStatus.UPDATING)
                self._woken.wait(_STARTING_TICK_SECONDS if is_starting else _TICK_SECONDS)
                self._woken.clear()
            self._leave()
        except OSError as error:  # its own folder is gone, or full: nothing can be recorded any more
            _LOG.error("the endpoint's files cannot be read or written: %s", error)
            self._leave()
            raise

    def _take_up(self) -> None:
        """Begin with what the record says: also where another process left it."""
        record = self._record
        is_new = record.status == EndpointStatus.CREATING
        for identity, values in list(record.leaving.items()):
            self._stop_later(self._fleet_of(Deployment.from_dict(values), fresh=False), identity)
        self._fleet = self._fleet_of(record.current, fresh=is_new)
        if not self._begin(self._fleet):
            return
        self._open_for(record.current)
        self._routes.exchange(self._fleet.variants)
        self._invocations.serving = not is_new
        self._send_leftovers()

    def _begin(self, fleet: Fleet) -> bool:
        try:
            fleet.start()
        except LauncherError as error:
            fleet.failure = error
            return False
        for warning in fleet.warnings:
            self._record.warn(warning)
        return True

    def _fleet_of(self, deployment: Deployment, *, fresh: bool) -> Fleet:
        return Fleet(
            deployment, self._folder, self._store.home, self._runtime, self._record.attempts, self._save, fresh=fresh
        )

    def _open_for(self, deployment: Deployment) -> Capture | None:
        """Capture, and answer later, as a deployment says; return what captured before, if that is over."""
        config = deployment.config
        settings = CaptureSettings.of(config.capture)
        before = self._invocations.capture
        if settings is None:
            self._invocations.capture = None
        elif before is None or before.settings != settings:
            spool = spool_folder(self._folder.path, settings.destination, config.s3)
            self._invocations.capture = Capture(
                self._name, settings, spool, recorded_storage(settings.destination, config.s3)
            )
        self._queue.configure(config)
        return before if before is not self._invocations.capture else None

    def _look_for_update(self) -> None:
        """Begin the update that is wanted, unless one is under way."""
        if self._coming is not None or self._record.status == EndpointStatus.CREATING:
            return
        values = self._record.coming or self._wanted()
        if not values:
            return
        deployment = Deployment.from_dict(values)
        if deployment.identity in (self._record.deployment["identity"], self._record.given_up):
            self._record.coming = {}
            return
        if self._fleet is not None and deployment.containers == self._fleet.deployment.containers:
            self._fleet.deployment = deployment
            self._routes.exchange(self._fleet.variants)
            self._record.deployment, self._record.coming, self._record.failure_reason = values, {}, ""
            self._save()
            return
        self._record.status, self._record.coming = EndpointStatus.UPDATING, values
        self._record.failure_reason = ""
        self._save()
        self._coming = self._fleet_of(deployment, fresh=True)
        self._begin(self._coming)

    def _wanted(self) -> dict[str, Any] | None:
        try:
            values: dict[str, Any] = json.loads((self._folder.path / WANTED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return values

    def _look_at_coming(self) -> None:
        coming, fleet = self._coming, self._fleet
        if coming is None or fleet is None:
            return
        record = self._record
        if coming.failure is not None:
            record.given_up, record.coming = coming.deployment.identity, {}
            record.status, record.failure_reason = EndpointStatus.IN_SERVICE, _reason(coming)
            record.leaving[coming.deployment.identity] = coming.deployment.to_dict()
            self._save()
            self._stop_later(coming, coming.deployment.identity)
            self._coming = None
        elif coming.ready:
            old = fleet.deployment
            former_capture = self._open_for(coming.deployment)
            self._routes.exchange(coming.variants)
            record.leaving[old.identity] = old.to_dict()
            record.deployment, record.coming = coming.deployment.to_dict(), {}
            record.status = EndpointStatus.IN_SERVICE
            self._fleet, self._coming = coming, None
            self._save()
            self._stop_later(fleet, old.identity, former_capture)

    def _look_at_fleet(self) -> None:
        fleet = self._fleet
        if fleet is None:
            return
        if fleet.failure is not None and self._coming is None:
            self._fail(fleet)
        elif self._record.status == EndpointStatus.CREATING and fleet.ready:
            self._record.status = EndpointStatus.IN_SERVICE
            self._invocations.serving = True
            self._save()

    def _fail(self, fleet: Fleet) -> None:
        self._invocations.serving = False
        reason = _reason(fleet)
        for other in self._leaving:
            other.join()
        with suppress(LauncherError):
            fleet.stop()
        self._router.end(_LAST_REQUESTS_SECONDS)
        self._queue.close()
        if self._invocations.capture is not None:
            self._close_capture(self._invocations.capture)
        self._record.status, self._record.failure_reason = EndpointStatus.FAILED, reason
        self._save()

    def _stop_later(self, fleet: Fleet, identity: str, capture: Capture | None = None) -> None:
        """End a fleet that gets no more requests, when it has answered those that it has; then close what captured."""

        def stop() -> None:
            deadline = time.monotonic() + _DRAIN_SECONDS
            while fleet.in_flight and time.monotonic() < deadline:
                time.sleep(0.01)
            if capture is not None:
                self._close_capture(capture)
            try:
                fleet.stop()
            except LauncherError as error:  # the record keeps it, so that the next process tries again
                _LOG.warning("containers of a former deployment are not removed: %s", error)
                return
            with self._saving:
                self._record.leaving.pop(identity, None)
            self._save()

        thread = threading.Thread(target=stop, name=f"stop {identity}", daemon=True)
        thread.start()
        self._leaving.append(thread)

    def _leave(self) -> None:
        """End this process, and nothing else."""
        self._router.end(_LAST_REQUESTS_SECONDS)
        self._queue.close()
        for fleet in (self._fleet, self._coming):
            if fleet is not None:
                fleet.leave()

    def _is_deleted(self) -> bool:
        return (self._folder.path / DELETION).exists()

    def _delete(self) -> None:
        """End everything, and remove the folder: the last that the process does."""
        self._record.status = EndpointStatus.DELETING
        self._invocations.serving = False
        self._save()
        self._queue.close()
        fleets = [fleet for fleet in (self._fleet, self._coming) if fleet is not None]
        if not fleets:  # it was to be deleted before this process took it up
            values = [self._record.deployment, self._record.coming, *self._record.leaving.values()]
            fleets = [self._fleet_of(Deployment.from_dict(value), fresh=False) for value in values if value]
        deadline = time.monotonic() + _DRAIN_SECONDS
        while any(fleet.in_flight for fleet in fleets) and time.monotonic() < deadline:
            time.sleep(0.01)
        errors = []
        for fleet in fleets:
            try:
                fleet.stop()
            except LauncherError as error:
                errors.append(error)
        for thread in self._leaving:
            thread.join()
        if self._invocations.capture is not None and not self._close_capture(self._invocations.capture):
            errors.append(LauncherError("what it captured could not be sent to its destination"))
        self._send_leftovers()
        if errors:
            self._record.status = EndpointStatus.FAILED
            self._record.failure_reason = f"it could not be deleted: {errors[0]}"[:FAILURE_REASON_CHARACTERS]
            (self._folder.path / DELETION).unlink(missing_ok=True)
            self._save()
            return
        self._router.end(_LAST_REQUESTS_SECONDS)
        with self._saving:
            aside = self._store.path / f".removed-{os.getpid()}-{self._name}"
            self._folder.path.rename(aside)
        shutil.rmtree(aside)

    def _tick_capture(self) -> None:
        capture = self._invocations.capture
        if capture is None or time.monotonic() < self._next_capture:
            return
        self._next_capture = time.monotonic() + _CAPTURE_SECONDS
        try:
            capture.tick()
        except LauncherError as error:
            _LOG.warning("captured data wait: %s", error)

    def _close_capture(self, capture: Capture) -> bool:
        for _ in range(_SENDING_TRIES):
            try:
                capture.close()
            except LauncherError as error:
                _LOG.warning("captured data wait: %s", error)
                time.sleep(1)
            else:
                return True
        return False

    def _send_leftovers(self) -> None:
        """Send what processes captured that were killed, for destinations that are no longer the endpoint's."""
        capture = self._invocations.capture
        for folder in sorted((self._folder.path / SPOOL).glob("*/")):
            values = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
            if capture is None or values["destination"] != capture.settings.destination:
                settings = CaptureSettings(values["destination"])
                self._close_capture(
                    Capture(self._name, settings, folder, recorded_storage(settings.destination, values["s3"]))
                )

    def _save(self) -> None:
        with self._saving:
            if self._folder.record_path.exists():
                self._store.save(self._name, self._record)


def _reason(fleet: Fleet) -> str:
    """Return FailureReason: AWS's words, what happened, and the last lines of the container."""
    error = fleet.failure
    text = ""
    if isinstance(error, ModelHostError):
        text = (
            f"The primary container for production variant {fleet.failed_variant} did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint. "
        )
    lines = " | ".join(error.log_lines) if isinstance(error, ModelHostError) else ""
    message = f"{text}{error.message if error else ''}"
    return f"{message} Its last lines: {lines}"[:FAILURE_REASON_CHARACTERS] if lines else message[:1024]


def carry(home: Path, name: str, listener: int, lock: int) -> None:
    """Be the process of an endpoint.

    Args:
        home: the store's.
        listener: the descriptor of the socket that it is asked at.
        lock: the descriptor of the endpoint's lock, which this process holds until it ends.
    """
    os.set_inheritable(lock, False)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    process = EndpointProcess(EndpointStore(home), name, socket.socket(fileno=listener))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.stop())
    process.run()
