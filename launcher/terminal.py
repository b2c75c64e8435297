"""Prints text for users; an error of the terminal never becomes an error of the job."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


class _SafeCharacters(dict[int, str]):
    """The printable form of each character, made when it is first looked up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if character.isprintable() or character in "\t\x1b" else "\N{REPLACEMENT CHARACTER}"
        return self[code]


_SAFE = _SafeCharacters()


def print_line(host: str, line: str, hosts: int = 1) -> None:
    """Print one line of a job's log, with its host when there are several, and no control sequence but colours.

    Raises:
        OSError: standard output is closed, or cannot be written.
    """
    prefix = f"{host} | " if hosts > 1 else ""
    print(_encodable(prefix + neutralised(line), sys.stdout), flush=True)


def say(text: str) -> None:
    """Print to standard output; a closed one is no error."""
    _tell(text, sys.stdout)


def say_error(text: str) -> None:
    """Print to standard error; a closed one is no error."""
    _tell(text, sys.stderr)


def say_from_signal(text: str) -> None:
    """Print to standard error from a signal handler, where the stream may be in use at this moment."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def neutralised(line: str, *, colours: bool = True) -> str:
    """Return a log line that cannot move a terminal's cursor or change its title; of a progress bar, its last state."""
    if line.isprintable():
        return line
    last = line.rsplit("\r", 1)[-1]
    parts = last.split("\x1b")
    safe = [parts[0]]
    for part in parts[1:]:
        end = part.find("m")
        colour = colours and part.startswith("[") and end > 0 and set(part[1:end]) <= set("0123456789;")
        safe.append(f"\x1b{part}" if colour else f"^[{part}")
    return "".join(safe).translate(_SAFE)


def neutralised_text(text: str, *, colours: bool = True) -> str:
    """Return text of several lines, each of them neutralised."""
    return "\n".join(neutralised(line.rstrip("\r"), colours=colours) for line in text.split("\n"))


def open_standard_streams() -> None:
    """Make standard streams safe to use for a command line, whatever its caller did to them.

    A closed stream is opened on the null device: its number would go to the next file that is opened. A character
    that the encoding lacks is replaced.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def abandon_broken_streams() -> None:
    """Discard what a broken stream still holds, or the interpreter would end with another error."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def _tell(text: str, stream: TextIO | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(_encodable(neutralised_text(text), stream), file=stream, flush=True)


def _encodable(text: str, stream: TextIO | None) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
