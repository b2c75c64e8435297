"""Why a job failed, in the words of a FailureReason."""

from __future__ import annotations

import signal

from launcher.jobs.spec import ContainerSpec
from launcher.running.opt_ml import FAILURE_REASON_LIMIT
from launcher.runtimes import EndCause, Ending

_KILLED = 128 + signal.SIGKILL


def failure_reason(container: ContainerSpec, exit_code: int, ending: Ending, said: str) -> str:
    """Return the FailureReason of a host that ended with ``exit_code``; our own words name it among several.

    Args:
        container: the host.
        exit_code: not 0.
        ending: how it ended, as its runtime says.
        said: the text of the job's failure file; may be empty.
    """
    text = said
    if ending.cause is EndCause.OUT_OF_MEMORY:
        text = f"OutOfMemory: the kernel killed the job for lack of memory; {ending.detail}. {said}".rstrip()
    elif ending.cause.is_none_of_the_jobs:
        text = ending.detail
    elif text:
        pass
    elif ending.cause is EndCause.NO_PROGRAM:
        command = " ".join([*container.entry_point, *container.arguments])
        text = f"there is no '{command}' to run ({ending.detail})"
        if container.arguments == ("train",):
            text += "; an algorithm image must be runnable as: docker run IMAGE train"
    elif exit_code == _KILLED:
        text = "the job was killed by signal 9, not by the launcher; nothing says that memory ran out"
    elif exit_code > 128:
        text = f"the process was ended by signal {exit_code - 128}, which did not come from the launcher"
    if text != said and len(container.hosts) > 1:
        text = f"{container.host}: {text}"
    kind = "InternalServerError" if ending.cause.is_none_of_the_jobs else "AlgorithmError"
    # The exit code at the end has to stay: the text before it is cut.
    tail = f", exit code: {exit_code}"
    return f"{kind}: {text}"[: FAILURE_REASON_LIMIT - len(tail)] + tail
