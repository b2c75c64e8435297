"""A runtime without containers, namespaces or a supervisor: a child of the test that can be made to misbehave."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.runtimes import Execution, HostState, Runtime
from launcher.settings import data_path


class FakeExecution(Execution):
    def __init__(self, child, pending_until=0.0, port=0):
        self.child = child
        self.port = port
        self.removed = False
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

    def describe_image(self, container):
        return "fake"

    def prepare(self, container):
        if self.prepare_error:
            raise self.prepare_error

    def open(self, containers):
        self.opened.add(containers[0].job_name)

    def close(self, containers):
        assert all(execution.removed for execution in self.executions.values()), "a host still runs"
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
        with Path(container.log_path).open("wb") as log:
            child = subprocess.Popen(
                [*command, *container.arguments],
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
        return self.executions.get((container.job_name, container.host))
