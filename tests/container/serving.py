"""A model server as a process of this machine, and what asks it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

CONTAINER = Path(__file__).parents[2] / "container"
START_SECONDS = 120


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """Send one request on a connection of its own; ``content_type="text/csv"`` is a header."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


class ModelServer:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self.process, self.port, self._log_path = process, port, log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        return ask(self.port, method, path, body, **headers)

    def invoke(self, body: bytes | str, content_type: str = "application/json", **headers: str) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        return self.ask("POST", "/invocations", data, content_type=content_type, **headers)

    def ping(self) -> Reply | None:
        """Return the answer; None where nobody listens yet, or a connection was cut while the server got ready."""
        try:
            return self.ask("GET", "/ping")
        except (OSError, http.client.HTTPException):
            return None

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while (reply := self.ping()) is None or reply.status != 200:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def worker_pids(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def starting_server(base: Path, **variables: str) -> Iterator[ModelServer]:
    """Start ``job_toolkit serve`` for the tree at ``base``; it need not be ready yet."""
    port, log_path = free_port(), base / "server.log"
    own = {
        "SAGEMAKER_BASE_DIR": str(base),
        "PYTHONPATH": str(CONTAINER),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "LAUNCHER_SERVE_HOST": "127.0.0.1",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "job_toolkit", "serve"],
            env={**os.environ, **own, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield ModelServer(process, port, log_path)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running_server(base: Path, **variables: str) -> Iterator[ModelServer]:
    """Start ``job_toolkit serve`` for the tree at ``base`` and wait until it answers."""
    with starting_server(base, **variables) as server:
        server.wait_until_ready()
        yield server


class Load:
    """Clients that ask again and again, each on a connection that it keeps, until the end of the ``with`` block.

    Attributes:
        answers: number of answers with status 200.
        failures: what else happened, in words.
    """

    def __init__(self, port: int, body: bytes, clients: int = 4) -> None:
        self._port, self._body = port, body
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self._lock = threading.Lock()
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Return when that many answers have come since now, or a client has failed in vain for a minute."""
        goal, end = self.answers + answers, time.monotonic() + 60
        while self.answers < goal and time.monotonic() < end:
            time.sleep(0.005)
        assert self.answers >= goal, self.failures[:5]

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._over.is_set():
            try:
                connection.request("POST", "/invocations", self._body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                failure = None if answer.status == 200 else f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                failure = repr(error)
            with self._lock:
                if failure is None:
                    self.answers += 1
                else:
                    self.failures.append(failure)
