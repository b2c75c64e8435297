"""The one seam of the launcher: where and how the hosts of a job are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.faults import CUT, DELAY, SLOW
from launcher.jobs.spec import ContainerSpec, Limits, TrainingJobSpec
from launcher.runtimes.usage import HostUsage

# Runs inside a host: hands bytes on between its standard streams and a port of the loopback address.
_RELAY = """
import os, socket, sys, threading
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def hand_in():
    while data := os.read(0, 65536):
        link.sendall(data)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=hand_in, daemon=True).start()
while data := link.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


def open_log(container: ContainerSpec) -> FileIO:
    """Open a host's log for what it prints from its start on; the output of earlier attempts stays before that."""
    path = Path(container.log_path)
    log = path.open("ab", buffering=0)
    try:
        log.truncate(min(container.log_offset, path.stat().st_size))
    except BaseException:
        log.close()
        raise
    return log


class HostState(StrEnum):
    """Where a host of a job stands."""

    PENDING = "pending"
    """It waits for a place to run; that is no training time."""
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    """What runs it does not answer. The job is taken up when it answers again."""


class EndCause(StrEnum):
    """Why a host ended, where that is more than its exit code."""

    ITSELF = ""
    OUT_OF_MEMORY = "OutOfMemory"
    NO_PROGRAM = "NoProgram"
    MAX_RUNTIME = "MaxRuntimeExceeded"
    REMOVED = "Removed"
    INTERRUPTED = "Interrupted"
    """What the host ran on was taken away: by a job that goes before it, or by a fault. Spot jobs begin again."""

    @property
    def is_none_of_the_jobs(self) -> bool:
        """Whether nothing that the job did ended it."""
        return self in (EndCause.REMOVED, EndCause.INTERRUPTED)


@dataclass(frozen=True)
class Ending:
    """How a host ended, in the words of the engine or supervisor that ran it.

    Attributes:
        cause: why.
        detail: the same for people, such as the memory limit; may be empty.
        time: of the end, in seconds since 1970; 0 where nobody has noted it.
    """

    cause: EndCause = EndCause.ITSELF
    detail: str = ""
    time: float = 0.0


class Inside(Protocol):
    """The standard streams of a command that runs inside a host."""

    def read(self) -> bytes:
        """Return the next bytes that it printed; empty at the end."""

    def write(self, data: bytes) -> None:
        """Hand bytes to its standard input.

        Raises:
            OSError: it reads no more.
        """

    def close_input(self) -> None:
        """End its standard input."""

    def close(self) -> None:
        """Let go of it; a second call does no harm."""


