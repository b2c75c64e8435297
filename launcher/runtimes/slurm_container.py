"""A host of a Slurm job in a container that podman makes on its node.

A script beside ``slurm_node.py``, with the standard library alone. The request of a host has ``container``: the
engine's own words, the name that the container gets, and what it is made of.

The container stays in the cgroup that Slurm made for the task (``--cgroups=disabled``), so that Slurm's limits hold for
it and nothing of it outlives the task.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

# These would change the engine itself: a container gets them by value, all others by way of the engine's environment.
_ENGINES_OWN = frozenset(
    (
        *("SHELL", "TMPDIR", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "DBUS_SESSION_BUS_ADDRESS"),
        *("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
        *("CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", "STORAGE_DRIVER", "STORAGE_OPTS"),
        *("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK"),
    )
)
_ENGINES_PREFIXES = ("XDG_", "LD_", "PODMAN_", "_CONTAINERS_")
# What the engine may see of the task's environment.
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR")
# As for containers of Docker's: raw packets, device files, and programs with rights of their own.
_DROPPED_CAPABILITIES = ("NET_RAW", "MKNOD", "SETFCAP")
_MOST_PROCESSES = 32768  # podman takes no more for itself, and a container can have no more than it
_ENGINE_FAILED = 125
_NO_PROGRAM_WORDS = ("failed to exec pid1: ", "OCI runtime attempted to invoke a command that was not found")
_SAID_BYTES = 4096
_GIVE_BACK = 'chown -hR 0:0 "$0" && chmod -R u+rwX "$0"'
_ABANDONED = "24h"  # after which a container that does not run was left by a task that was killed


class Container:
    """The container of one host.

    Args:
        request: of the host, as ``request.json`` has it.
        node: its name, for errors.
    Attributes:
        stopped: whether nobody wants the container any more.
    """

    def __init__(self, request: Mapping[str, Any], node: str) -> None:
        self._request, self._node = request, node
        self._values: Mapping[str, Any] = request["container"]
        self._engine: list[str] = [*self._values["engine"], "--log-level=error"]
        self._process: subprocess.Popen[str] | None = None
        self._image = ""
        self.stopped = False

    def have_image(self) -> str:
        """Have the image on this node; return why it cannot be had, empty where it can."""
        program = shutil.which(self._engine[0])
        if program is None:
            return f"{self._node} has no program {self._engine[0]}, which runs the image"
        self._engine[0] = program
        self._ask("container", "prune", "--force", f"--filter=until={_ABANDONED}", f"--filter=label={self._home_label}")
        name, source = self._values["image"], self._values["source"]
        if name and self._ask("image", "exists", name)[0] == 0:
            self._image = name
            return ""
        if not source:
            return f"{self._node} does not have the image {name}, which is in a registry that nothing here asks"
        code, answer, problem = self._ask("pull", "--quiet", source)
        self._image = answer.strip().rpartition("\n")[2]  # its id
        if code == 0 and self._image:
            return ""
        return f"{self._node} cannot have the image {name or source}: {_last_words(problem.splitlines())}"

    def stop(self) -> None:
        """Ask for no image any more."""
        self.stopped = True
        if self._process is not None:
            self._process.kill()

    def _ask(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code of a command of the engine's, its output and its errors."""
        if self.stopped:
            return 128 + signal.SIGKILL, "", "the job was stopped"
        with subprocess.Popen(
            [*self._engine, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_own_environment(),
            cwd="/",
        ) as process:
            self._process = process
            answer, problem = process.communicate()
        self._process = None
        return process.returncode, answer, problem

    def settled(self, inherited: Sequence[str]) -> dict[str, Any]:
        """Return the request as the supervisor gets it: the engine is the program, and knows how to clean up.

        Args:
            inherited: names of variables whose values are written nowhere.
        """
        values, wanted = self._values, dict(self._request["environment"])
        hosts = {"source": self._request["hosts_file"], "target": "/etc/hosts", "read_only": False}
        mounts = [
            f"type=bind,source={mount['source']},destination={mount['target']}" + ",ro=true" * mount["read_only"]
            for mount in (*self._request["mounts"], hosts)
        ]
        limits = {"nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "nproc": _own_processes()}
        limits |= {name: (soft, hard) for name, soft, hard in self._request["ulimits"]}
        minded = {name: value for name, value in wanted.items() if _is_the_engines(name)}
        entry = list(values["entry_point"])
        words = [
            *(*self._engine, "run", "--pull=never", "--init", "--no-hosts", "--http-proxy=false"),
            *("--name", values["name"], "--hostname", self._request["host"], f"--label={self._home_label}"),
            *("--cgroups=disabled", "--log-driver=passthrough", "--security-opt=no-new-privileges"),
            f"--network={'none' if self._request['network_isolated'] else 'host'}",
            f"--shm-size={values['shm_bytes'] or _half_of_the_memory()}b",
            *(f"--cap-drop={name}" for name in (["ALL"] if values["bundled"] else _DROPPED_CAPABILITIES)),
            *(["--user=0:0"] if values["bundled"] else []),
            *(f"--ulimit={name}={soft}:{hard}" for name, (soft, hard) in limits.items()),
            *(f"--mount={mount}" for mount in mounts),
            *(f"--device=nvidia.com/gpu={number}" for number in _devices(wanted)),
            *(f"--env={name}" for name in (*wanted, *inherited) if name not in minded),
            *(f"--env={name}={value}" for name, value in minded.items()),
            *([f"--entrypoint={entry[0]}"] if entry else []),
            self._image,
            *(*entry[1:], *values["arguments"]),
        ]
        environment = {name: value for name, value in wanted.items() if name not in minded} | _own_environment()
        removal = [*self._engine, "rm", "--force", "--time=0", "--ignore", "--volumes"]
        return {
            **self._request,
            "argv": words,
            "environment": environment,
            "ulimits": [],
            "toolkit": "",
            "removal": [*removal, values["name"]],
        }

    def give_back(self) -> str:
        """Make what the image's own user wrote the caller's; return why it could not be, empty where it is."""
        tree, uid = self._request["tree"], os.getuid()
        if not _has_foreign(tree, uid):
            return ""
        inside = [] if uid == 0 else [*self._engine, "unshare"]
        done = subprocess.run(
            [*inside, "/bin/sh", "-c", _GIVE_BACK, tree],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_own_environment(),
            check=False,
        )
        if done.returncode == 0:
            return ""
        return f"what the job wrote to {tree} could not be given back: {_last_words(done.stderr.splitlines())}"

    def end_of(self, code: int, log_path: str) -> dict[str, str]:
        """Return cause and detail of an end that the engine tells of; nothing where the job's program ended."""
        with open(log_path, "rb") as log:  # noqa: PTH123
            log.seek(max(0, os.fstat(log.fileno()).st_size - _SAID_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        said = _last_words(lines)
        if code == _ENGINE_FAILED and said.startswith("Error: "):
            return {"cause": "Engine", "detail": f"{self._node}: podman could not run the container: {said[7:]}"}
        if code != 0 and any(words in said for words in _NO_PROGRAM_WORDS):
            return {"cause": "NoProgram", "detail": said.rpartition("pid1: ")[2].removeprefix("Error: ")}
        return {}

    @property
    def _home_label(self) -> str:
        return f"launcher.home={self._values['home']}"


def _own_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def _is_the_engines(name: str) -> bool:
    return name in _ENGINES_OWN or name in _INHERITED or name.startswith(_ENGINES_PREFIXES)


def _own_processes() -> tuple[int, int]:
    soft, hard = (
        _MOST_PROCESSES if limit == resource.RLIM_INFINITY else min(limit, _MOST_PROCESSES)
        for limit in resource.getrlimit(resource.RLIMIT_NPROC)
    )
    return soft, hard


def _half_of_the_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _devices(environment: dict[str, str]) -> list[str]:
    """Take the GPUs that Slurm gave the task out of the environment, and return their numbers on the node.

    A container that has only these counts them anew, so that no variable has to say which they are. Where Slurm hides
    other devices from the task, it counts anew as well, and says the node's numbers in variables of its own.
    """
    own = [word for word in environment.pop("CUDA_VISIBLE_DEVICES", "").split(",") if word not in ("", "-1")]
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        of_step = os.environ.get(name, "").split(",")
        if own and len(of_step) == len(own) and all(word.isdigit() for word in of_step):
            return of_step
    return own


def _has_foreign(tree: str, uid: int) -> bool:
    """Return whether something in a tree belongs to another user, or cannot be looked into."""
    closed: list[OSError] = []
    for folder, names, files in os.walk(tree, onerror=closed.append):
        for name in (".", *names, *files):
            if os.lstat(f"{folder}/{name}").st_uid != uid:
                return True
    return bool(closed)


def _last_words(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
