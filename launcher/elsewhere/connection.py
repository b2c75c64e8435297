"""A connection to another machine by the system's ssh client, with a launcher at its other end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import stat
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from launcher.elsewhere.messages import GREETING, Payload, error_of, receive, send
from launcher.elsewhere.package import code_archive, code_digest, requirements
from launcher.errors import LauncherError, RuntimeUnavailableError
from launcher.runtimes.addresses import MachineAddress
from launcher.settings import job_variables, ssh_command

_SSH_FAILED = 255
_NEEDS_CODE, _NEEDS_PYTHON = "launcher-agent needs code", "launcher-agent needs python"
_LONGEST_SOCKET = 60  # bytes of the folder: ssh adds 60 to it, and a socket's path has 108
_CONNECT_SECONDS = 20
_NOISE_LINES = 200  # that a login shell may print before the launcher does

# By these words in ssh's own, what to do about them.
_REMEDIES = (
    ("Host key verification failed", "Log in once by hand and compare the fingerprint that it shows: {login}"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "Find out why the key of the machine changed; then: {login}"),
    ("Permission denied", "Have your key there (ssh-copy-id {destination}) or in ssh-agent; try: {login}"),
    ("Could not resolve hostname", "Correct the name, or give it an entry in ~/.ssh/config."),
    ("Connection refused", "Does sshd run there, and is the port right? Try: {login}"),
    ("timed out", "Is the machine up, and reachable from here? Try: {login}"),
)

# Run there by sh: $1 the code's name, $2 that of its requirements, $3 a Python or an environment.
_START = (
    'c="${XDG_CACHE_HOME:-$HOME/.cache}/launcher"; '
    'if [ -n "$3" ]; then p="$3"; [ -d "$p" ] && p="$p/bin/python"; else p="$c/pythons/$2/python"; fi; '
    f'if [ ! -d "$c/code/$1" ]; then echo {_NEEDS_CODE}; exit 0; fi; '
    f'if [ ! -x "$p" ]; then echo {_NEEDS_PYTHON}; exit 0; fi; '
    'PYTHONPATH="$c/code/$1" exec "$p" -m launcher.elsewhere.agent'
)
_TAKE_CODE = (
    'set -e; c="${XDG_CACHE_HOME:-$HOME/.cache}/launcher"; umask 077; mkdir -p "$c/code"; d="$c/code/.new-$$"; '
    'mkdir "$d"; tar -xzf - -C "$d"; mv -T "$d" "$c/code/$1" 2>/dev/null || rm -rf "$d"; [ -d "$c/code/$1" ]'
)
# Looks for a Python with all that is needed; makes an environment where there is none. After $3 come the requirements.
_FIND_PYTHON = r"""
c="${XDG_CACHE_HOME:-$HOME/.cache}/launcher"; name=$2; shift 3; umask 077; mkdir -p "$c/pythons/$name" || exit 4
try='
import re, sys
from importlib.metadata import version
assert sys.version_info >= (3, 11)
for line in sys.argv[1:]:
    version(re.split(r"[^A-Za-z0-9._-]", line)[0])
'
use() {
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$1" >"$c/pythons/$name/new.$$" && chmod 755 "$c/pythons/$name/new.$$" \
        && mv "$c/pythons/$name/new.$$" "$c/pythons/$name/python"
}
launcher=$(command -v launcher); own=; new=; seen=
[ -n "$launcher" ] && own=$(sed -n '1s/^#! *//p' "$launcher" 2>/dev/null)
for p in "$own" python3.13 python3.12 python3.11 python3; do
    [ -n "$p" ] && p=$(command -v "$p") || continue
    seen="$seen $p ($("$p" -V 2>&1 | tail -n 1))"
    "$p" -c "$try" "$@" >/dev/null 2>&1 && { use "$p"; exit; }
    [ -z "$new" ] && "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && new=$p
