"""Requests per second of the model server: against Flask under gunicorn, and against the model itself."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measuring import Aim, Row

from launcher.settings import data_path

_SECONDS = 0.7  # of each measurement
_WARM_UP_REQUESTS = 200
_WORKERS = 2
_RECORD = b"[0.01, -0.02, 0.03, 0.04]"
_OBSERVATION_SIZE, _HIDDEN_SIZES, _ACTIONS = 4, (64, 64), 2  # as the CartPole presets have them

# A do-nothing model, in the functions that each way of serving asks for.
_OURS = "def model_fn(folder): return None\ndef transform_fn(model, body, content_type, accept): return b'[1]'\n"
_FLASK = """
import json, pathlib, flask
app = flask.Flask("app")
folder = pathlib.Path({folder!r})
model = None
if (folder / "model.pt").exists():
    import torch
    torch.set_num_threads(1)
    model = torch.jit.load(str(folder / "model.pt"))
@app.get("/ping")
def ping(): return ""
@app.post("/invocations")
def invocations():
    if model is None:
        return flask.Response(b"[1]", mimetype="application/json")
    record = json.loads(flask.request.get_data())
    with torch.inference_mode():
        probabilities = model(torch.tensor([record], dtype=torch.float32))
    return flask.Response(json.dumps({{"predictions": probabilities.tolist()}}), mimetype="application/json")
"""


def serving_rows(scratch: Path, runs: int) -> list[Row]:
    """Return requests per second with a do-nothing model and with a policy, for 1 and 8 clients."""
    missing = [name for name in ("flask", "gunicorn", "uvicorn", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        return [Row("serving", "requests per second", skipped=f"{', '.join(missing)} not installed")]
    nothing, policy = scratch / "serve-nothing", scratch / "serve-policy"
    (nothing / "model").mkdir(parents=True)
    (nothing / "model" / "inference.py").write_text(_OURS)
    export_sample_policy(policy / "model")
    rows = []
    for title, base in (("a do-nothing model", nothing), ("the CartPole policy", policy)):
        with served_by_us(base) as ours, _flask(base) as flask:
            for clients in (1, 8):
                row = Row("serving", f"{title}, {clients} at a time, against Flask and gunicorn", "1/s")
                row.aims = (Aim("ratio", 2.0, at_least=True),)
                for number in range(runs + 1):
                    floor, own = _measured(flask, clients), _measured(ours, clients)
                    if number:
                        row.floor.append(floor)
                        row.ours.append(own)
                rows.append(row)
            if base is policy:
                row = Row("serving", f"{title}, 8 at a time, against the model called in a process", "1/s")
                call = _called(policy / "model")
                for _ in range(runs):
                    row.floor.append(call())
                    row.ours.append(_measured(ours, 8))
                rows.append(row)
    rows.append(_start_row(policy, runs))
    return rows


def _start_row(policy: Path, runs: int) -> Row:
    """Compare the time until the policy answers with loading its program by torch, which serving does without."""
    load = f"import torch; torch.jit.load({str(policy / 'model' / 'model.pt')!r})"
    row = Row("serving", "start to first answer, against loading the policy by torch", aims=(Aim("ratio", 1.0),))
    for number in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", load], check=True)
        floor = time.perf_counter() - started
        started = time.perf_counter()
        with served_by_us(policy):
            own = time.perf_counter() - started
        if number:
            row.floor.append(floor * 1000)
            row.ours.append(own * 1000)
    return row


def export_sample_policy(folder: Path) -> None:
    """Write a policy of the size that the CartPole presets train; what it learned does not change its speed."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pathlib, torch\n"
        "from batch_rl.learning.export import export_policy\n"
        "from batch_rl.networks import PolicyNetwork, initial_parameters, seeded_generator\n"
        f"sizes = ({_OBSERVATION_SIZE}, *{_HIDDEN_SIZES}, {_ACTIONS})\n"
        "parameters = initial_parameters(sizes, 1, seeded_generator(0, 0))\n"
        f"network = PolicyNetwork(parameters, torch.zeros({_OBSERVATION_SIZE}), torch.ones({_OBSERVATION_SIZE}), 0.5)\n"
        "export_policy(network, pathlib.Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(data_path("entrypoints")), str(folder)]
    subprocess.run(command, check=True)


def _called(folder: Path) -> Callable[[], float]:
    """Return a measurement of the model itself, record by record."""
    sys.path.insert(0, str(data_path("container")))
    import numpy as np

    from model_server.policy import load_policy

    policy, observation = load_policy(folder), np.array([json.loads(_RECORD)])

    def measure() -> float:
        end, count, started = time.perf_counter() + _SECONDS, 0, time.perf_counter()
        while time.perf_counter() < end:
            policy(observation)
            count += 1
        return count / (time.perf_counter() - started)

    return measure


@contextlib.contextmanager
def served_by_us(base: Path) -> Iterator[int]:
    port = _free_port()
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "PYTHONPATH": str(data_path("container")),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "LAUNCHER_SERVE_HOST": "127.0.0.1",
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(_WORKERS),
    }
    with _running([sys.executable, "-m", "job_toolkit", "serve"], port, **variables):
        yield port


@contextlib.contextmanager
def _flask(base: Path) -> Iterator[int]:
    port = _free_port()
    (base / "flask_app.py").write_text(_FLASK.format(folder=str(base / "model")))
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--workers", str(_WORKERS), "--log-level", "error"]
    with _running([*command, "--bind", f"127.0.0.1:{port}", "--chdir", str(base), "flask_app:app"], port):
        yield port


@contextlib.contextmanager
def _running(command: list[str], port: int, **variables: str) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            if _answers(port):
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _measured(port: int, clients: int) -> float:
    """Return requests per second; each client has one request under way, on a connection that it keeps if it may."""
    connections = [_Connection(port) for _ in range(clients)]
    for connection in connections:
        connection.send()
    count, began, end = 0, 0.0, 0.0
    while not end or time.perf_counter() < end:
        for connection in connections:
            connection.receive()
            connection.send()
            count += 1
        if not end and count >= _WARM_UP_REQUESTS:
            count, began = 0, time.perf_counter()
            end = began + _SECONDS
    rate = count / (time.perf_counter() - began)
    for connection in connections:
        connection.close()
    return rate


class _Connection:
    """A client that does little besides waiting: it shares the CPUs with what it measures."""

    def __init__(self, port: int) -> None:
        self._port = port
        head = (
            f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(_RECORD)}"
        )
        self._request = head.encode() + b"\r\n\r\n" + _RECORD
        self._socket: socket.socket | None = None

    def send(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)

    def receive(self) -> None:
        assert self._socket is not None
        answer = self._socket.recv(65536)
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        if b"connection: close" in head:
            self.close()

    def _more(self) -> bytes:
        assert self._socket is not None
        part = self._socket.recv(65536)
        if not part:
            raise RuntimeError("the server closed the connection")
        return part

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
