"""Runs the entry point as a child process and reports how it ended.

The child's output is copied while it runs; the end of it is kept, because the reason of a failure is there.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from job_toolkit.distribution import launched, meeting_variables, torch_place
from job_toolkit.environment import (
    JobEnvironment,
    JobInputError,
    read_environment,
    script_arguments,
    script_variables,
)
from job_toolkit.failure import write_failure, write_stop_reason
from job_toolkit.paths import JobPaths, job_paths

MAX_RUN_VARIABLE, GRACE_VARIABLE = "LAUNCHER_MAX_RUN_SECONDS", "LAUNCHER_STOP_GRACE_SECONDS"
# A folder where the requirements are installed already, and the file that says that an installation is over.
REQUIREMENTS_VARIABLE, COMPLETE = "LAUNCHER_REQUIREMENTS", ".launcher-complete"
DEBUGPY_VARIABLE = "LAUNCHER_DEBUGPY"  # a debugger is to be waited for
CHUNK_BYTES = 64 * 1024
TAIL_BYTES = 64 * 1024
# The platform shows 1024 characters of a failure file: the message, then the command, must both fit.
MESSAGE_CHARACTERS = 640
COMMAND_CHARACTERS = 200

_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_TRACEBACK_HEADER = "Traceback (most recent call last):"
_NAMED_EXCEPTION = re.compile(r"(?:\s*\|\s)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)(?::\s.*)?)$")


Start = Callable[[list[str], str, dict[str, str]], "subprocess.Popen[bytes] | None"]
"""Starts a program, by arguments, folder and environment, otherwise than by a new process; None where it cannot."""


def run_job(command: str, signals: "StopSignals", start: Start | None = None) -> int:
    """Run the entry point of this job and return the exit code for the container.

    The entry point is the hyperparameter ``sagemaker_program``, or ``<command>.py``, in the code folder.

    Returns:
        The child's exit code, or 128 + n where signal n ended it; 1 where no child could be started.
    """
    try:
        paths = _prepare_tree(job_paths())
        environment = read_environment()
        fetched = _has_fetched_source(environment)
        program = _find_program(environment, command)
        place = torch_place(environment)
        command_line = launched(_program_command(paths.code, program), environment, place)
        with installed_requirements(paths.code, signals) as requirements:
            child = ChildProcess(
                kind="ExecuteUserScriptError",
                arguments=command_line + script_arguments(environment.hyperparameters),
                variables=script_variables(environment, program)
                | meeting_variables(environment, place)
                | {"PYTHONPATH": _python_path(paths.code, requirements)},
                working_directory=paths.code,
            )
            exit_code = _run_reported(child, signals, start)
        if fetched:
            from job_toolkit.source import keep_intermediate

            keep_intermediate(paths)
        return exit_code
    except ChildFailedError as error:
        return error.exit_code
    except JobInputError as error:
        write_failure(f"{type(error).__name__}: {error}")
        print(f"job_toolkit: {error}", file=sys.stderr, flush=True)
        return 1


class ChildProcess(NamedTuple):
    """What to run. ``kind`` opens the failure text, with the words of the official toolkit."""

    kind: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    working_directory: Path


class ChildFailedError(Exception):
    """A step before the entry point failed; the failure file already says why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class StopSignals:
    """Passes SIGTERM and SIGINT on to whatever child is running now; between children it only remembers them.

    The platform may set a limit in ``LAUNCHER_MAX_RUN_SECONDS``: then the child gets SIGTERM in time, and SIGKILL
    ``LAUNCHER_STOP_GRACE_SECONDS`` later, whether or not the platform is still there.

    Attributes:
        received: number of the last such signal, None before the first.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._overdue = False
        # Removed: the limit is this process's business, and programs of the script may read the same names.
        self._max_run_seconds = float(os.environ.pop(MAX_RUN_VARIABLE, "") or 0)
        self._grace_seconds = float(os.environ.pop(GRACE_VARIABLE, "") or 120)

    @contextlib.contextmanager
    def caught(self) -> Iterator["StopSignals"]:
        """Catch both signals until the end of the ``with`` block; this process outlives them."""
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        if self._max_run_seconds:
            previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_deadline)
            signal.setitimer(signal.ITIMER_REAL, self._max_run_seconds)
        try:
            yield self
        finally:
            if self._max_run_seconds:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        if self._child is not None:
            self._pass_on(self._child, number)

    def _on_deadline(self, _number: int, _frame: FrameType | None) -> None:
        if self._overdue:
            if self._child is not None:
                self._child.kill()
            return
        self._overdue = True
        signal.setitimer(signal.ITIMER_REAL, max(self._grace_seconds, 0.001))
        if self.received is None:  # otherwise the platform has asked already, and a second SIGTERM does harm
            write_stop_reason("MaxRuntimeExceeded")
            self._handle(signal.SIGTERM, None)

    def attach(self, child: subprocess.Popen[bytes]) -> None:
        """Pass signals on to ``child`` from now on, also one that has come already."""
        self._child = child
        if self.received is not None:
            self._pass_on(child, self.received)

    def detach(self) -> None:
        """Only remember signals from now on."""
        self._child = None

    @staticmethod
    def _pass_on(child: subprocess.Popen[bytes], number: int) -> None:
        # Ctrl-C on a terminal reaches the whole foreground group; a second one would interrupt clean-up.
        if number == signal.SIGINT and _in_terminal_foreground():
            return
        child.send_signal(number)


def _in_terminal_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # stdin is closed or no terminal
        return False


def _prepare_tree(paths: JobPaths) -> JobPaths:
    """Make the folders that a script may expect, and forget how an earlier run of this job ended."""
    try:
        for folder in (paths.model, paths.output_data, paths.intermediate):
            folder.mkdir(parents=True, exist_ok=True)
        paths.failure.unlink(missing_ok=True)
    except OSError as error:
        raise JobInputError(
            f"the job cannot write below {paths.base}: {error}. "
            f"This process runs as uid {os.getuid()}; that user must be able to write there."
        ) from error
    return paths


def _has_fetched_source(environment: JobEnvironment) -> bool:
    """Fetch the source where the platform has not laid it out, as on AWS; return whether it did."""
    if not str(environment.platform_hyperparameters.get("sagemaker_submit_directory") or "").startswith("s3://"):
        return False
    code = environment.paths.code
    if code.is_dir() and any(code.iterdir()):
        return False
    from job_toolkit.source import fetch_source  # loads what few jobs need

    return fetch_source(environment)


def _find_program(environment: JobEnvironment, command: str) -> str:
    code = environment.paths.code
    named = environment.platform_hyperparameters.get("sagemaker_program") or os.environ.get("SAGEMAKER_PROGRAM")
    program = str(named or f"{command}.py")
    if (code / program).is_file():
        return program
    files = sorted(entry.name for entry in code.iterdir()) if code.is_dir() else []
    if not files:
        raise JobInputError(
            f"{code} is {'empty' if code.is_dir() else 'missing'}, so there is no {program} to run. "
            f"Give the job its source folder: mount it there, or name source_dir in the estimator."
        )
    chosen = "hyperparameter sagemaker_program" if named else f"the default of the command {command!r}"
    shown = ", ".join(files[:10]) + (", ..." if len(files) > 10 else "")
    raise JobInputError(f"entry point {program!r} ({chosen}) is not a file in {code}, which holds: {shown}.")


def _program_command(code: Path, program: str) -> list[str]:
    if program.endswith(".py"):
        debugging = [str(Path(__file__).with_name("debugging.py"))] if DEBUGPY_VARIABLE in os.environ else []
        return [sys.executable, "-u", *debugging, program]
    if program.endswith(".sh"):
        return ["bash", program]
    path = code / program
    if not os.access(path, os.X_OK):
        raise JobInputError(
            f"entry point {program!r} is neither a .py nor a .sh file, and {path} is not executable. "
            f"Rename it, or: chmod +x {program}"
        )
    return [str(path)]


def _python_path(code: Path, requirements: Path | None) -> str:
    toolkit = Path(__file__).resolve().parent.parent
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [str(code), *([str(requirements)] if requirements else []), str(toolkit), *inherited]
    return os.pathsep.join(dict.fromkeys(entry for entry in entries if entry))


@contextlib.contextmanager
def installed_requirements(code: Path, signals: StopSignals) -> Iterator[Path | None]:
    """Install the source folder's ``requirements.txt``, if it has one, into a folder that goes with the job.

    The interpreter's own packages stay as they are: outside a container they are the user's.

    Raises:
        ChildFailedError: pip failed; the failure file says why.
    """
    # Removed: it is the platform's business, and a program of the script may be a job as well.
    lent = os.environ.pop(REQUIREMENTS_VARIABLE, "")
    requirements = code / "requirements.txt"
    if not requirements.is_file():
        yield None
        return
    if lent:
        yield Path(lent)
        return
    import tempfile  # slow to load, and few jobs get here

    with tempfile.TemporaryDirectory(prefix="job-requirements-") as target:
        _install(requirements, target, signals)
        yield Path(target)


def install_requirements(signals: StopSignals) -> int:
    """Install the requirements of this job into the folder ``requirements`` of its tree, for this job and others.

    Returns:
        The exit code for the container.
    """
    paths = job_paths()
    target = paths.base / "requirements"
    try:
        _install(paths.code / "requirements.txt", str(target), signals)
    except ChildFailedError as error:
        return error.exit_code
    (target / COMPLETE).touch()
    return 0


def _install(requirements: Path, target: str, signals: StopSignals) -> None:
    """Run pip.

    Raises:
        ChildFailedError: it failed; the failure file says why.
    """
    pip = ChildProcess(
        kind="InstallRequirementsError",
        arguments=[
            *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
            *("--target", target, "--requirement", requirements.name),
        ],
        variables={},
        working_directory=requirements.parent,
    )
    exit_code = _run_reported(pip, signals)
    if exit_code != 0:
        raise ChildFailedError(exit_code)


def _run_reported(child: ChildProcess, signals: StopSignals, start: Start | None = None) -> int:
    """Run ``child`` to its end; unless it succeeded, was stopped or said so itself, say why it failed."""
    if signals.received is not None:
        return 128 + signals.received
    exit_code, tail = _run_child(child, signals, start)
    failure = job_paths().failure
    has_own_reason = failure.is_file() and failure.stat().st_size > 0
    if exit_code != 0 and signals.received is None and not has_own_reason:
        write_failure(failure_text(child.kind, exit_code, tail, child.arguments))
    return exit_code


def _run_child(child: ChildProcess, signals: StopSignals, start: Start | None = None) -> tuple[int, bytes]:
    """Run ``child``, copying its output to ours; return its exit code and the end of its output."""
    arguments, environment = list(child.arguments), {**os.environ, **child.variables}
    try:
        started = start(arguments, str(child.working_directory), environment) if start is not None else None
        process = started or subprocess.Popen(
            arguments,
            cwd=child.working_directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
    except OSError as error:
        raise JobInputError(
            f"cannot start {child.arguments[0]} in {child.working_directory}: {error}. "
            "Hyperparameters reach the program as arguments and variables, which hold at most 128 KiB each."
        ) from error
    assert process.stdout is not None
    with process.stdout as pipe, _child_exit_wakeup() as wakeup:
        signals.attach(process)
        try:
            tail = _copy_output(process, pipe.fileno(), wakeup)
            exit_code = process.wait()
        finally:
            signals.detach()
    return (128 - exit_code if exit_code < 0 else exit_code), tail


@contextlib.contextmanager
def _child_exit_wakeup() -> Iterator[int]:
    """Yield a descriptor that becomes readable when a child process ends."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    previous_descriptor = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    # Only a signal that has a handler is written to the wake-up descriptor.
    previous_handler = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        yield readable
    finally:
        signal.signal(signal.SIGCHLD, previous_handler)
        signal.set_wakeup_fd(previous_descriptor)
        os.close(readable)
        os.close(writable)