done
[ -n "$new" ] || { echo "${seen:-none}"; exit 5; }
"$new" -m venv "$c/pythons/$name/venv" 2>&1 || exit 6
"$c/pythons/$name/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2>&1 || exit 7
use "$c/pythons/$name/venv/bin/python"
"""


class Connection:
    """A launcher on another machine that answers questions, one after another.

    Args:
        address: the machine.
    Attributes:
        facts: what it said of itself: ``home``, ``python``, ``code``, ``version``, ``machine``.
        sent_bytes: of contents, since the connection began.
        key: what other connections have to have in common with it to stand for it.
    Raises:
        RuntimeUnavailableError: it cannot be reached, or has no Python for a launcher.
    """

    def __init__(self, address: MachineAddress) -> None:
        self.address = address
        self.key = _key(address)
        self.sent_bytes = 0
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would stay open in ssh's master
        self._process = self._begun()
        # Whoever forgets a connection ends it.
        self._end = weakref.finalize(self, _end_process, self._process, self._errors)
        try:
            self.facts = self.ask("hello", variables=job_variables())
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the other side may still answer."""
        return self._process.poll() is None

    def ask(self, call: str, payload: Iterable[bytes] = (), size: int = 0, **arguments: Any) -> dict[str, Any]:
        """Ask for something, and return the answer.

        Args:
            call: what is asked.
            payload: ``size`` bytes that belong to the question.
        Raises:
            RuntimeUnavailableError: the connection has ended.
            LauncherError: what the other side said, with the name of the machine.
        """
        answer, rest = self._asked(call, payload, size, arguments)
        rest.drop()
        return answer

    def read(self, call: str, **arguments: Any) -> tuple[dict[str, Any], Payload]:
        """Ask for something whose bytes follow the answer; all of them have to be read before the next question.

        Raises:
            RuntimeUnavailableError, LauncherError: as ``ask``.
        """
        return self._asked(call, (), 0, arguments)

    def lost(self) -> RuntimeUnavailableError:
        """Return the error for a connection that has ended."""
        self._process.kill()
        self._process.wait()
        return self._unreachable(_text(self._errors))

    def close(self) -> None:
        """End the connection; a second call does no harm."""
        self._end()

    def _asked(
        self, call: str, payload: Iterable[bytes], size: int, arguments: dict[str, Any]
    ) -> tuple[dict[str, Any], Payload]:
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None  # they are pipes
        assert answers is not None
        try:
            send(questions, {"call": call, "arguments": arguments}, payload, size)
            answer = receive(answers)
        except (EOFError, OSError, ValueError) as error:
            raise self.lost() from error
        except BaseException:  # cut in the middle of a message: nothing more can be said
            self._process.kill()
            raise
        if "error" in answer:
            raise error_of(answer["error"], str(self.address))
        return answer["answer"], Payload(answers, answer["size"])

    def _begun(self) -> subprocess.Popen[bytes]:
        """Return a process of ssh whose other side answers; what it needs is sent first where it is not there."""
        for _ in range(3):
            process = subprocess.Popen(
                self._command(_START), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
            try:
                line = self._greeting(process)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if line == GREETING:
                return process
            process.communicate()
            if line == _NEEDS_CODE:
                self._run(_TAKE_CODE, code_archive(), "the launcher's code cannot be put there")
            elif line == _NEEDS_PYTHON:
                self._find_python()
            else:
                raise self._unreachable(_text(self._errors), process.returncode)
        raise RuntimeUnavailableError(
            f"{self.address}: no launcher starts there: {_text(self._errors)}", self._hint("Try: {login}")
        )

    def _greeting(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        for _ in range(_NOISE_LINES):
            line = process.stdout.readline().decode("utf-8", "replace").strip()
            if not line or line in (GREETING, _NEEDS_CODE, _NEEDS_PYTHON):
                return line
        return ""

    def _find_python(self) -> None:
        if self.address.python:
            raise RuntimeUnavailableError(
                f"{self.address}: {self.address.python} there is neither a Python nor a virtual environment.",
                "Correct the path, or leave it out: the launcher then looks for a Python, or makes an environment.",
            )
        code, text = self._output(_FIND_PYTHON, b"")
        if code == 0:
            return
        problem, hint = {
            5: ("there is no Python 3.11 or newer; looked at:", "Install one there: apt install python3 python3-venv"),
            6: ("no virtual environment can be made there:", "Install what it needs there: apt install python3-venv"),
            7: (
                "what the launcher needs cannot be installed there, for its packages cannot be fetched:",
                "Make an environment there in another way, and name it: LAUNCHER_HOST={address}/path/to/venv\n"
                "  It needs: {requirements}",
            ),
        }.get(code, ("no Python could be set up there:", "Try: {login}"))
        raise RuntimeUnavailableError(f"{self.address}: {problem} {text}", self._hint(hint))

    def _run(self, script: str, data: bytes, problem: str) -> None:
        code, text = self._output(script, data)
        if code:
            raise RuntimeUnavailableError(f"{self.address}: {problem}: {text}", self._hint("Try: {login}"))

    def _output(self, script: str, data: bytes) -> tuple[int, str]:
        with tempfile.TemporaryFile() as printed:
            process = subprocess.run(self._command(script), input=data, stdout=printed, stderr=printed, check=False)
            text = _text(printed)
        if process.returncode == _SSH_FAILED:
            raise self._unreachable(text, _SSH_FAILED)
        return process.returncode, text

    def _command(self, script: str) -> list[str]:
        lines = requirements()
        name = _name_of(lines)
        arguments = [script, "sh", code_digest(), name, self.address.python]
        arguments += lines if script == _FIND_PYTHON else []
        return [*ssh_line(self.address), "exec sh -c " + " ".join(map(shlex.quote, arguments))]

    def _unreachable(self, text: str, code: int = _SSH_FAILED) -> RuntimeUnavailableError:
        remedy = next((remedy for words, remedy in _REMEDIES if words in text), "Try: {login}")
        if code != _SSH_FAILED and not text:
            text = f"the launcher there ended with {code}"
        return RuntimeUnavailableError(f"{self.address} cannot be reached: {text or 'ssh ended'}", self._hint(remedy))

    def _hint(self, text: str) -> str:
        return text.format(
            login=shlex.join([*ssh_command(), *_port(self.address), self.address.destination]),
            destination=self.address.destination, address=self.address, requirements=" ".join(requirements()),
        )  # fmt: skip


_Key = tuple[int, str, str]
_idle: dict[_Key, Connection] = {}
_idle_lock = threading.Lock()


def _key(address: MachineAddress) -> _Key:
    """Return what a connection has to have in common with another to stand for it; a copied process has its own."""
    return os.getpid(), str(address), json.dumps([job_variables(), ssh_command()])


def borrow(address: MachineAddress) -> Connection:
    """Return a connection for the caller alone, who gives it back or closes it.

    A program keeps the one that was given back last, so that its next job need not wait for a launcher to start there.

    Raises:
        RuntimeUnavailableError: the machine cannot be reached.
    """
    with _idle_lock:
        connection = _idle.pop(_key(address), None)
    if connection is not None:
        try:
            connection.ask("hello", variables=job_variables())
        except LauncherError:  # it was cut meanwhile
            connection.close()
        else:
            return connection
    return Connection(address)


def give_back(connection: Connection) -> None:
    """Keep a connection that answers for the next who needs one."""
    with _idle_lock:
        if connection.is_open and connection.key not in _idle:
            _idle[connection.key] = connection
            return
    connection.close()


def _end_process(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


def ssh_line(address: MachineAddress, *, terminal: bool = False) -> list[str]:
    """Return the ssh client's command line up to the command that runs there.

    All connections to a machine share one that stays for a minute, as ssh's own ControlMaster does it.

    Args:
        terminal: whether the command there gets one.
    """
    options = {"ConnectTimeout": str(_CONNECT_SECONDS), "ServerAliveInterval": "15", "ServerAliveCountMax": "3"}
    if sockets := _socket_folder():
        options |= {"ControlMaster": "auto", "ControlPersist": "60", "ControlPath": f"{sockets}/%C"}
    if not os.isatty(2):
        options["BatchMode"] = "yes"  # nobody is there to be asked for a password
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return [*ssh_command(), *given, "-t" if terminal else "-T", *_port(address), address.destination]


def inside_command(facts: dict[str, Any], arguments: Sequence[str]) -> str:
    """Return what runs a command of the launcher there, as a shell's line."""
    variables = [f"PYTHONPATH={facts['code']}", f"LAUNCHER_HOME={facts['home']}"]
    return shlex.join(["env", *variables, facts["python"], "-m", "launcher", *arguments])


def _port(address: MachineAddress) -> list[str]:
    return ["-p", str(address.port)] if address.port else []


def _socket_folder() -> Path | None:
    """Return the caller's private folder for ssh's sockets; None where there can be none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime, "launcher-ssh") if runtime else Path(tempfile.gettempdir(), f"launcher-ssh-{os.getuid()}")
    if len(os.fsencode(folder)) > _LONGEST_SOCKET:
        return None
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if private else None


def _text(file: IO[bytes]) -> str:
    """Return the last words of what a process printed."""
    try:
        file.seek(0)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except ValueError:  # it is closed
        return ""
    return " ".join(lines[-4:])[-600:]


def _name_of(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