class Execution(ABC):
    """One host of a job that has been started, by this process or by another one before it."""

    @property
    @abstractmethod
    def reference(self) -> dict[str, Any]:
        """JSON values for the record, for people; the runtime itself finds an execution by the job."""

    @abstractmethod
    def state(self) -> HostState:
        """Return where the host stands; returns at once."""

    @property
    def warning(self) -> str:
        """What the job's user should know about the host, such as a log that could not be written; mostly empty."""
        return ""

    @abstractmethod
    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the end; return the exit code (128 + n after signal n), or None when the time is up.

        Everything that the host printed is in its log file before the exit code is returned. While the state is lost,
        the answer is None: a host that cannot be seen has not ended.
        """

    def ending(self) -> Ending:
        """Return why the host ended; asked after ``wait`` has returned an exit code."""
        return Ending()

    def address(self) -> tuple[str, int]:
        """Return host and port at which this machine reaches the container's ``port``, as long as the host runs.

        Raises:
            RuntimeUnavailableError: nobody can say, or the host has ended or serves nothing.
        """
        raise RuntimeUnavailableError("this runtime cannot reach a port of its hosts.", "Use another runtime.")

    def process_id(self) -> int:
        """Return a process of this machine that ends with the host; 0 where none is known."""
        return 0

    def usage(self) -> HostUsage | None:
        """Return what the host has used so far; None where nobody can say. An engine may take its time to answer."""
        return None

    def run_inside(self, command: Sequence[str]) -> int:
        """Run a command where the job runs, on the standard streams of this process, and return its exit code.

        It has the job's user, environment and rights, and a terminal if this process has one.

        Raises:
            RuntimeUnavailableError: this runtime, or the system, does not let it in.
        """
        raise RuntimeUnavailableError("this runtime lets nobody into its hosts.", "Use another runtime.")

    def pipe_inside(self, command: Sequence[str]) -> Inside:
        """Start a command as ``run_inside`` does, and return its standard streams; its errors are dropped.

        Raises:
            RuntimeUnavailableError: this runtime, or the system, does not let it in.
        """
        raise RuntimeUnavailableError("this runtime lets nobody into its hosts.", "Use another runtime.")

    def connect_inside(self, port: int) -> Inside:
        """Return a connection to a port of the loopback address that the job sees.

        Raises:
            RuntimeUnavailableError: this runtime, or the system, does not let it in.
            OSError: nothing listens there.
        """
        return self.pipe_inside(["python3", "-I", "-S", "-c", _RELAY, str(port)])

    @abstractmethod
    def terminate(self) -> None:
        """Send SIGTERM to the main process and return at once; nothing happens when it has ended."""

    @abstractmethod
    def kill(self) -> None:
        """End every process of the host at once; nothing happens when it has ended."""

    def pause(self) -> None:
        """Let every process of the host stand still until ``resume``; signals may wait until then.

        Raises:
            RuntimeUnavailableError: the runtime cannot do it.
        """
        raise RuntimeUnavailableError("this runtime cannot pause a host.", "Use another runtime.")

    def resume(self) -> None:  # noqa: B027 - nothing was paused
        """Let the host go on; nothing happens where it was not paused."""

    def slow(self, factor: float) -> None:
        """Give the host so many times less of the CPU; 1 gives it back.

        Raises:
            RuntimeUnavailableError: the runtime cannot do it.
        """
        raise RuntimeUnavailableError("this runtime cannot slow a host.", "Use another runtime.")

    def cut_off(self) -> None:
        """Take the host off the network of its job; nothing happens where it is off already.

        Raises:
            RuntimeUnavailableError: the runtime cannot do it.
        """
        raise RuntimeUnavailableError("this runtime cannot cut a host off.", "Use another runtime.")

    def rejoin(self) -> None:  # noqa: B027 - nothing was cut off
        """Put the host back on the network, at its address; nothing happens where it is there."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what the runtime keeps of the host, whatever its state; a second call does no harm."""


@dataclass(frozen=True)
class Remains:
    """Something that a runtime keeps of a job.

    Attributes:
        job_name: the job.
        text: what it is, for people.
        remove: removes it.
        lost: whether no job can have it any more, also none of that name.
    """

    job_name: str
    text: str
    remove: Callable[[], None]
    lost: bool = False


