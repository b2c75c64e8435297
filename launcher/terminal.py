"""Lines of a job's log on a terminal."""

from __future__ import annotations

import sys


def print_line(host: str, line: str, hosts: int = 1) -> None:
    """Print one line of a job's log, with its host when there are several, and no control sequence but colours."""
    prefix = f"{host} | " if hosts > 1 else ""
    sys.stdout.write(prefix + neutralised(line) + "\n")
    sys.stdout.flush()


def neutralised(line: str) -> str:
    """Return a log line that cannot move a terminal's cursor or change its title; of a progress bar, its last state."""
    if line.isprintable():
        return line
    last = line.rsplit("\r", 1)[-1]
    parts = last.split("\x1b")
    safe = [parts[0]]
    for part in parts[1:]:
        end = part.find("m")
        colour = part.startswith("[") and end > 0 and all(one.isdigit() or one == ";" for one in part[1:end])
        safe.append(f"\x1b{part}" if colour else f"^[{part}")
    return "".join(
        one if one.isprintable() or one in "\t\x1b" else "\N{REPLACEMENT CHARACTER}" for one in "".join(safe)
    )
