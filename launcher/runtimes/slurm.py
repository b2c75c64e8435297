"""Jobs on a Slurm cluster: the hosts of a job are the tasks of one allocation, each under the supervisor of its node.

What the cluster has to have is one folder that every node sees, with the launcher's home and its Python in it. Word of
a host goes over that folder; Slurm is asked where a host is that has left none. An image runs by the cluster's own
engine, where the settings name it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.faults import CUT, DELAY, SLOW
from launcher.jobs.spec import OPT_ML, ContainerSpec, Limits
from launcher.runtimes import slurm_commands as commands
from launcher.runtimes.base import EndCause, Ending, Execution, HostState, Inside, Remains, Runtime, open_log
from launcher.runtimes.entering import CANNOT_ENTER
from launcher.runtimes.images import is_of_aws
from launcher.runtimes.process import PipedCommand, ProcessRuntime, job_environment, write_request
from launcher.runtimes.slurm_inside import LINES
from launcher.runtimes.usage import HostUsage
from launcher.settings import slurm_settings, stop_grace_seconds

_NODE = Path(__file__).with_name("slurm_node.py")
_FEEDER = Path(__file__).parents[1] / "channels" / "feeder.py"  # runs on the node: a named pipe ends at its machine
_UNSEEN_CODE = 79  # of a task that does not see its files, so that nothing else can say so
_TASK = (
    f'for path in "$0" "$1" "$2/submission.json"; do [ -e "$path" ] || exit {_UNSEEN_CODE}; done; '
    'exec "$0" -I -S "$1" "$2"'
)
_POLL_SECONDS = 0.01
_LOOK_SECONDS, _WAITING_LOOK_SECONDS = 5.0, 1.0  # between two questions: it runs, it waits
_WORD_SECONDS = 5.0  # after the end of its job, in which a host's own word may still come
_REMOVED_SECONDS = 30.0
_KILLED = 128 + signal.SIGKILL
_TERMINATED = 128 + signal.SIGTERM
_LOOPBACK = "127.0.0.1"
_ENDS = frozenset(("TERM", "KILL"))
_OWN_WORDS = frozenset(
    (
        *("--job-name", "-J", "--comment", "--time", "-t", "--signal", "--requeue", "--no-requeue", "--parsable"),
        *("--ntasks", "-n", "--cpus-per-task", "-c", "--mem", "--mem-per-cpu", "--output", "-o", "--error", "-e"),
        *("--input", "-i", "--export", "--chdir", "-D", "--wrap", "--array", "-a", "--wait", "-W", "--test-only"),
        *("--gpus-per-task", "--clusters", "-M", "--open-mode", "--export-file", "--hetjob", ":"),
    )
)
_OWN_SETTINGS = {
    **dict.fromkeys(("--partition", "-p"), "LAUNCHER_SLURM_PARTITION"),
    **dict.fromkeys(("--account", "-A"), "LAUNCHER_SLURM_ACCOUNT"),
    **dict.fromkeys(("--qos", "-q"), "LAUNCHER_SLURM_QOS"),
}


class _Job:
    """The allocation that the hosts of a job share, by the folder of the first of them.

    Attributes:
        folder: has ``submission.json``, with the job's number once Slurm has taken it.
        silent: whether Slurm has not answered the last question.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.silent = False
        self._view: commands.JobView | None = None
        self._looked = False
        self._over = 0.0
        self._watch: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def number(self) -> int:
        """The job's number; 0 before Slurm has taken it."""
        return int(_read(self.folder / "job.json").get("job", 0))

    @property
    def hosts(self) -> list[dict[str, str]]:
        """State folder and log of each host."""
        return list(_read(self.folder / "submission.json").get("hosts", ()))

    @property
    def token(self) -> str:
        """What tells the job apart from every other one that had its number."""
        return str(_read(self.folder / "submission.json").get("token", ""))

    def look(self) -> commands.JobView | None:
        """Ask Slurm; None where it knows the job no more.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
        number = self.number
        try:
            self._view = commands.look(number, self.token) if number else None
        except RuntimeUnavailableError:
            self.silent = True
            raise
        self.silent, self._looked = False, True
        if number and (self._view is None or self._view.has_ended):
            self._over = self._over or time.monotonic()
        return self._view

    @property
    def over_since(self) -> float:
        """When this process first saw that the job had ended, by the monotonic clock; 0 where it has not."""
        return self._over

    def watch(self) -> None:
        """See to it that Slurm is asked now and then."""
        with self._starting:
            if self._watch is None:
                self._watch = threading.Thread(target=self._look_again, name="slurm-watch", daemon=True)
                self._watch.start()

    def _look_again(self) -> None:
        while not self._over and self.folder.exists():
            with contextlib.suppress(RuntimeUnavailableError):
                self.look()
            runs = self._view is not None and self._view.state == "RUNNING"
            time.sleep(_LOOK_SECONDS if runs else _WAITING_LOOK_SECONDS)


class SlurmExecution(Execution):
    """One task of an allocation, by the state folder that its node writes to.

    Args:
        job: the allocation.
        state_path: the folder.
    """

    def __init__(self, job: _Job, state_path: Path) -> None:
        self._job = job
        self._state_path = state_path
        self._end: dict[str, Any] = {}
        self._removed = False

    @property
    def reference(self) -> dict[str, Any]:
        """The job's number, once Slurm has taken it, and its node, once it has one."""
        number, node = self._job.number, _read(self._state_path / "started.json").get("node")
        return {"runtime": "slurm", **({"job": number} if number else {}), **({"node": node} if node else {})}

    def state(self) -> HostState:
        """Return where the host stands, by its own word and by what Slurm last said."""
        if self._ended():
            return HostState.ENDED
        self._job.watch()
        if self._job.silent:
            return HostState.LOST
        return HostState.RUNNING if (self._state_path / "started.json").exists() else HostState.PENDING

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the host's own word, or for that of Slurm where it has left none."""
        deadline = time.monotonic() + timeout_seconds
        while not (end := self._ended()):
            self._job.watch()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(_POLL_SECONDS, left))
        code = int(end["exit_code"])
        return code or (_TERMINATED if end.get("outside") else 0)  # cut short, whatever the program made of it

    def _ended(self) -> dict[str, Any]:
        """Return how the host ended; empty as long as it has not."""
        if not self._end:
            self._end = _read(self._state_path / "ended.json")
        if not self._end and (over := self._job.over_since) and time.monotonic() - over > self._patience:
            os.listdir(self._state_path)  # noqa: PTH208 - a shared folder shows a new file sooner to who lists it
            self._end = _read(self._state_path / "ended.json") or self._end_by_slurm()
        return self._end

    @property
    def _patience(self) -> float:
        return _WORD_SECONDS if (self._state_path / "started.json").exists() else 0.0

    def _end_by_slurm(self) -> dict[str, Any]:
        """Return how a host ended that has left no word of it."""
        view, number = self._job._view, self._job.number
        if view is None:
            return _removed(f"Slurm no longer knows job {number}")
        started = _read(self._state_path / "started.json")
        place = started.get("node") or view.nodes or "the node"
        if view.exit_code == _UNSEEN_CODE and not started:
            return _removed(
                f"{place} does not see {self._job.folder}, {sys.executable} or {_NODE}: LAUNCHER_HOME and this Python "
                "have to be on a folder that all nodes share"
            )
        if self._ordered():
            return {"exit_code": _KILLED if started else _TERMINATED, "cause": EndCause.ITSELF}
        return {"exit_code": _KILLED, **_cause(view, number, place)}

    @property
    def warning(self) -> str:
        """What the node did not let the supervisor enforce; empty until the host has ended."""
        return str(self._end.get("warning", ""))

    def ending(self) -> Ending:
        """Return what the host wrote, or Slurm says, of its end."""
        end = self._ended()
        if end.get("outside") and not self._ordered():
            end = {**end, **self._cause_outside(end)}
        cause, detail = end.get("cause", ""), end.get("detail", "")
        if cause == "Engine":
            cause = EndCause.REMOVED
        if cause == "Unseen":
            cause, detail = EndCause.REMOVED, f"{detail}: it has to be on a folder that all nodes share"
        return Ending(EndCause(cause), detail, float(end.get("ended", 0.0)))

    def _cause_outside(self, end: Mapping[str, Any]) -> dict[str, Any]:
        """Return why a host got SIGTERM that the launcher did not send."""
        deadline = time.monotonic() + _WORD_SECONDS
        view = None
        with contextlib.suppress(RuntimeUnavailableError):
            while (view := self._job.look()) is not None and not view.has_ended and not view.preempted:
                if time.monotonic() > deadline:
                    break
                time.sleep(5 * _POLL_SECONDS)
        return _cause(view or commands.JobView(""), self._job.number, str(end.get("node", "the node")))

    def _ordered(self) -> bool:
        """Return whether the launcher has asked for the host's end."""
        return not _ENDS.isdisjoint(_text(self._state_path / "orders").split())

    def usage(self) -> HostUsage | None:
        """Return what the supervisor recorded at the end; before that, Slurm's own tools can say."""
        if "cpu_seconds" not in self._end:
            return None
        return HostUsage(float(self._end["cpu_seconds"]), 0, int(self._end["memory_peak_bytes"]))

    def run_inside(self, command: Sequence[str]) -> int:
        """Run the command by a step of srun's, which shares the host's node with it."""
        is_terminal = os.isatty(0) and os.isatty(1)
        code_path = self._state_path / f"inside-{uuid.uuid4().hex}"
        words = self._step(["--pty"] if is_terminal else [], [code_path.name, *command])
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the command
        try:
            code = subprocess.run(words, env=self._step_environment(), check=False).returncode
            os.listdir(self._state_path)  # noqa: PTH208 - a shared folder shows a new file sooner to who lists it
            with contextlib.suppress(FileNotFoundError):  # the step was ended, or the host
                code = int(code_path.read_text(encoding="ascii"))
                code_path.unlink()
        finally:
            signal.signal(signal.SIGINT, before)
        if code == CANNOT_ENTER:
            raise RuntimeUnavailableError("the node does not let you into the job's namespaces or its container.")
        return code if code >= 0 else 128 - code

    def pipe_inside(self, command: Sequence[str]) -> Inside:
        """Start the command by a step of srun's, and return its streams."""
        return _PipedStep(
            subprocess.Popen(
                self._step([], [LINES, *command]),
                env=self._step_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        )

    def _step(self, options: Sequence[str], command: Sequence[str]) -> list[str]:
        started = _read(self._state_path / "started.json")
        if not started:
            raise RuntimeUnavailableError("the host has no node yet.", "Ask Slurm where it stands: squeue --me")
        return [
            *("srun", f"--jobid={self._job.number}", "--overlap", "--nodes=1", "--ntasks=1"),
            *(f"--nodelist={started['node']}", "--mpi=none", "--quiet", "--chdir=/", "--export=ALL", *options),
            *(sys.executable, "-P", "-s", "-m", "launcher.runtimes.slurm_inside", str(self._state_path), *command),
        ]

    @staticmethod
    def _step_environment() -> dict[str, str]:
        terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
        return {**commands.own_environment(), **terminal, "PYTHONPATH": str(Path(__file__).parents[2])}

    def terminate(self) -> None:
        """Have the host's node send SIGTERM to its main process; a job that waits leaves the queue."""
        self._order("TERM")

    def kill(self) -> None:
        """Have the host's node end every process of it; a job that waits leaves the queue."""
        self._order("KILL")

    def _order(self, word: str) -> None:
        if not self._ended() and self._state_path.is_dir():
            with (self._state_path / "orders").open("a", encoding="ascii") as orders:
                orders.write(f"{word}\n")
            threading.Thread(target=self._ring, args=(word in _ENDS,), name="slurm-orders", daemon=True).start()

    def _ring(self, ends: bool) -> None:
        """Tell Slurm of the orders, again until it answers; the node looks at them now and then by itself."""
        while not self._ended() and self._state_path.is_dir():
            with contextlib.suppress(RuntimeUnavailableError):
                if number := self._job.number:
                    if ends:
                        commands.cancel(number, "--state=PENDING")
                    commands.cancel(number, "--signal=URG")
                return
            time.sleep(_WAITING_LOOK_SECONDS)

    def pause(self) -> None:
        """Have the host's node let all of its processes stand still."""
        self._order("PAUSE")

    def resume(self) -> None:
        """Have it let them go on."""
        self._order("RESUME")

    def slow(self, factor: float) -> None:
        """Have it pause and resume them ten times a second."""
        self._order(f"SLOW={factor}")

    def remove(self) -> None:
        """End what is left of the host; the last one takes the job out of Slurm."""
        if self._removed:
            return
        self.kill()
        if self.wait(_REMOVED_SECONDS / 3) is None:
            _end_job(self._job)
        self._removed = True


def _cause(view: commands.JobView, number: int, place: str) -> dict[str, Any]:
    if view.preempted or view.state == "PREEMPTED":
        return {"cause": EndCause.INTERRUPTED, "detail": f"Slurm gave {place} to another job ({number} was preempted)"}
    if view.state in ("NODE_FAIL", "BOOT_FAIL"):
        return {"cause": EndCause.INTERRUPTED, "detail": f"{place} failed under job {number} ({view.state})"}
    if view.state == "TIMEOUT":
        return {"cause": EndCause.MAX_RUNTIME, "detail": f"Slurm ended job {number} at its time limit"}
    if view.state == "OUT_OF_MEMORY":
        return {"cause": EndCause.OUT_OF_MEMORY, "detail": f"Slurm's limit for job {number} was reached"}
    word = f"state {view.state or 'unknown'}"
    return {"cause": EndCause.REMOVED, "detail": f"job {number} of Slurm was ended, not by the launcher ({word})"}


def _removed(detail: str) -> dict[str, Any]:
    return {"exit_code": _KILLED, "cause": EndCause.REMOVED, "detail": detail}


class _PipedStep(PipedCommand):
    """A command whose output comes as lines of base64."""

    def read(self) -> bytes:
        while not self._lines[:-1] and (data := super().read()):
            self._lines[-1:] = (self._lines[-1] + data).split(b"\n")
        return base64.b64decode(self._lines.pop(0)) if self._lines[:-1] else b""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process)
        self._lines = [b""]  # the last one has not ended yet