def _copy_output(process: subprocess.Popen[bytes], pipe: int, wakeup: int) -> bytes:
    """Copy ``pipe`` to stdout until the child has ended and all it wrote is copied; return the last of it.

    A grandchild that outlives the child may hold the pipe open for ever, so its end alone decides nothing.
    """
    os.set_blocking(pipe, False)
    output = _Output()
    while process.poll() is None:
        ready, _, _ = select.select([pipe, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 512)
        if pipe in ready and not _copy_available(pipe, output):
            process.wait()
    _copy_available(pipe, output)
    return output.tail()


def _copy_available(pipe: int, output: "_Output") -> bool:
    """Copy what can be read now; return False at the end of the pipe."""
    while True:
        try:
            chunk = os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        output.write(chunk)


class _Output:
    """Our own stdout, and the last bytes that went there."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_open = True

    def write(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > 4 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]
        if self._is_open:
            self._write_through(memoryview(chunk))

    def _write_through(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except BlockingIOError:  # somebody shares this descriptor and made it non-blocking
                select.select([], [1], [])
            except OSError:  # the reader has gone; the job goes on, and must not block on a full pipe
                self._is_open = False
                return

    def tail(self) -> bytes:
        return bytes(self._kept[-TAIL_BYTES:])


def failure_text(kind: str, exit_code: int, tail: bytes, arguments: Sequence[str]) -> str:
    """Return the text of the failure file, in the form of the official training toolkit.

    Args:
        kind: the error's name, for example ``ExecuteUserScriptError``.
        exit_code: as the container will return it: 128 + n where signal n ended the child.
        tail: the end of what the child wrote.
        arguments: the child's command line.
    """
    message = last_error(tail.decode("utf-8", errors="replace"))
    lines = [f"{kind}:", f"ExitCode {exit_code}", f'ErrorMessage "{_shorten(message, MESSAGE_CHARACTERS)}"']
    if exit_code == 128 + signal.SIGKILL:
        # Whether memory ran out is for the platform to say: it can ask the kernel's counters.
        lines.append('ExtraInfo "Process ended by SIGKILL (signal 9), which the platform did not send"')
    elif exit_code > 128 and (name := _signal_name(exit_code - 128)):
        lines.append(f'ExtraInfo "Process ended by {name} (signal {exit_code - 128})"')
    # The interpreter's own path says nothing, and differs between a container and a local process.
    shown = ["python", *arguments[2:]] if list(arguments[:2]) == [sys.executable, "-u"] else arguments
    lines.append(f'Command "{_shorten(shlex.join(shown), COMMAND_CHARACTERS)}"')
    return "\n".join(lines)


def last_error(output: str) -> str:
    """Return the line that says why a program failed: its last exception, else the last line it wrote.

    Indented lines right below the exception belong to its message and come along.
    """
    plain = _ANSI_ESCAPE.sub("", output.replace("\r\n", "\n").replace("\r", "\n"))
    lines = "".join(character for character in plain if character in "\n\t" or character.isprintable()).split("\n")
    headers = [index for index, line in enumerate(lines) if line.endswith(_TRACEBACK_HEADER)]
    if headers:
        for index in range(headers[-1] + 1, len(lines)):
            if lines[index] and not lines[index][0].isspace():
                return _with_indented_lines(lines, index)
    for index in reversed(range(len(lines))):
        if match := _NAMED_EXCEPTION.match(lines[index]):
            return match.group(1)
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _with_indented_lines(lines: Sequence[str], index: int) -> str:
    message = [lines[index]]
    for line in lines[index + 1 :]:
        if not line.startswith("  ") or not line.strip():
            break
        message.append(line)
    return "\n".join(message)


def _signal_name(number: int) -> str | None:
    try:
        return signal.Signals(number).name
    except ValueError:
        return None


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
