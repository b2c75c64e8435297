"""A runtime without containers, namespaces or a supervisor: a child of the test that can be made to misbehave."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.runtimes import EndCause, Ending, Execution, HostState, Runtime, open_log
from launcher.settings import data_path


class FakeExecution(Execution):
    def __init__(self, child, pending_until=0.0, port=0):
        self.child = child
        self.port = port
        self.removed = self.lost = False
        self.pending_until = pending_until

    @property
    def reference(self):
        return {"runtime": "fake", "pid": self.child.pid}

    def state(self):
        if time.monotonic() < self.pending_until:
            return HostState.PENDING
        return HostState.RUNNING if self.child.poll() is None else HostState.ENDED

    def wait(self, timeout_seconds):
        try:
            code = self.child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def ending(self):
        return Ending(EndCause.REMOVED, "the fake was removed, not by the launcher") if self.lost else Ending()

    def lose(self):
        """End the host as an engine does that loses it."""
        self.lost = True
        self.kill()

    def address(self):
        if not self.port:
            raise RuntimeUnavailableError("this host serves nothing")
        return "127.0.0.1", self.port

    def terminate(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)

    def kill(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)

    def pause(self):
        os.killpg(self.child.pid, signal.SIGSTOP)

    def resume(self):
        os.killpg(self.child.pid, signal.SIGCONT)

    def remove(self):
        self.kill()
        self.child.wait()
        self.removed = True


class FakeRuntime(Runtime):
    """Runs ``job_toolkit`` directly.

    Args:
        start_error: raised instead of starting.
        prepare_error: raised instead of having an image.
        queue_seconds: how long each host waits for a place to run; its script runs meanwhile.
    """

    name = "process"
    network_interface = "lo"
    needs_local_libraries = True

    @property
    def host_address(self):
        return "127.0.0.1"

    def __init__(self, start_error=None, prepare_error=None, queue_seconds=0.0):
        self.start_error = start_error
        self.prepare_error = prepare_error
        self.queue_seconds = queue_seconds
        self.started = []
        self.opened = set()
        self.executions = {}

    def check(self, container):
        if container.image == "unknown":
            raise ImageError("image 'unknown' is not on this machine")

    def refused_faults(self, container):
        return {"slow": "a fake has one speed", "cut": "a fake has no network"}

    def describe_image(self, container):
        return "fake"

    def prepare(self, container):
        if self.prepare_error:
            raise self.prepare_error

    def open(self, containers):
        self.opened.add(containers[0].job_name)

    def close(self, containers):
        own = [execution for (job, _), execution in self.executions.items() if job == containers[0].job_name]
        assert all(execution.removed for execution in own), "a host still runs"
        self.opened.discard(containers[0].job_name)

    def start(self, container):
        if self.start_error:
            raise self.start_error
        if container.network_isolated:
            raise RuntimeUnavailableError("a fake has no network to take away")
        assert container.job_name in self.opened
        base = Path(container.tree_path)
        for mount in container.mounts:
            if Path(mount.source).is_relative_to(base):
                continue
            target = base / Path(mount.target).relative_to("/opt/ml")
            if Path(mount.source).is_dir():
                shutil.copytree(mount.source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(mount.source, target)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(data_path("container")), "PYTHONUNBUFFERED": "1"}
        environment |= {"SAGEMAKER_BASE_DIR": str(base), **container.environment}
        port = 0
        if container.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            environment |= {"SAGEMAKER_BIND_TO_PORT": str(port), "LAUNCHER_SERVE_HOST": "127.0.0.1"}
        command = [sys.executable, "-m", "job_toolkit"] if not container.entry_point else [*container.entry_point]
        words = [*command, *container.arguments]
        with open_log(container) as log:
            child = subprocess.Popen(
                [str(base / word[8:]) if word.startswith("/opt/ml/") else word for word in words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(container)
        self.executions[container.job_name, container.host] = FakeExecution(
            child, time.monotonic() + self.queue_seconds, port
        )
        return self.executions[container.job_name, container.host]

    def find(self, container):
        execution = self.executions.get((container.job_name, container.host))
        return None if execution is None or execution.removed else execution


class FakeServing(Runtime):
    """Runs nothing: each container is a server in a thread of the test, which answers as the test says.

    Args:
        answer: takes the container, the headers and the body of a request; returns status and body.
        parameters: what ``/execution-parameters`` answers; None: 404.
    """

    name = "process"
    network_interface = "lo"

    def __init__(self, answer, parameters=None):
        self.answer = answer
        self.parameters = parameters
        self.started = []
        self.executions = {}

    host_address = "127.0.0.1"

    def check(self, container):
        """Everything can be run."""

    def describe_image(self, container):
        return "fake"

    def prepare(self, container):
        """Nothing to prepare."""

    def start(self, container):
        self.started.append(container)
        self.executions[container.job_name, container.host] = FakeServer(self, container)
        return self.executions[container.job_name, container.host]

    def find(self, container):
        return self.executions.get((container.job_name, container.host))

    @property
    def running(self):
        return [execution for execution in self.executions.values() if execution.state() is HostState.RUNNING]


class FakeServer(Execution):
    def __init__(self, runtime, container):
        self.runtime, self.container = runtime, container
        self.ended = threading.Event()
        self.requests = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def handler(self):
        execution = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def log_message(self, *_):
                """Say nothing."""

            def do_GET(self):
                parameters = execution.runtime.parameters
                known = self.path == "/ping" or (self.path == "/execution-parameters" and parameters is not None)
                body = json.dumps(parameters).encode() if self.path == "/execution-parameters" and known else b""
                self.reply(200 if known else 404, body)

            def do_POST(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                execution.requests.append((dict(self.headers), body))
                self.reply(*execution.runtime.answer(execution.container, self.headers, body))

            def reply(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    @property
    def reference(self):
        return {"runtime": "fake-serving"}

    def state(self):
        return HostState.ENDED if self.ended.is_set() else HostState.RUNNING

    def wait(self, timeout_seconds):
        return 0 if self.ended.wait(timeout_seconds) else None

    def address(self):
        return self.server.server_address

    def terminate(self):
        self.kill()

    def kill(self):
        if not self.ended.is_set():
            self.ended.set()
            self.server.shutdown()
            self.server.server_close()

    def remove(self):
        self.kill()
        self.runtime.executions.pop((self.container.job_name, self.container.host), None)
