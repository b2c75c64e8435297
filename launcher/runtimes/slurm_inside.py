"""Runs a command beside a host of a Slurm job, on its node: ``python -m launcher.runtimes.slurm_inside STATE COMMAND``.

The words after the host's state folder are the command, whose streams are this process's own. With ``--lines`` before
it, what the command prints comes as lines of base64: Slurm keeps back what ends in no line. With a file before it, that
gets the exit code, and this process ends with 0: srun has words of its own for any other code.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from launcher.jobs.spec import OPT_ML
from launcher.runtimes.process import ProcessExecution

LINES = "--lines"


def main(state_path: Path, words: list[str]) -> int:
    """Run the command, and return what this process ends with."""
    (first, *rest), code_path = words, state_path / words[0]
    command, environment = _inside(state_path, rest)
    if first != LINES:
        code = subprocess.run(command, env=environment, check=False).returncode
        code_path.write_text(str(code if code >= 0 else 128 - code), encoding="ascii")
        return 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 15):
            sys.stdout.buffer.write(base64.b64encode(data) + b"\n")
            sys.stdout.buffer.flush()
    return process.returncode


def _inside(state_path: Path, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return what runs a command in the host's container, or in its namespaces; and the environment for that."""
    request = json.loads((state_path / "request.json").read_text(encoding="utf-8"))
    if "container" not in request:
        return ProcessExecution(state_path).inside(command)
    values = request["container"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "LAUNCHER_"))}
    is_terminal = os.isatty(0) and os.isatty(1)
    options = ["--interactive", *(["--tty", f"--env=TERM={os.environ.get('TERM', 'xterm')}"] if is_terminal else [])]
    if any(mount["target"] == f"{OPT_ML}/code" for mount in request["mounts"]):
        options.append(f"--workdir={OPT_ML}/code")
    return [*values["engine"], "--log-level=error", "exec", *options, values["name"], *command], environment


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