class SlurmRuntime(Runtime):
    """Runs jobs on the nodes of a cluster: in this machine's own Python, or in an image by the cluster's engine."""

    name = "slurm"
    network_interface = "lo"  # where all hosts share a node; a node writes down another
    needs_local_libraries = True
    own_machines = True
    starts_in_order = True  # the last one submits them all
    no_entry = ""

    def __init__(self) -> None:
        self._jobs: dict[Path, _Job] = {}
        self._checked: set[tuple[str, ...]] = set()

    @cached_property
    def host_address(self) -> str:
        """The address of this machine towards the nodes; the loopback address where they are this machine."""
        for address in dict.fromkeys(commands.ask("sinfo", "--noheader", "--Node", "--format=%o").split()):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((address, 9))  # sends nothing
                    own = str(probe.getsockname()[0])
                    if own != socket.gethostbyname(address):
                        return own
                except OSError as error:
                    raise RuntimeUnavailableError(
                        f"Slurm's node at {address} cannot be reached from here: {error.strerror}.", "Ask it: sinfo -N"
                    ) from error
        return _LOOPBACK

    @property
    def runs_images(self) -> bool:  # type: ignore[override]
        """Whether the settings name an engine for it."""
        return bool(slurm_settings().containers)

    def engine_for(self, image: str) -> tuple[str, ...]:
        """Return the words of the settings; empty for the bundled image, in whose place this Python runs."""
        return slurm_settings().containers if image else ()

    @property
    def interpreter(self) -> str:
        """This one: the nodes see it on the shared folder."""
        return ProcessRuntime().interpreter

    @property
    def placing(self) -> tuple[str, ...]:
        """The words for sbatch that the settings name."""
        settings = slurm_settings()
        for word in settings.options:
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if own := _OWN_SETTINGS.get(name):
                raise RuntimeUnavailableError(f"LAUNCHER_SLURM_OPTIONS has {word}.", f"Use {own} for it.")
            if word.startswith("-") and name in _OWN_WORDS:
                raise RuntimeUnavailableError(
                    f"LAUNCHER_SLURM_OPTIONS has {word}, which the launcher sets itself.",
                    "Leave it out; docs/slurm.md says what becomes of each part of a request.",
                )
        named = {"--partition": settings.partition, "--account": settings.account, "--qos": settings.qos}
        return (*(f"{name}={value}" for name, value in named.items() if value), *settings.options)

    def check(self, container: ContainerSpec) -> None:
        """Refuse what a cluster does not run, or would leave in its queue for ever."""
        self._check_container(container)
        options = tuple(self._options(container, [container.limits], ""))
        if options in self._checked:  # another host of the same type
            return
        partition = next((w.partition("=")[2] for w in container.limits.placing if w.startswith("--partition=")), "")
        wanted = commands.time_limit(container.max_run_seconds)
        with ThreadPoolExecutor(1) as pool:  # two questions at once
            longest = pool.submit(lambda: [commands.longest_minutes(name) for name in partition.split(",")])
            answer = commands.answer_of("sbatch", "--test-only", *options, text="#!/bin/sh\n")
            commands.check_installed()
        if answer.returncode != 0:
            words = shlex.join(_needs(container, [container.limits]))
            raise RuntimeUnavailableError(
                f"Slurm would not run the job: {commands.said(answer)} (asked for: {words}).",
                "Choose another instance type, or set LAUNCHER_SLURM_PARTITION, LAUNCHER_SLURM_ACCOUNT or "
                "LAUNCHER_SLURM_OPTIONS; see: sinfo",
            )
        limits = longest.result()
        if any(minutes is None or wanted <= minutes for minutes in limits):
            self._checked.add(options)
            return
        most = max(minutes for minutes in limits if minutes is not None)
        raise RuntimeUnavailableError(
            f"max_run={container.max_run_seconds} s asks Slurm for {wanted} minutes, the time to stop included, and "
            f"{f'the partition {partition}' if partition else 'the default partition'} allows {most}.",
            "Set a smaller max_run, or another LAUNCHER_SLURM_PARTITION.",
        )

    @staticmethod
    def _check_container(container: ContainerSpec) -> None:
        if container.image and not container.limits.engine:
            raise RuntimeUnavailableError(
                f"the slurm runtime is told of no engine of the cluster that runs the image {container.image}.",
                "Name it: export LAUNCHER_SLURM_CONTAINERS=podman; or leave image_uri out, and install what the job "
                "needs into the Python that the nodes share.",
            )
        if container.packages:
            from launcher.runtimes.docker_engine.runtime import DockerRuntime  # it builds what goes to the nodes

            DockerRuntime().check(container)
        if container.port:
            raise RuntimeUnavailableError(
                "the slurm runtime serves no requests: endpoints and transform jobs need hosts of this machine.",
                'Use runtime="docker" or "process".',
            )
        for mount in container.mounts:
            if container.limits.engine and "," in f"{mount.source}{mount.target}":
                raise RuntimeUnavailableError(
                    f"podman can mount no path with a comma: {mount.source} at {mount.target}.", "Rename it."
                )
            if not container.limits.engine and not f"{mount.target}/".startswith(f"{OPT_ML}/"):
                raise RuntimeUnavailableError(
                    f"the slurm runtime can put nothing at {mount.target}: a host has a private {OPT_ML} alone.",
                    f"Use a path below {OPT_ML}.",
                )
        if container.network_isolated and len(container.hosts) > 1:
            raise RuntimeUnavailableError(
                "enable_network_isolation of several hosts needs a network of theirs, which Slurm does not make.",
                'Use runtime="docker".',
            )

    def refused_faults(self, container: ContainerSpec) -> dict[str, str]:
        """Return why a host cannot be cut off; one in an image cannot be held back either."""
        reasons = {CUT: "its hosts are on the nodes' own network"}
        if container.limits.engine:
            reasons |= dict.fromkeys((DELAY, SLOW), "podman freezes no container that is in Slurm's cgroup")
        return reasons

    def describe_image(self, container: ContainerSpec) -> str:
        """Return the image, or the interpreter that stands in for it."""
        if container.packages:
            from launcher.runtimes.docker_engine.runtime import DockerRuntime

            return DockerRuntime().describe_image(container)
        return container.image or f"none: {sys.executable} on the nodes of the cluster"

    def describe_start(self, containers: Sequence[ContainerSpec]) -> str:
        """Return the command that submits the job, as a person would write it."""
        return shlex.join(["sbatch", *self._options(containers[0], [entry.limits for entry in containers], "")])

    def prepare(self, container: ContainerSpec) -> None:
        """Put an image that a Docker engine has here on the shared folder; the nodes look for any other one."""
        path = _image_note(container)
        if not container.limits.engine or path.exists():
            return
        from launcher.runtimes.docker_engine.runtime import DockerRuntime
        from launcher.runtimes.docker_engine.saving import saved_image

        if container.packages:
            DockerRuntime().prepare(container)
        folder = Path(container.labels["launcher.home"]) / "images"
        saved = saved_image(self.describe_image(container), folder) if _may_be_docker(container.image) else None
        values = {"image": saved[0], "archive": str(saved[1])} if saved else {"image": container.image, "archive": ""}
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, values)

    def describe_environment(self, container: ContainerSpec) -> dict[str, Any]:
        """Return the image, or the interpreter and its packages, which the nodes share."""
        if not container.limits.engine:
            return ProcessRuntime().describe_environment(container)
        note = _read(_image_note(container))
        return {"Image": self.describe_image(container), **({"ImageId": note["image"]} if note["archive"] else {})}

    @staticmethod
    def _options(container: ContainerSpec, limits: Sequence[Limits], token: str) -> list[str]:
        first = _folder(container)
        label = {"home": container.labels.get("launcher.home", ""), "job": container.labels.get("launcher.job", "")}
        comment = json.dumps({**label, "folder": str(first), "token": token})
        return [
            "--parsable",
            f"--job-name={container.job_name}",
            f"--time={commands.time_limit(container.max_run_seconds)}",
            f"--signal=TERM@{max(1, round(stop_grace_seconds()))}",
            "--no-requeue",
            *_needs(container, limits),
            "--chdir=/",
            "--output=/dev/null",
            "--export=ALL",
            *([f"--comment=launcher {comment}"] if token else []),
        ]

    def start(self, container: ContainerSpec) -> SlurmExecution:
        """Write what the host needs; the last host of a job submits all of them."""
        state_path, first = Path(container.state_path), _folder(container)
        # Values that are inherited go by way of sbatch: nothing writes them down.
        own = {name: value for name, value in job_environment(container).items() if name not in container.inherited}
        if container.limits.engine:
            own = {"CUDA_VISIBLE_DEVICES": "-1"} if container.limits.gpus == () else {}
        write_request(container, {**own, **container.environment}, (), shared_network="Slurm put them on one node")
        request = {**_read(state_path / "request.json"), "feeder": str(_FEEDER)}
        if container.limits.engine:
            request |= {"toolkit": "", "container": _contained(container)}
        _write(state_path / "request.json", request)
        (state_path / "orders").write_bytes(b"")
        open_log(container).close()
        _write(state_path / "slurm.json", {"log": container.log_path, "limits": asdict(container.limits)})
        hosts = container.hosts or (container.host,)
        job = self._job(first)
        if container.host == hosts[-1]:
            self._submit(container, job)
        return SlurmExecution(job, state_path)

    def _submit(self, container: ContainerSpec, job: _Job) -> None:
        token = uuid.uuid4().hex
        states = [Path(container.state_path).with_name(host) for host in container.hosts or (container.host,)]
        noted = [_read(state / "slurm.json") for state in states]
        limits = [Limits.from_dict(note["limits"]) for note in noted]
        hosts = [{"state": str(state), "log": note["log"]} for state, note in zip(states, noted, strict=True)]
        _write(job.folder / "submission.json", {"token": token, "hosts": hosts})
        task = ["/bin/sh", "-c", _TASK, sys.executable, str(_NODE), str(job.folder)]
        words = ["srun", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--input=none"]
        words += [word for word in _needs(container, limits) if word.startswith("--cpus-per-task=")]
        script = (
            f"#!/bin/sh\ncd {shlex.quote(str(job.folder))} && exec >slurm.log 2>&1\nexec {shlex.join(words + task)}\n"
        )
        inherited = {name: os.environ[name] for name in container.inherited if name in os.environ}
        # sbatch holds the lock: who comes after a kill of this process waits until it is over.
        with (job.folder / "submitting").open("wb") as lock:
            with contextlib.suppress(OSError):  # a shared folder without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                number = commands.submit(
                    script,
                    self._options(container, limits, token),
                    {"LAUNCHER_INHERITED": json.dumps(inherited)},
                    [lock.fileno()],
                )
            except RuntimeUnavailableError:
                number = _submitted(token)  # the answer may have been lost, and not the job
                if not number:
                    raise
        _write(job.folder / "job.json", {"job": number})

    def find(self, container: ContainerSpec) -> SlurmExecution | None:
        """Return the host if its job was submitted, by this process or another one."""
        job = self._job(_folder(container))
        if not (job.folder / "submission.json").exists():
            return None
        if not job.number:
            _await_sbatch(job.folder / "submitting")
            number = job.number or _submitted(job.token)
            if not number:
                return None
            _write(job.folder / "job.json", {"job": number})
        return SlurmExecution(job, Path(container.state_path))

    def close(self, containers: Sequence[ContainerSpec]) -> None:
        """Take the job out of Slurm, if anything of it is left there."""
        job = self._job(_folder(containers[0]))
        if job.number:
            _end_job(job)

    def _job(self, folder: Path) -> _Job:
        job = self._jobs.get(folder)
        if job is None or job.over_since:  # what a later attempt has in the same folder is another one
            job = self._jobs[folder] = _Job(folder)
        return job

    def leftovers(self, home: str) -> list[Remains]:
        """Return the jobs of a home that wait or run, whatever became of their folders."""
        if not commands.is_installed():
            return []
        return [
            Remains(
                str(values.get("job", "")),
                f"job {number} of Slurm"
                + ("" if (there := Path(values["folder"]).exists()) else ", whose folder is gone,"),
                partial(commands.cancel, number),
                not there,
            )
            for number, values in commands.own_jobs().items()
            if values.get("home") == home and not values["ended"]
        ]


