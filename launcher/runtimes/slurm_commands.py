"""Slurm's own commands: submit a job, look at it, signal it, end it.

Only text that has not changed for years is read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import RuntimeUnavailableError
from launcher.settings import stop_grace_seconds

_PROGRAMS = ("sbatch", "srun", "scontrol", "squeue", "scancel")
_SECONDS = 15.0  # of a question; a controller answers in milliseconds, or not at all
_SUBMITTING_SECONDS = 120.0  # sbatch itself tries again for a while
# What a command of Slurm's may see of this process: a job's own variables are in its request.
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF")
_GONE = "Invalid job id"
_ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)


@dataclass(frozen=True)
class JobView:
    """A job as Slurm sees it.

    Attributes:
        state: in Slurm's word, such as ``RUNNING``.
        reason: why it waits, in Slurm's word.
        exit_code: of its script.
        nodes: where it runs, or ran.
        preempted: whether another job takes, or took, its place.
    """

    state: str
    reason: str = ""
    exit_code: int = 0
    nodes: str = ""
    preempted: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs, or will."""
        return self.state in _ENDED


def answer_of(
    program: str,
    *arguments: str,
    text: str = "",
    variables: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    seconds: float = _SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm's and return its answer, whatever it is.

    Args:
        text: for its standard input.
        variables: for its environment, and with it for that of the job that it submits.
        descriptors: that it keeps open as long as it runs.
    Raises:
        RuntimeUnavailableError: it is not there, or does not end in time.
    """
    try:
        return subprocess.run(
            [program, *arguments],
            input=text,
            env={**own_environment(), **(variables or {})},
            cwd="/",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
            pass_fds=descriptors,
        )
    except FileNotFoundError:
        raise RuntimeUnavailableError(
            f"there is no command {program} here: the slurm runtime submits jobs by Slurm's own commands.",
            "Run on a login node of the cluster, or install Slurm's client (Debian: slurm-client).",
        ) from None
    except subprocess.TimeoutExpired:
        raise RuntimeUnavailableError(
            f"Slurm does not answer: {program} has not ended after {seconds:.0f} s.", "Ask it: scontrol ping"
        ) from None
    except OSError as error:
        raise RuntimeUnavailableError(f"{program} cannot be run: {error.strerror}.", "Shorten the request.") from error


def own_environment() -> dict[str, str]:
    """Return what a command of Slurm's may see of this process's environment."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def ask(program: str, *arguments: str) -> str:
    """Return what a command printed.

    Raises:
        RuntimeUnavailableError: it failed, or is not there.
    """
    answer = answer_of(program, *arguments)
    if answer.returncode != 0:
        raise RuntimeUnavailableError(f"Slurm does not answer {program}: {said(answer)}.", "Ask it: scontrol ping")
    return answer.stdout


def said(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the first error of a command in one line, without its name."""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[0]).rstrip(".") if lines else f"it exited with {answer.returncode}"


def is_installed() -> bool:
    """Return whether Slurm's commands are here."""
    return all(shutil.which(program) for program in _PROGRAMS)


def check_installed() -> None:
    """See whether Slurm's commands are here.

    Raises:
        RuntimeUnavailableError: one of them is not.
    """
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            answer_of(program, "--version")  # which raises


def submit(script: str, options: Sequence[str], variables: Mapping[str, str], descriptors: Sequence[int]) -> int:
    """Submit a job and return its number.

    Args:
        script: for the first of its nodes.
        options: words for sbatch.
        variables: that the job sees.
        descriptors: that sbatch keeps open as long as it runs.
    Raises:
        RuntimeUnavailableError: Slurm does not take it, or does not answer.
    """
    answer = answer_of(
        "sbatch", *options, text=script, variables=variables, descriptors=descriptors, seconds=_SUBMITTING_SECONDS
    )
    number = answer.stdout.strip().partition(";")[0]
    if answer.returncode != 0 or not number.isdecimal():
        raise RuntimeUnavailableError(f"Slurm does not take the job: {said(answer)}.", "Ask it: sinfo; squeue --me")
    return int(number)


def look(job: int, token: str) -> JobView | None:
    """Return how a job stands; None where nobody knows it any more.

    Args:
        job: its number.
        token: in its comment; another job may have got the number.
    Raises:
        RuntimeUnavailableError: Slurm does not answer.
    """
    answer = answer_of("scontrol", "--oneliner", "show", "job", str(job))
    text = answer.stdout
    if answer.returncode == 0 and (state := _value(text, "JobState")) and token in text:
        return JobView(
            state,
            _value(text, "Reason"),
            int(_value(text, "ExitCode").partition(":")[0] or 0),
            _value(text, "NodeList"),
            _value(text, "PreemptTime") not in ("", "None"),
        )
    if answer.returncode != 0 and _GONE not in answer.stderr + answer.stdout:
        raise RuntimeUnavailableError(f"Slurm does not answer: {said(answer)}.", "Ask it: scontrol ping")
    return _accounted(job)


def _accounted(job: int) -> JobView | None:
    """Return what accounting has of a job that the controller has forgotten; None where there is none."""
    wanted = "JobID,State,ExitCode,NodeList"
    answer = answer_of("sacct", "-P", "--noheader", "--allocations", f"--jobs={job}", f"--format={wanted}")
    for line in answer.stdout.splitlines() if answer.returncode == 0 else ():
        number, state, code, nodes = (*line.split("|"), "", "", "")[:4]
        if number == str(job) and state:
            word = state.split()[0]  # "CANCELLED by 1000"
            return JobView(word, exit_code=int(code.partition(":")[0] or 0), nodes=nodes, preempted=word == "PREEMPTED")
    return None


def _value(text: str, name: str) -> str:
    match = re.search(rf"(?:^|\s){name}=(\S*)", text)
    return "" if match is None or match[1] == "(null)" else match[1]


def own_jobs() -> dict[int, dict[str, Any]]:
    """Return the comments of this user's jobs that wait or run, those that the launcher wrote, by number.

    Raises:
        RuntimeUnavailableError: Slurm does not answer.
    """
    jobs = {}
    for line in ask("squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%k").splitlines():
        number, state, comment = (*line.strip().split("|", 2), "", "")[:3]
        if comment.startswith("launcher ") and number.isdecimal():
            try:
                values = json.loads(comment.removeprefix("launcher "))
            except ValueError:
                continue  # somebody's own words
            jobs[int(number)] = {**values, "state": state, "ended": state in (*_ENDED, "COMPLETING")}
    return jobs


def cancel(job: int, *options: str) -> None:
    """End a job, or signal its processes; nothing happens when it has ended.

    Raises:
        RuntimeUnavailableError: Slurm does not answer.
    """
    answer = answer_of("scancel", *options, str(job))
    problem = answer.stderr
    if answer.returncode != 0 and not any(text in problem for text in (_GONE, "already completing", "is completed")):
        raise RuntimeUnavailableError(f"Slurm does not answer scancel: {said(answer)}.", "Ask it: scontrol ping")


def longest_minutes(partition: str) -> int | None:
    """Return how long a job of a partition may run, in minutes; None where there is no limit, or no such partition.

    Args:
        partition: its name; empty for the default one.
    """
    text = ask("scontrol", "--oneliner", "show", "partition", *([partition] if partition else []))
    for line in text.splitlines():
        if partition or _value(line, "Default") == "YES":
            return _minutes(_value(line, "MaxTime"))
    return None


def _minutes(text: str) -> int | None:
    """Return Slurm's ``[days-]hours:minutes:seconds`` in minutes; None for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes


def time_limit(max_run_seconds: int) -> int:
    """Return the minutes that a job asks for: its own limit and the grace after it end it before Slurm would."""
    grace = stop_grace_seconds()
    # Slurm sends the signal that it was asked for up to a minute early.
    return -int(-(max_run_seconds + 2 * grace + 120) // 60)
