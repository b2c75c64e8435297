"""Runs a command in the namespaces of a job process, with the rights that the job has.

Started as a script with the standard library alone: ``python -I -S entering.py PROCESS FOLDER COMMAND...``. The process
is one within the namespaces, or any process where the job has none; the folder is where the command begins. The
environment is the job's.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_NAMESPACES = ("user", "mnt", "uts", "net", "pid")  # the first one gives the right to enter the others
CANNOT_ENTER = 125


def main(process: int, folder: str, command: list[str]) -> NoReturn:
    """Enter, run, and end as the command ends; 125 says that the system does not allow it, 127 that it is not there."""
    sys.path.insert(0, str(Path(__file__).parent))
    supervisor = import_module("supervisor")  # a script beside this one
    sys.path.pop(0)
    try:
        _enter(process, supervisor)
        child = os.fork()  # a process is never moved to another PID namespace: what it starts is there
        if child == 0:
            supervisor._give_up_rights()
            _execute(folder, command)
    except OSError as error:
        os.write(2, f"launcher: the system does not let you into the job: {error}\n".encode())
        os._exit(CANNOT_ENTER)
    for number in (signal.SIGINT, signal.SIGQUIT):  # of a terminal: they are meant for the command
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(child, number))
    os._exit(supervisor._exit_code(os.waitpid(child, 0)[1]))


def _enter(process: int, supervisor: object) -> None:
    libc = supervisor._libc  # type: ignore[attr-defined]
    call = supervisor._call  # type: ignore[attr-defined]
    own = Path("/proc/self/ns")
    opened = []
    for name in _NAMESPACES:
        path = Path(f"/proc/{process}/ns/{name}")
        if path.readlink() != (own / name).readlink():
            opened.append((name, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
    for name, descriptor in opened:
        call(f"setns {name}", libc.setns(descriptor, 0))
        os.close(descriptor)


def _execute(folder: str, command: list[str]) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"launcher: {command[0]}: {error.strerror}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