def _contained(container: ContainerSpec) -> dict[str, Any]:
    """Return what a node has to know of a host's container, besides what every host's request has."""
    note = _read(_image_note(container))
    if note.get("archive"):
        source = f"docker-archive:{note['archive']}"
    else:
        source = "" if is_of_aws(container.image) else container.image
    return {
        "engine": list(container.limits.engine),
        "name": f"launcher-{container.job_name}-{container.host}-{uuid.uuid4().hex[:8]}",
        "home": container.labels["launcher.home"],
        "image": note.get("image", container.image),
        "source": source,
        "archive": note.get("archive", ""),
        "entry_point": list(container.entry_point),
        "arguments": list(container.arguments),
        "bundled": container.bundled,
        "shm_bytes": container.limits.shm_bytes or container.limits.memory_bytes // 2,
    }


def _image_note(container: ContainerSpec) -> Path:
    """Return the file that says where a job's image is, once that has been looked for."""
    return Path(container.state_path).with_name("image.json")


def _may_be_docker(image: str) -> bool:
    """Return whether an image may be a name of Docker's; podman knows other places, such as oci-archive:PATH."""
    return not image.startswith(("docker-archive:", "oci-archive:", "oci:", "dir:", "docker://"))


def _folder(container: ContainerSpec) -> Path:
    """Return the state folder of a job's first host, which has what all of them share."""
    return Path(container.state_path).with_name((container.hosts or (container.host,))[0])


