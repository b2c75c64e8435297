"""Leads debuggers of this machine to the program of each host of a job.

The program listens on the loopback address inside its container or its namespaces. A port of this machine's own
loopback address stands for each host; what comes there is handed to the program, and waits until that is ready.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.errors import DebuggerError, RuntimeUnavailableError
from launcher.jobs.folder import JobFolder
from launcher.jobs.spec import OPT_ML, ContainerSpec, Mount, TrainingJobSpec
from launcher.running.opt_ml import OptMl
from launcher.runtimes import Execution, HostState, Runtime
from launcher.runtimes.base import Inside
from launcher.runtimes.images import is_bundled, local_image
from launcher.settings import install_command
from launcher.trees import Skipped

VARIABLE = "LAUNCHER_DEBUGPY"
_PORT_FILE = ".debug-port"
_LENT = "/run/launcher/debug"
_LOOPBACK = "127.0.0.1"
_LOOKING_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16

Hosts = Callable[[], Mapping[str, Execution]]


def check_debugging(spec: TrainingJobSpec, runtime: Runtime) -> None:
    """Refuse to debug what no debugger could be put into.

    Raises:
        DebuggerError: the program is no Python script of the bundled image's toolkit, there is no debugpy, or the
            runtime lets nobody in.
    """
    if runtime.no_entry:
        raise DebuggerError(
            f"debug=True leads a debugger into the job's hosts, and none gets into those of the {runtime.name} "
            f"runtime: {runtime.no_entry}.",
            'Debug with runtime="process" or "docker".',
        )
    program = spec.entry_point or "the image's own program"
    if not is_bundled(local_image(spec.image_uri)):
        raise DebuggerError(
            "debug=True needs the bundled image, or the process runtime: only their toolkit starts a debugger.",
            "Leave image_uri out, or start debugpy in your own program.",
        )
    if spec.container_entry_point or spec.container_arguments:
        raise DebuggerError(
            "debug=True needs the toolkit, which starts the debugger, and container_entry_point or "
            "container_arguments start something else.",
            "Leave them out, or start debugpy in your own program.",
        )
    if not program.endswith(".py"):
        raise DebuggerError(f"debug=True needs a Python program, and {program} is none.", "Name a .py file.")
    debugpy_path()


def debugpy_path() -> Path:
    """Return the folder of this machine's debugpy.

    Raises:
        DebuggerError: there is none.
    """
    place = importlib.util.find_spec("debugpy")
    if place is None or place.origin is None:
        raise DebuggerError(
            "debug=True needs the package debugpy, which is not installed here.",
            f"Install it: {install_command('debug')}",
        )
    return Path(place.origin).parent


def with_debugger(container: ContainerSpec, runtime: Runtime) -> ContainerSpec:
    """Return the container with this machine's debugpy, which it can only read.

    The package runs on every Python from 3.8 on: its compiled parts are for this machine's Python alone, and others do
    without.
    """
    path = debugpy_path()
    if runtime.needs_local_libraries:
        return replace(container, environment={**container.environment, VARIABLE: str(path.parent)})
    lent = Mount(str(path), f"{_LENT}/{path.name}")
    environment = {**container.environment, VARIABLE: _LENT}
    return replace(container, environment=environment, mounts=(*container.mounts, lent))


@contextlib.contextmanager
def within_reach(
    folder: JobFolder, containers: Sequence[ContainerSpec], ports: Mapping[str, int], hosts: Hosts
) -> Iterator[dict[str, int]]:
    """Lead debuggers to the hosts of a job until the end of the ``with`` block.

    Args:
        folder: the job's.
        containers: its hosts.
        ports: by host; a port of a driver before this one is taken again if it is free.
        hosts: returns the hosts that run, by name; called from other threads.
    Yields:
        The port of each host at this machine's loopback address.
    """
    with contextlib.ExitStack() as stack:
        taken = {}
        for container in containers:
            listener = stack.enter_context(_listener(ports.get(container.host, 0)))
            taken[container.host] = listener.getsockname()[1]
            arguments = (listener, container, hosts)
            threading.Thread(target=_serve, args=arguments, name=f"debug-{container.host}", daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)  # which ends its thread
        yield taken


def launch_configuration(spec: TrainingJobSpec, folder: JobFolder, ports: Mapping[str, int]) -> dict[str, Any]:
    """Return what VS Code's ``launch.json`` holds to debug a job, a configuration for each host."""
    source = str(spec.estimator.get("SourceDir") or "")
    if not source and (program := str(spec.estimator.get("EntryPoint") or "")):
        source = str(Path(program).parent)
    local = os.path.abspath(source) if source and "://" not in source else "${workspaceFolder}"  # noqa: PTH100
    configurations = [
        {
            "name": f"{spec.job_name} {host}",
            "type": "debugpy",
            "request": "attach",
            "connect": {"host": _LOOPBACK, "port": port},
            "pathMappings": [
                # The second where the system has no namespaces: the job then runs in its folder on this machine.
                {"localRoot": local, "remoteRoot": f"{OPT_ML}/code"},
                {"localRoot": local, "remoteRoot": str(folder.tree_path(host) / "code")},
            ],
            "justMyCode": False,
        }
        for host, port in ports.items()
    ]
    names = [configuration["name"] for configuration in configurations]
    compounds = [{"name": f"{spec.job_name} all hosts", "configurations": names}] if len(names) > 1 else []
    return {"version": "0.2.0", "configurations": configurations, **({"compounds": compounds} if compounds else {})}


def write_configuration(path: Path, configuration: Mapping[str, Any]) -> None:
    """Write a ``launch.json``.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server((_LOOPBACK, port))
    except OSError:
        if not port:
            raise
        return socket.create_server((_LOOPBACK, 0))  # another program has it now


def _serve(listener: socket.socket, container: ContainerSpec, hosts: Hosts) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_lead, args=(connection, container, hosts), name="debugger", daemon=True).start()


def _lead(connection: socket.socket, container: ContainerSpec, hosts: Hosts) -> None:
    """Hand bytes on between a debugger and the program, when that is ready."""
    with connection:
        try:
            inside = _reached(connection, container, hosts)
        except (RuntimeUnavailableError, OSError):
            return  # the debugger sees the end of the connection
        if inside is None:
            return
        with contextlib.closing(inside):
            threading.Thread(target=_hand_in, args=(connection, inside), name="debugger-input", daemon=True).start()
            with contextlib.suppress(OSError):  # either side has gone
                while data := inside.read():
                    connection.sendall(data)


def _reached(connection: socket.socket, container: ContainerSpec, hosts: Hosts) -> Inside | None:
    """Return a connection to the program as soon as it listens; None where the host has ended or nobody waits."""
    tree = OptMl(Path(container.tree_path))
    while True:
        execution = hosts().get(container.host)
        if execution is not None:
            if execution.state() is HostState.ENDED:
                return None
            text = tree.read_output(_PORT_FILE, 6, Skipped().add)
            if text.isdigit():
                return execution.connect_inside(int(text))
        if _has_gone(connection):
            return None
        time.sleep(_LOOKING_SECONDS)


def _has_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _hand_in(connection: socket.socket, inside: Inside) -> None:
    with contextlib.suppress(OSError, ValueError):  # either side has gone, or was closed
        while data := connection.recv(_CHUNK_BYTES):
            inside.write(data)
        inside.close_input()
