"""Measure the launcher, each row against its floor in the same run: ``make bench``, or ``python benchmarks/run.py``."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aws_endpoint import aws_rows
from aws_mode import aws_mode_rows
from commands import demo_rows, import_rows
from data import data_rows
from endpoints import endpoint_rows
from hosts import host_rows
from job_lists import list_rows
from learning import learning_rows
from measuring import Row, markdown_table
from model_artifact import artifact_rows
from noop_jobs import channel_rows, docker_rows, process_rows
from object_store import storage_rows
from off_policy_evaluation import ope_rows
from s3_transfer import s3_rows
from serving import serving_rows
from slurm_jobs import slurm_rows
from transform import transform_rows
from warm_pools import warm_rows

import launcher
from launcher.runtimes.probe import engine_answers

_FOLDER = Path(__file__).resolve().parent
_RESULTS = _FOLDER / "results" / "latest.json"
_README = _FOLDER / "README.md"
_BEGIN, _END = "<!-- figures: written by run.py --update-readme -->", "<!-- end of figures -->"
_GROUPS = (
    "docker",
    "process",
    "channel",
    "artifact",
    "import",
    "demo",
    "data",
    "learning",
    "ope",
    "storage",
    "s3",
    "serving",
    "endpoints",
    "transform",
    "aws",
    "aws-mode",
    "warm",
    "hosts",
    "lists",
    "slurm",
)


def main() -> int:
    """Run the chosen rows; print the table, write the results file."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as folder:
        scratch = Path(folder).resolve()
        home = scratch / "home"
        home.mkdir()
        _use_only(home)
        measures: dict[str, Callable[[], list[Row]]] = {
            "docker": lambda: docker_rows(scratch, home, options.runs),
            "process": lambda: process_rows(scratch, options.runs),
            "channel": lambda: channel_rows(scratch, home, options.runs, options.size_mib),
            "artifact": lambda: artifact_rows(scratch, home, options.runs, options.size_mib),
            "import": lambda: import_rows(options.runs),
            "demo": demo_rows,
            "data": lambda: data_rows(scratch, options.runs),
            "learning": lambda: learning_rows(options.runs),
            "ope": lambda: ope_rows(scratch, options.runs),
            "storage": lambda: storage_rows(scratch, options.runs, options.size_mib),
            "s3": lambda: s3_rows(scratch, home, options.runs, options.size_mib),
            "serving": lambda: serving_rows(scratch, options.runs),
            "endpoints": lambda: endpoint_rows(scratch, options.runs),
            "transform": lambda: transform_rows(scratch, options.runs),
            "aws": lambda: aws_rows(scratch, home, options.runs),
            "aws-mode": lambda: aws_mode_rows(scratch, options.runs),
            "warm": lambda: warm_rows(scratch, home, options.runs),
            "hosts": lambda: host_rows(scratch, options.runs),
            "lists": lambda: list_rows(scratch, options.runs),
            "slurm": lambda: slurm_rows(scratch, options.runs),
        }
        rows: list[Row] = []
        for group in options.only or _GROUPS:
            print(f"measuring: {group}", file=sys.stderr, flush=True)
            rows += measures[group]()
    machine = _describe_machine()
    text = _report(rows, machine, options)
    print(text)
    _RESULTS.parent.mkdir(exist_ok=True)
    result = {"machine": machine, "options": vars(options), "rows": [row.to_dict() for row in rows]}
    _RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nEvery value: {_RESULTS}")
    if options.update_readme:
        before, _, rest = _README.read_text(encoding="utf-8").partition(_BEGIN)
        _README.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="ROW", action="append", choices=_GROUPS, help=f"one of {', '.join(_GROUPS)}")
    parser.add_argument("--runs", metavar="N", type=int, default=15, help="of each short action (%(default)s)")
    parser.add_argument("--size-mib", type=int, default=1024, help="of the channel and the model (%(default)s)")
    parser.add_argument("--update-readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args()
    if options.runs < 1 or options.size_mib < 2:
        parser.error("--runs begins at 1, --size-mib at 2")
    return options


def _use_only(home: Path) -> None:
    """Keep jobs in a folder of this run, and leave out settings of the user that would change what is measured."""
    for name in ("LAUNCHER_RUNTIME", "LAUNCHER_NAMESPACES", "LAUNCHER_STOP_GRACE_SECONDS"):
        os.environ.pop(name, None)
    # Installed packages are compiled; a checkout that may not be would be compiled again by each process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(launcher.__file__).parent, quiet=2)
    os.environ["LAUNCHER_HOME"] = str(home)
    package_parent = str(Path(launcher.__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))


def _describe_machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    engine = "none"
    if engine_answers():
        from engine import Engine

        engine = Engine().version
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": f"{os.cpu_count()} x {cpu}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "docker engine": engine,
        "launcher": f"{launcher.__version__}, commit {_commit()}",
    }


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=_FOLDER, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _report(rows: list[Row], machine: dict[str, str], options: argparse.Namespace) -> str:
    lines = [", ".join(f"{name}: {value}" for name, value in machine.items()) + "."]
    lines += [f"Runs: {options.runs}, best / median.", "", markdown_table(rows)]
    notes = [f"- {row.title}: {row.note}" for row in rows if row.note]
    return "\n".join(lines + ([""] if notes else []) + notes)


if __name__ == "__main__":
    sys.exit(main())
