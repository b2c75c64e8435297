"""What a person waits for at the shell: imports, ``--help``, the demo."""

from __future__ import annotations

import subprocess
import sys
import time

from measuring import Aim, Row, interleave


def import_rows(runs: int) -> list[Row]:
    """Start Python and do nothing, import the launcher, ask it for help."""
    python = [sys.executable, "-c"]
    times = interleave(
        {
            "floor": lambda: _run([*python, "pass"]),
            "import": lambda: _run([*python, "import launcher"]),
            "estimator": lambda: _run([*python, "from launcher import Estimator"]),
            "help": lambda: _run([sys.executable, "-m", "launcher", "--help"]),
        },
        runs,
    )
    floor = times["floor"]
    return [
        Row(
            "import",
            "import launcher, against python",
            floor=floor,
            ours=times["import"],
            aims=(Aim("difference", 150),),
        ),
        Row("import", "from launcher import Estimator, against python", floor=floor, ours=times["estimator"]),
        Row("import", "launcher --help, against python", floor=floor, ours=times["help"]),
    ]


def demo_rows() -> list[Row]:
    """Run the demo once, on the process runtime."""
    started = time.perf_counter()
    _run([sys.executable, "-m", "launcher", "demo", "--runtime", "process"])
    seconds = time.perf_counter() - started
    return [Row("demo", "launcher demo, process", unit="s", ours=[seconds], aims=(Aim("ours", 60),))]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
