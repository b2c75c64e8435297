"""What moto keeps in memory, as the requests that made it: so that it survives the process and both servers share it.

A request that may have changed something is written down before its answer is sent, with the seed of the random numbers
that moto drew for it. Whoever loads moto makes the same requests again, in the same order, and gets the same ids. A
server catches up with what another one has written before it answers.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1 << 20
_READING = re.compile(
    r"(Get|List|Describe|BatchGet|BatchCheck|Filter|Simulate|Test|StartQuery|StopQuery|StartLiveTail|Generate)[A-Z]\w*"
)
_DATA = frozenset({"PutLogEvents", "PutMetricData", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"})
_SERVICES = ("iam", "logs", "cloudwatch", "ecr")
_KEPT_HEADERS = ("content-type", "x-amz-target", "authorization")
_LOG = logging.getLogger("launcher.aws")


@dataclass(frozen=True)
class Entry:
    """A request that was answered.

    Attributes:
        seed: of the random numbers of its answer.
    """

    service: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    seed: int


class Journal:
    """The requests of one home, in a file.

    Args:
        home: the launcher's.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "moto" / "requests.jsonl"
        self._offset = 0

    def keeps(self, service: str, operation: str) -> bool:
        """Return whether a request of this operation is written down: data such as log events are not."""
        return service in _SERVICES and operation not in _DATA and not _READING.fullmatch(operation)

    @contextmanager
    def caught_up(self, repeat: Callable[[Entry], None], *, writes: bool) -> Iterator[None]:
        """Repeat what has been written since the last time; meanwhile nobody else writes, where this one may.

        Args:
            repeat: makes a request again.
            writes: whether ``add`` may be called meanwhile.
        """
        if not writes and not self._has_more():
            yield
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # whoever wrote it was killed, and nobody has its answer
                    file.truncate(self._offset)
                    break
                self._offset += len(line)
                if (entry := _read(line)) is not None:
                    repeat(entry)
            yield

    def add(self, entry: Entry) -> None:
        """Write a request down, within ``caught_up``; once the file is full, it says so and is left as it is."""
        values = {
            "service": entry.service,
            "method": entry.method,
            "target": entry.target,
            "headers": {
                name: _without_signature(entry.headers[name]) for name in _KEPT_HEADERS if name in entry.headers
            },
            "body": base64.b64encode(entry.body).decode(),
            "seed": entry.seed,
        }
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        if self._offset + len(line) > MAX_BYTES:
            _LOG.warning("%s is full: what is made from now on lives as long as this process", self.path)
            return
        with self.path.open("ab") as file:
            file.write(line)
        self._offset += len(line)

    def _has_more(self) -> bool:
        try:
            return self.path.stat().st_size > self._offset
        except FileNotFoundError:
            return False


def _read(line: bytes) -> Entry | None:
    try:
        values = json.loads(line)
        body = base64.b64decode(values["body"])
        headers = dict(values["headers"])
        return Entry(values["service"], values["method"], values["target"], headers, body, int(values["seed"]))
    except (ValueError, KeyError, TypeError) as error:
        _LOG.warning("a line of moto's requests is damaged, and left out: %s", error)
        return None


def _without_signature(value: str) -> str:
    """Return a header; of a signature what says which service and region it is for."""
    return value.partition(", SignedHeaders")[0].partition(",SignedHeaders")[0]
