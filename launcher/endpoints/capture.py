"""Data capture: every answer with its request, as JSON Lines in the form of AWS's, and the rewards that come later.

A line is written whole to the kernel before the answer is sent: an answer that somebody has is in the log, whatever
becomes of this process. A process that is killed may leave half a line, the last of its file, which readers leave out.

Layout below ``DestinationS3Uri``, as on AWS: ``ENDPOINT/VARIANT/yyyy/mm/dd/hh/MM-SS-mmm-ID.jsonl`` in UTC. Rewards lie
in ``ENDPOINT/ground-truth/yyyy/mm/dd/hh/``, in the form that AWS's model monitor takes.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import random
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from launcher.storage import Storage

GROUND_TRUTH = "ground-truth"
EPISODE_ATTRIBUTE = "episode_id"
STEP_ATTRIBUTE = "step"
_MOST_BYTES = 8 << 20
_LONGEST_SECONDS = 60.0
_EVENT_VERSION = "0"


@dataclass(frozen=True, slots=True)
class Event:
    """An answer with its request.

    Attributes:
        event_id: made by the endpoint, for this event alone.
        inference_id: the client's own, if it gave any.
    """

    event_id: str
    inference_id: str | None
    custom_attributes: str | None
    variant: str
    input: bytes
    input_type: str
    output: bytes
    output_type: str


@dataclass(frozen=True)
class CaptureSettings:
    """DataCaptureConfig.

    Attributes:
        destination: the URI, ``file://`` or ``s3://``, without a slash at its end.
        percentage: of the requests that is captured, drawn by episode where requests name theirs, so that no episode
            has gaps.
    """

    destination: str
    percentage: int = 100
    input: bool = True
    output: bool = True
    csv_types: tuple[str, ...] = ("text/csv",)
    json_types: tuple[str, ...] = ("application/json",)

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> CaptureSettings | None:
        """Return what a DataCaptureConfig asks for; None where it asks for nothing."""
        if not config or not config.get("EnableCapture", True):
            return None
        modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
        both = "InputAndOutput" in modes
        types = config.get("CaptureContentTypeHeader", {})
        return cls(
            config["DestinationS3Uri"].rstrip("/"),
            config["InitialSamplingPercentage"],
            both or "Input" in modes,
            both or "Output" in modes,
            tuple(types.get("CsvContentTypes", ())),
            tuple(types.get("JsonContentTypes", ())),
        )


class Capture:
    """Writes what an endpoint answers.

    Args:
        endpoint_name: part of every path.
        settings: what is captured, and where to.
        spool: a folder for what is on its way to an S3; what another process left there is sent on.
        storage: of the destination.
    """

    def __init__(self, endpoint_name: str, settings: CaptureSettings, spool: Path, storage: Storage) -> None:
        self.settings = settings
        self._endpoint = endpoint_name
        self._spool = spool
        self._storage = storage
        self._direct = settings.destination.startswith("file://")
        self._root = Path(settings.destination.removeprefix("file://")) if self._direct else spool
        self._parts: dict[str, _Part] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def write(self, event: Event) -> None:
        """Write an event, if it is one of the sample; it is in the log when this returns.

        Raises:
            OSError: it could not be written, and nothing of it is in the log.
        """
        if self._wanted(event):
            self._append(event.variant, _line(event, self.settings))

    def reward(self, values: Mapping[str, Any], identity: str) -> None:
        """Write what became of a request.

        Args:
            values: the reward, and how the episode went on.
            identity: the id by which the request is found.
        Raises:
            OSError: it could not be written.
        """
        truth = {
            "groundTruthData": {"data": json.dumps(dict(values)), "encoding": "JSON"},
            "eventMetadata": {"eventId": identity, "groundTruthTime": _stamp(int(time.time()))},
            "eventVersion": _EVENT_VERSION,
        }
        self._append(GROUND_TRUTH, json.dumps(truth).encode() + b"\n")

    def tick(self) -> None:
        """Send the files that are full, or old, to their destination.

        Raises:
            LauncherError: the destination cannot be written; the files stay, and are sent with the next tick.
        """
        with self._lock:
            for name, part in list(self._parts.items()):
                if part.full or (not self._direct and part.age >= _LONGEST_SECONDS):
                    self._parts.pop(name).close()
        self._send()

    def close(self) -> None:
        """Send everything to its destination; a later write begins a new file.

        Raises:
            LauncherError: the destination cannot be written; the files stay for the next process.
        """
        with self._lock:
            for name in list(self._parts):
                self._parts.pop(name).close()
        self._send()

    def _wanted(self, event: Event) -> bool:
        share = self.settings.percentage
        if share >= 100:
            return True
        episode = attributes_of(event.custom_attributes).get(EPISODE_ATTRIBUTE)
        if episode is None:
            return random.random() * 100 < share
        return crc32(episode.encode()) % 10_000 < share * 100

    def _append(self, name: str, line: bytes) -> None:
        with self._lock:
            part = self._parts.get(name)
            if part is None or part.full:
                if part is not None:
                    self._parts.pop(name).close()
                part = self._parts[name] = _Part(self._root / self._endpoint / name)
            part.append(line)

    def _send(self) -> None:
        if self._direct:
            return
        with self._sending:
            paths = sorted(self._spool.rglob("*.jsonl"))
            with self._lock:  # after the listing: a file that was begun since is not in it
                open_paths = {part.path for part in self._parts.values()}
            for path in paths:
                if path not in open_paths:
                    _drop_half_line(path)
                    uri = f"{self.settings.destination}/{path.relative_to(self._spool).as_posix()}"
                    self._storage.upload_all({path: uri})
                    path.unlink()


class _Part:
    """A file that lines are appended to, by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        now = time.time()
        moment = datetime.fromtimestamp(now, UTC)
        name = f"{moment:%M-%S}-{moment.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        self.path = folder / moment.strftime("%Y/%m/%d/%H") / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._begun = time.monotonic()
        self._hour = int(now // 3600)
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether another file is to be begun."""
        return self._size >= _MOST_BYTES or int(time.time() // 3600) != self._hour

    @property
    def age(self) -> float:
        """For how many seconds it has been written to."""
        return time.monotonic() - self._begun

    def append(self, line: bytes) -> None:
        """Write a line in one piece.

        Raises:
            OSError: there is no room for all of it.
        """
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, "there is no room for the whole line")
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)


def attributes_of(text: str | None) -> dict[str, str]:
    """Return what custom attributes say as ``name=value``, separated by commas or semicolons; others are left out."""
    pairs = (part.partition("=") for part in (text or "").replace(";", ",").split(","))
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def _line(event: Event, settings: CaptureSettings) -> bytes:
    captured = {}
    if settings.input:
        captured["endpointInput"] = _payload("INPUT", event.input, event.input_type, settings)
    if settings.output:
        captured["endpointOutput"] = _payload("OUTPUT", event.output, event.output_type, settings)
    metadata: dict[str, Any] = {"eventId": event.event_id}
    if event.custom_attributes is not None:
        metadata["customAttributes"] = [event.custom_attributes]
    if event.inference_id is not None:
        metadata["inferenceId"] = event.inference_id
    now = time.time_ns()
    # Ours: AWS's time has whole seconds, in which a policy may take many steps.
    metadata |= {"inferenceTime": _stamp(now // 1_000_000_000), "sequence": now}
    return json.dumps(
        {"captureData": captured, "eventMetadata": metadata, "eventVersion": _EVENT_VERSION}
    ).encode() + b"\n"  # fmt: skip


def _payload(mode: str, data: bytes, content_type: str, settings: CaptureSettings) -> dict[str, str]:
    kind = content_type.partition(";")[0].strip().lower()
    encoding = "CSV" if kind in settings.csv_types else "JSON" if kind in settings.json_types else "BASE64"
    if encoding != "BASE64":
        try:
            text = data.decode()
        except UnicodeDecodeError:
            encoding = "BASE64"
    if encoding == "BASE64":
        text = base64.b64encode(data).decode()
    return {"observedContentType": content_type, "mode": mode, "data": text, "encoding": encoding}


@lru_cache(2)
def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _drop_half_line(path: Path) -> None:
    """Cut off the half line that a process may have left that was killed while it wrote."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            file.truncate(end)
