"""A do-nothing job on a Slurm cluster against a bare sbatch of the same script.

The cluster is the one that Slurm's commands find here; where there is none, the one of the tests, on this machine.

    python benchmarks/slurm_jobs.py 15
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import Aim, Row, interleave, markdown_table

from launcher import Estimator

_AIM = Aim("ratio", 1.2)
_POLL_SECONDS = 0.001


def slurm_rows(scratch: Path, runs: int) -> list[Row]:
    """From the submission to the end, the results in their places where there are any."""
    titles = "do-nothing job, Slurm, against sbatch of the script", "... against sbatch and srun of the script"
    with _cluster() as problem:
        if problem:
            return [Row("slurm", title, skipped=problem) for title in titles]
        script = scratch / "train.py"
        script.write_text("", encoding="utf-8")
        times = interleave(
            {
                "sbatch": lambda: _bare(scratch, f"{sys.executable} {script}"),
                "srun": lambda: _bare(scratch, f"srun {sys.executable} {script}"),
                "ours": lambda: _job(script),
            },
            runs,
        )
    return [
        Row("slurm", title, floor=times[name], ours=times["ours"], aims=(_AIM,))
        for title, name in zip(titles, ("sbatch", "srun"), strict=True)
    ]


def _bare(scratch: Path, command: str) -> None:
    """Submit a command and wait for the file that the script makes last: nothing that asks Slurm is as quick."""
    ended = scratch / "ended"
    ended.unlink(missing_ok=True)
    script = f"#!/bin/sh\n{command}\ntouch {ended}\n"
    options = ["--parsable", "--output=/dev/null", "--time=4"]
    subprocess.run(["sbatch", *options], input=script, text=True, check=True, capture_output=True)
    while not ended.exists():
        time.sleep(_POLL_SECONDS)


def _job(script: Path) -> None:
    Estimator(entry_point=str(script), runtime="slurm", max_run=60).fit(logs=False)


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """Have a cluster; yield why there is none, or nothing."""
    with contextlib.suppress(OSError):
        if subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
            yield ""
            return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.slurm_cluster import Cluster, missing_programs

    sys.path.pop(0)
    if missing := missing_programs():
        yield f"no {', '.join(missing)} here (Debian: slurm-wlm, munge)"
    elif os.geteuid() != 0:
        yield "a cluster of this machine alone takes root"
    else:
        with Cluster.running() as cluster:
            os.environ |= cluster.environment
            yield ""
            for name in cluster.environment:
                del os.environ[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAUNCHER_HOME"] = f"{folder}/home"
        print(markdown_table(slurm_rows(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 15)))
