"""Runs one host of a job on a node of a Slurm cluster, under the supervisor; leaves word of it on the shared folder.

Started as a script with the standard library alone, once a task: ``python -I -S slurm_node.py FOLDER``. The folder
holds ``submission.json``: the state folder and the log of each host, in the order of the tasks. A host's state folder
has ``request.json``, which the supervisor reads, and ``orders``, whose lines ask for signals; it gets ``started.json``
(which node, at what address) and ``ended.json`` (how it ended, and that all of its log is there).

SIGURG says that there are new orders. It is what Slurm can send to all processes of a task and no program minds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 2.0  # at the orders, also when no signal has come
_MEETING_SECONDS = 300.0  # a shared folder may show another node's file late
_STUTTER_SECONDS = 0.1
_PULLING_SECONDS = 7200.0  # the other hosts may have to pull their image
_SIOCGIFADDR = 0x8915
_PR_SET_PDEATHSIG = 1
_UNSEEN, _ENGINE, _SETUP_FAILED = "Unseen", "Engine", 125
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")


class _Host:
    def __init__(self, supervisor: Any, state_path: Path, log_path: str) -> None:
        self._supervisor = supervisor
        self._state_path = state_path
        self._log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._pid = 0
        self._terminated = self._outside = False
        self._node = os.environ.get("SLURMD_NODENAME", "")
        self._log_path = log_path
        self._container: Any = None
        self._factor = 1.0
        self._feeder: subprocess.Popen[bytes] | None = None

    def run(self, others: list[Path]) -> int:
        for number in (signal.SIGURG, signal.SIGALRM):
            signal.signal(number, lambda *_: self._obey())
        signal.signal(signal.SIGTERM, lambda *_: self._on_terminate())
        request: dict[str, Any] = json.loads((self._state_path / "request.json").read_text(encoding="utf-8"))
        inherited = os.environ.pop("LAUNCHER_INHERITED", "{}")
        if unseen := _unseen(request):
            return self._end(_SETUP_FAILED, cause=_UNSEEN, detail=f"{self._node} does not see {unseen}")
        if request.get("container"):
            self._container = self._supervisor._beside("slurm_container").Container(request, self._node)
            signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
            self._obey()
            reason = self._container.have_image()
            if self._container.stopped:
                return self._end(128 + signal.SIGTERM, cause="", detail="")
            if reason:
                return self._end(_SETUP_FAILED, cause=_ENGINE, detail=reason)
        try:
            self._meet(request, others)
        except TimeoutError as error:
            return self._end(_SETUP_FAILED, cause=_UNSEEN, detail=f"{self._node} does not see {error}")
        self._settle(request)
        if self._container is not None:
            _write(self._state_path / "request.json", self._container.settled(list(json.loads(inherited))))
        self._feeder = self._fed(request)
        code = self._supervise(inherited)
        if self._feeder is not None:
            self._feeder.kill()
            self._feeder.wait()
        ended: dict[str, Any] = {"cause": "Removed", "detail": "the job's supervisor was killed"}
        with contextlib.suppress(OSError):
            ended = json.loads((self._state_path / "exit.json").read_text(encoding="utf-8"))
            code = ended["exit_code"]
        if self._container is not None:
            problem = self._container.give_back()
            if not ended["cause"]:
                ended |= self._container.end_of(code, self._log_path)
            ended["warning"] = "; ".join(text for text in (ended.get("warning", ""), problem) if text)
        return self._end(code, **ended)

    def _meet(self, request: dict[str, Any], others: list[Path]) -> None:
        """Say where this host is, wait until all have, and write down at which address each is reached."""
        request["network_shared"] = ""  # on a cluster that is nothing to say in every log
        address = _own_address()
        # Nodes that are containers share a kernel, and have networks of their own.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        machine = f"{boot} {Path('/proc/self/ns/net').readlink()}"
        own = {"node": self._node, "machine": machine, "address": address, "pid": os.getpid(), "time": time.time()}
        _write(self._state_path / "started.json", own)
        deadline = time.monotonic() + (_MEETING_SECONDS if self._container is None else _PULLING_SECONDS)
        places: list[dict[str, Any]] = []
        for path in others:
            while not (place := _read(path / "started.json")):
                if _read(path / "ended.json") or time.monotonic() > deadline:
                    raise TimeoutError(path / "started.json")
                os.listdir(path)  # noqa: PTH208 - a shared folder shows a new file sooner to who lists it
                time.sleep(0.02)
            places.append(place)
        if all(place["machine"] == machine for place in places):
            return  # the addresses of the loopback interface, which are there, keep their ports apart
        hosts = Path(request["hosts_file"])
        names = [path.name for path in others]
        lines = hosts.read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if line.split()[1:] not in [[name] for name in names]]
        lines += [f"{place['address']} {name}" for name, place in zip(names, places, strict=True)]
        hosts.write_text("\n".join([*lines, ""]), encoding="utf-8")
        config = Path(request["tree"], "input/config/resourceconfig.json")
        if (resources := _read(config)) and (interface := _interface_of(address)):
            _write(config, resources | {"network_interface_name": interface})

    def _settle(self, request: dict[str, Any]) -> None:
        """Give the program what only the node knows: its devices, and who holds its memory."""
        environment = request["environment"]
        if environment.get(_DEVICES[0]) != "-1":
            for name in _DEVICES:
                environment.pop(name, None)
            environment |= {name: os.environ[name] for name in _DEVICES if name in os.environ}
        if request["memory_bytes"] and self._memory_is_limited(request["memory_bytes"]):
            request["memory_bytes"] = 0
        _write(self._state_path / "request.json", request)

    def _fed(self, request: dict[str, Any]) -> subprocess.Popen[bytes] | None:
        """Start what writes the host's pipes; None where the job has no streams."""
        around = self._state_path.with_name("feeder")
        wanted, number = _read(around / "request.json"), request["number"]
        if not wanted:
            return None
        folder = around / self._state_path.name
        folder.mkdir(exist_ok=True)
        streams = [stream for stream in wanted["streams"] if stream["number"] == number]
        _write(folder / "request.json", {**wanted, "streams": streams, "ignores_sigterm": True})
        _write(folder / "hosts.json", [os.getpid()])
        with (folder / "lock").open("wb") as lock, (folder / "log").open("ab") as log:
            words = [sys.executable, "-I", "-S", request["feeder"], str(folder), str(lock.fileno())]
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()])

    def _memory_is_limited(self, wanted: int) -> bool:
        """Return whether Slurm holds the task to its memory, or to little more."""
        folder, _, limit = self._supervisor._memory_cgroup()
        folders = self._supervisor._up_to_the_root(folder) if limit == "memory.max" else [folder]
        texts = [self._supervisor._read_text(f"{path}/{limit}").strip() for path in folders]
        return any(text.isdigit() and int(text) <= 1.2 * wanted for text in texts)

    def _supervise(self, inherited: str) -> int:
        reader, writer = os.pipe()
        lock = os.open(self._state_path / "lock", os.O_WRONLY | os.O_CREAT)
        self._pid = os.fork()
        if self._pid == 0:
            signal.signal(signal.SIGURG, signal.SIG_DFL)
            self._supervisor._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for source, target in ((reader, 0), (self._log, 1), (self._log, 2)):
                os.dup2(source, target)
            os.close(reader)
            os.close(writer)
            os.chdir("/")
            self._supervisor.main(self._state_path, lock)
            os._exit(0)
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            pipe.write(inherited)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
        self._obey()
        _, status = os.waitpid(self._pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._pid = 0
        return int(self._supervisor._exit_code(status)) or _SETUP_FAILED

    def _obey(self) -> None:
        orders = self._supervisor._read_text(self._state_path / "orders").split()
        if self._feeder is not None and self._pid and self._feeder.poll() is not None:
            ended = self._state_path.parent / "feeder" / self._state_path.name / "ended.json"
            if not _read(ended).get("error"):
                _write(ended, {"error": f"{self._node}: the process that writes the pipes was killed"})
        ends = "KILL" in orders or "TERM" in orders
        if ends:
            self._stop_pulling()
        self._hold_back(1.0 if ends or self._outside else _slowness(orders))
        if "KILL" in orders:
            self._send(signal.SIGUSR1)
        elif "TERM" in orders and not self._terminated:
            self._terminated = bool(self._pid)
            self._send(signal.SIGTERM)

    def _hold_back(self, factor: float) -> None:
        """Give the host so many times less of the CPU, from a thread; infinity lets it stand still."""
        self._factor, was_held = factor, self._factor > 1
        if factor > 1 and not was_held and self._pid:
            threading.Thread(target=self._stutter, name="stutter", daemon=True).start()
        elif not self._pid:
            self._factor = 1.0  # asked for again when it runs

    def _stutter(self) -> None:
        descendants = self._supervisor._beside("usage").descendants
        while (factor := self._factor) > 1:
            self._send_to_all(signal.SIGSTOP, descendants)
            time.sleep(_STUTTER_SECONDS * (1 - 1 / factor))
            if self._factor != math.inf:
                self._send_to_all(signal.SIGCONT, descendants)
                time.sleep(_STUTTER_SECONDS / factor)
        self._send_to_all(signal.SIGCONT, descendants)

    def _send_to_all(self, number: signal.Signals, descendants: Any) -> None:
        """Send a signal to all processes of the host, also to those that are started meanwhile."""
        sent: set[int] = set()
        while (own := self._pid) and (pids := {own, *descendants(own)} - sent):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            sent |= pids

    def _on_terminate(self) -> None:
        self._outside = True
        self._factor = 1.0
        self._stop_pulling()
        self._send(signal.SIGTERM)

    def _stop_pulling(self) -> None:
        if self._container is not None and not self._pid:
            self._container.stop()

    def _send(self, number: signal.Signals) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _end(self, code: int, **ended: Any) -> int:
        with contextlib.suppress(OSError):  # some shared folders cannot, and write at once
            os.fsync(self._log)
        outside = self._outside and not self._terminated
        _write(self._state_path / "ended.json", {**ended, "exit_code": code, "node": self._node, "outside": outside})
        return code


def main(folder: Path) -> int:
    """Run the host of this task, and return its exit code."""
    sys.path.insert(0, str(Path(__file__).parent))
    supervisor = import_module("supervisor")  # a script beside this one
    sys.path.pop(0)
    hosts = json.loads((folder / "submission.json").read_text(encoding="utf-8"))["hosts"]
    own = hosts[int(os.environ.get("SLURM_PROCID", "0"))]
    return _Host(supervisor, Path(own["state"]), own["log"]).run([Path(host["state"]) for host in hosts])


def _unseen(request: dict[str, Any]) -> str:
    """Return a path of the job's that is not there; empty where all are."""
    archive = (request.get("container") or {}).get("archive", "")
    paths = [
        request["tree"],
        request["toolkit"],
        request.get("feeder", ""),
        archive,
        *(mount["source"] for mount in request["mounts"]),
    ]
    return next((path for path in paths if path and not Path(path).exists()), "")


def _slowness(orders: list[str]) -> float:
    """Return the factor that the last order of its kind asks for."""
    for word in reversed(orders):
        if word in ("PAUSE", "RESUME"):
            return math.inf if word == "PAUSE" else 1.0
        if word.startswith("SLOW="):
            return float(word.removeprefix("SLOW="))
    return 1.0


def _own_address() -> str:
    """Return the address of this node towards the job's first one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"), 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _interface_of(address: str) -> str:
    """Return the network interface that has an address; empty where none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no address
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return ""


def _read(path: Path) -> dict[str, Any]:
    """Return what a file of JSON holds; nothing where it is not there."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return values


def _write(path: Path, values: Any) -> None:
    part = path.with_name(path.name + ".new")
    with part.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
