"""The embedded S3's server as a process of its own: started by whoever needs it first, found by all others.

A server holds a ``flock`` for as long as it lives, so no process id is trusted; where it listens stands in a file,
with a word that only it can answer. The port stays the same from one server to the next while it is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import StorageError
from launcher.settings import s3_idle_seconds

LOOPBACK = "127.0.0.1"
_CONTROL_PATH = "/_launcher/"  # of server.py, which is imported by who starts one
_START_SECONDS = 30
_PING_SECONDS = 5


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    address: str
    port: int
    pid: int
    token: str

    @property
    def url(self) -> str:
        """Where clients find it."""
        return _url(self.address, self.port)


def ensure(home: Path, address: str = LOOPBACK) -> str:
    """Return the URL of a server of the store below ``home`` that listens on ``address``; start it when there is none.

    It ends by itself when nobody has used it for ``LAUNCHER_S3_IDLE_SECONDS`` and nobody holds ``in_use``.

    Raises:
        StorageError: the address is none of this machine, or the server does not start.
        SettingsError: ``LAUNCHER_S3_IDLE_SECONDS`` is no number of seconds.
    """
    place = _Place(home, address)
    found = place.running()
    return found.url if found is not None else place.start().url


def status(home: Path) -> list[Server]:
    """Return the servers that are up, by address."""
    found = [_Place(home, path.stem).running() for path in sorted(_folder(home).glob("*.json"))]
    return [server for server in found if server is not None]


def is_ours(home: Path, url: str) -> bool:
    """Return whether a server of the store below ``home`` is at ``url``, or was until it ended."""
    for path in _folder(home).glob("*.json"):
        place = _Place(home, path.stem)
        if place.last_url() == url:
            return place.running() is not None or not place.taken()
    return False


def stop(home: Path) -> list[Server]:
    """End the servers that are up, after the requests they are at; return them."""
    stopped = status(home)
    for server in stopped:
        with contextlib.suppress(OSError, http.client.HTTPException):
            _ask(server.address, server.port, f"stop/{server.token}")
        place, deadline = _Place(home, server.address), time.monotonic() + _START_SECONDS
        while place.alive():
            if time.monotonic() > deadline:
                raise StorageError(
                    "SlowDown", "the server does not end", server.url, f"If it has to: kill -9 {server.pid}"
                )
            time.sleep(0.02)
    return stopped


@contextmanager
def in_use(home: Path, address: str = LOOPBACK) -> Iterator[str]:
    """Start a server if there is none, and keep it from ending as idle; give its URL."""
    place = _Place(home, address)
    _folder(home).mkdir(parents=True, exist_ok=True)
    with place.file("use").open("ab") as use:
        fcntl.flock(use, fcntl.LOCK_SH)
        yield ensure(home, address)


class _Place:
    """The files of the server of one store on one address."""

    def __init__(self, home: Path, address: str) -> None:
        self._home = home
        self._address = address

    def file(self, kind: str) -> Path:
        return _folder(self._home) / f"{self._address}.{kind}"

    def running(self) -> Server | None:
        """Return the server that the file names, if it is that one that answers."""
        known = self._known()
        if known is None:
            return None
        try:
            answer = json.loads(_ask(self._address, known["port"], "ping"))
        except (OSError, http.client.HTTPException, ValueError):
            return None
        if not isinstance(answer, dict) or answer.get("token") != known["token"]:
            return None
        return Server(self._address, known["port"], answer["pid"], known["token"])

    def last_url(self) -> str | None:
        """Return where the last server listened, whether it is up or not."""
        known = self._known()
        return _url(self._address, known["port"]) if known else None

    def taken(self) -> bool:
        """Return whether anybody listens where the last server did."""
        known = self._known()
        try:
            socket.create_connection((self._address, known["port"] if known else 0), _PING_SECONDS).close()
        except OSError:
            return False
        return True

    def alive(self) -> bool:
        """Return whether a server holds its lock."""
        try:
            with self.file("alive").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def start(self) -> Server:
        """Start a server, or find the one that somebody else has started meanwhile."""
        idle_seconds = s3_idle_seconds()
        _folder(self._home).mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _START_SECONDS
        with self.file("starting").open("wb") as starting, self.file("alive").open("ab") as alive:
            fcntl.flock(starting, fcntl.LOCK_EX)
            while True:
                found = self.running()
                if found is not None:
                    return found
                try:
                    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:  # one is about to end, or too busy to answer at once
                    if time.monotonic() > deadline:
                        raise self._failed("holds its lock and does not answer") from None
                    time.sleep(0.05)
            self._launch(alive.fileno(), idle_seconds)
        while time.monotonic() < deadline:
            found = self.running()
            if found is not None:
                return found
            if not self.alive():
                break
            time.sleep(0.02)
        raise self._failed("did not start")

    def _launch(self, lock: int, idle_seconds: float) -> None:
        """Bind the port, hand it and the lock to a new process, and write down where it will answer."""
        from launcher.s3_server.server import listen

        known = self._known()
        try:
            listener = listen(self._address, known["port"] if known else 0)
        except OSError as error:
            raise StorageError(
                "InternalError", f"cannot listen on {self._address}: {error.strerror or error}", "the embedded S3",
                "Is it an address of this machine? ip addr shows them.",
            ) from error  # fmt: skip
        token = uuid.uuid4().hex
        with listener, self.file("log").open("ab") as log:
            new = self.file("json").with_suffix(".new")
            new.write_text(json.dumps({"port": listener.getsockname()[1], "token": token}), encoding="utf-8")
            new.chmod(0o600)
            package_parent = str(Path(__file__).resolve().parents[2])
            search_path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
            descriptors = (listener.fileno(), lock)
            arguments = [self._home / "s3", self.file("use"), *descriptors, token, idle_seconds]
            # It forks and returns at once, so that the server is nobody's child to wait for.
            subprocess.run(
                [sys.executable, "-m", "launcher.s3_server.server", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False,
                env={**os.environ, "PYTHONPATH": search_path}, pass_fds=descriptors, start_new_session=True,
            )  # fmt: skip
            new.replace(self.file("json"))

    def _known(self) -> dict[str, Any] | None:
        try:
            known = json.loads(self.file("json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        valid = isinstance(known, dict) and isinstance(known.get("port"), int) and isinstance(known.get("token"), str)
        return known if valid else None

    def _failed(self, what: str) -> StorageError:
        log = self.file("log")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:] if log.exists() else []
        return StorageError(
            "InternalError",
            f"the server on {self._address} {what}",
            "the embedded S3",
            "\n  ".join([f"Its log: {log}", *lines]),
        )


def _url(address: str, port: int) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def _folder(home: Path) -> Path:
    return home / "s3" / "servers"


def _ask(address: str, port: int, what: str) -> bytes:
    connection = http.client.HTTPConnection(address, port, timeout=_PING_SECONDS)
    try:
        connection.request("GET", _CONTROL_PATH + what)
        answer = connection.getresponse()
        text = answer.read(4096)
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return text
    finally:
        connection.close()