def _needs(container: ContainerSpec, limits: Sequence[Limits]) -> list[str]:
    """Return the words that say what the hosts need: Slurm gives each what the largest does."""
    cpus = max(entry.cpus for entry in limits)
    # Memory by the CPU: several hosts may share a node.
    memory = -(-max(entry.memory_bytes for entry in limits) // (cpus or 1) // 2**20)
    gpus = max(len(entry.gpus or ()) for entry in limits)
    return [
        f"--ntasks={len(container.hosts) or 1}",
        *([f"--cpus-per-task={cpus}"] if cpus else []),
        *([f"--mem-per-cpu={memory}M"] if memory else []),
        *([f"--gpus-per-task={gpus}"] if gpus else []),
        *container.limits.placing,
    ]


def _submitted(token: str) -> int:
    """Return the number of the job that a submission became; 0 where it became none.

    Raises:
        RuntimeUnavailableError: Slurm does not answer.
    """
    return next((number for number, values in commands.own_jobs().items() if values.get("token") == token), 0)


def _await_sbatch(path: Path) -> None:
    """Wait until the sbatch of a process that was killed is over.

    Raises:
        RuntimeUnavailableError: it still runs after a while.
    """
    deadline = time.monotonic() + _REMOVED_SECONDS
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RuntimeUnavailableError("an earlier sbatch of the job still runs.", "Wait for it.") from None
                time.sleep(_POLL_SECONDS)
            except OSError:  # a shared folder without locks
                return
            else:
                return


def _end_job(job: _Job) -> None:
    """End a job, and wait until Slurm says that it is over; where its hosts have ended, it does so by itself.

    Raises:
        RuntimeUnavailableError: Slurm does not answer, or the job does not end.
    """
    if all((Path(host["state"]) / "ended.json").exists() for host in job.hosts):
        return
    deadline = time.monotonic() + _REMOVED_SECONDS
    commands.cancel(job.number)
    while (view := job.look()) is not None and not view.has_ended:
        if time.monotonic() > deadline:
            raise RuntimeUnavailableError(f"job {job.number} of Slurm does not end.", f"Try: scancel {job.number}")
        time.sleep(_POLL_SECONDS)


def _read(path: Path) -> dict[str, Any]:
    """Return what a file of JSON holds; nothing where it is not there."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _write(path: Path, values: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".new")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(path)
