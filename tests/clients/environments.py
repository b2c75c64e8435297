"""Environments of other Python packages, made once on a machine and used again.

``sagemaker-2.txt`` and ``sagemaker-3.txt`` name every package with its version, as pip's resolver chose them, so that
making one takes half a minute or a minute and no resolving. None of them has torch.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
LAUNCHER = [sys.executable, "-m", "launcher"]


def client_python(name: str) -> str:
    """Return the interpreter of an environment with the packages of ``NAME.txt``; a changed list makes a new one."""
    packages = (FOLDER / f"{name}.txt").read_bytes()
    digest = hashlib.sha256(sys.version.encode() + packages).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sagemaker-launcher", "clients")
    folder = cache / f"{name}-{digest}"
    python, made = folder / "bin" / "python", folder / ".made"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile")
            requirements = FOLDER / f"{name}.txt"
            subprocess.run([python, "-m", "pip", "install", *options, "--requirement", requirements], check=True)
            made.touch()
    return str(python)


@dataclass
class Reports:
    """What a program reported, by section; ``ending`` says how it ended."""

    ending: str
    sections: dict[str, dict]

    def __getitem__(self, section: str) -> dict:
        if section not in self.sections:
            raise AssertionError(f"the program did not come as far as '{section}': {self.ending}")
        return self.sections[section]


def run_program(command: list[str], home: Path, seconds: float = 900) -> Reports:
    """Run a program by ``launcher exec`` on processes.

    A program that ends early reports the sections before; its last lines are in the failure of the test that asks for
    another.
    """
    environment = {**os.environ, "LAUNCHER_HOME": str(home), "LAUNCHER_RUNTIME": "process"}
    environment["LAUNCHER_STOP_GRACE_SECONDS"] = "5"
    answer = subprocess.run(
        [*LAUNCHER, "exec", "--", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    reports = Reports(f"exit code {answer.returncode}\n{answer.stderr[-3000:]}", {})
    for line in answer.stdout.splitlines():
        _, mark, text = line.partition("REPORT {")
        if mark:
            values = json.loads("{" + text)
            reports.sections[values.pop("section")] = values
    return reports