class Runtime(ABC):
    """A way of running containers, or something like them.

    Attributes:
        name: as users and records name it.
        network_interface: the interface by which the hosts of a job reach each other.
        needs_local_libraries: whether jobs import the libraries of this machine's Python.
        runs_images: whether it can run an image of the user's.
        no_warm_pools: why no job can start from what another one left; empty where one can.
        driver: ``module:Class`` of what sees a training job through where that is not done step by step from here, as
            with another machine that does it itself; mostly empty.
        own_machines: whether its hosts are other machines than this one, with a queue of their own: what this machine
            has bounds neither what they get nor how many jobs run at once.
        starts_in_order: whether its hosts are started one after the other, the last one last.
        no_streams: why no channel can be a named pipe; empty where one can.
        no_entry: why no debugger, no command and no connection gets into its hosts; empty where ``pipe_inside`` works.
    """

    name: str
    network_interface: str = "eth0"
    needs_local_libraries: bool = False
    runs_images: bool = True
    no_warm_pools: str = "this runtime keeps nothing after a job"
    driver: str = ""
    own_machines: bool = False
    starts_in_order: bool = False
    no_streams: str = ""
    no_entry: str = "it lets nobody in"

    @property
    def placing(self) -> tuple[str, ...]:
        """Return what the settings say to its queue, for the record: whoever starts the job later says the same.

        Raises:
            RuntimeUnavailableError: they say what only the launcher can.
        """
        return ()

    def engine_for(self, image: str) -> tuple[str, ...]:
        """Return what runs an image on machines of its own, for the record; empty where that is the runtime itself.

        Args:
            image: as ``ContainerSpec`` has it.
        Raises:
            SettingsError: the settings name an engine that cannot be used.
        """
        return ()

    def runs_in_image(self, limits: Limits) -> bool:
        """Return whether a host sees its image's files, and not those of this machine's Python."""
        return not self.needs_local_libraries or bool(limits.engine)

    def interface_of(self, hosts: int) -> str:
        """Return the interface by which so many hosts of a job reach each other."""
        return self.network_interface

    @property
    @abstractmethod
    def host_address(self) -> str:
        """The address at which a job reaches servers of this machine.

        Raises:
            RuntimeUnavailableError: there is none, as with an engine on another machine.
        """

    @property
    def interpreter(self) -> str:
        """What tells apart the Pythons that the bundled image, or what stands in for it, may have."""
        return ""

    @property
    def gpus(self) -> int:
        """How many GPUs a host of a job sees."""
        return 0

    def place(self, spec: TrainingJobSpec) -> tuple[Limits, tuple[str, ...]] | None:
        """Return what each host of a job may use, and warnings, where that is decided on another machine; else None.

        Raises:
            BadInputError: that machine cannot run it.
            RuntimeUnavailableError: that machine does not answer.
        """
        return None

    @abstractmethod
    def check(self, container: ContainerSpec) -> None:
        """Refuse what could not be run, before anything is started.

        Raises:
            RuntimeUnavailableError: the runtime itself does not work here.
            ImageError: the image is neither here nor in a registry.
        """

    def refused_faults(self, container: ContainerSpec) -> Mapping[str, str]:
        """Return why a fault of a kind (``jobs.faults``) cannot be caused to a host, for each kind that cannot."""
        return dict.fromkeys((DELAY, CUT, SLOW), "it has no means for it")

    @abstractmethod
    def describe_image(self, container: ContainerSpec) -> str:
        """Return what the job will run in, as a person would name it."""

    def describe_start(self, containers: Sequence[ContainerSpec]) -> str:
        """Return the command that starts the hosts, for people; empty where there is none."""
        return ""

    @abstractmethod
    def prepare(self, container: ContainerSpec) -> None:
        """Have the image ready, and build it if need be; a second call costs next to nothing.

        Raises:
            ImageError: it cannot be built.
        """

    def describe_environment(self, container: ContainerSpec) -> dict[str, Any]:
        """Return what the job finds beside its own files, as JSON values, so that two jobs can be compared by it.

        Asked after ``prepare``, and quickly: an image by its id, an interpreter by its version and its packages.
        """
        return {}

    def open(self, containers: Sequence[ContainerSpec]) -> None:  # noqa: B027 - most runtimes share nothing
        """Make what the hosts of a job share, such as a network; a second call changes nothing.

        Raises:
            RuntimeUnavailableError: it could not be made.
        """

    def close(self, containers: Sequence[ContainerSpec]) -> None:  # noqa: B027 - most runtimes share nothing
        """Remove what ``open`` made, when every host has been removed; a second call does no harm.

        Raises:
            RuntimeUnavailableError: it could not be removed.
        """

    @abstractmethod
    def start(self, container: ContainerSpec) -> Execution:
        """Start a host; its log file begins anew, after the ``log_offset`` bytes of earlier attempts, which stay.

        Raises:
            ImageError: the image does not follow the contract.
            RuntimeUnavailableError: the runtime could not start it.
        """

    @abstractmethod
    def find(self, container: ContainerSpec) -> Execution | None:
        """Return the host that was started for this job and this home before, if anything of it is left.

        Raises:
            RuntimeUnavailableError: the engine does not answer, so that nobody can say.
        """

    def keep_warm(self, container: ContainerSpec) -> str:
        """Keep what a matching job can start from, when a host has ended and is not removed yet.

        Returns:
            The name of the warm pool.
        Raises:
            RuntimeUnavailableError: nothing can be kept; why.
        """
        raise RuntimeUnavailableError(self.no_warm_pools)

    def look(self, container: ContainerSpec) -> Execution | None:
        """Return the host as ``find`` does, for a process that does not drive the job: its log stays untouched.

        Raises:
            RuntimeUnavailableError: the engine does not answer, so that nobody can say.
        """
        return self.find(container)

    def leftovers(self, home: str) -> list[Remains]:
        """Return everything that the runtime keeps of the jobs of a home, alive or not.

        Raises:
            RuntimeUnavailableError: the engine does not answer.
        """
        return []

    def reclaim(self, container: ContainerSpec) -> None:  # noqa: B027 - most runtimes have nothing to do here
        """Make everything that the host wrote to its tree belong to the caller."""
