"""Jobs of several hosts: until the last one runs, until a failure has ended all, and learning over 1, 2 and 4."""

from __future__ import annotations

import csv
import itertools
import math
import time
from pathlib import Path

from measuring import Aim, Row

import launcher
from launcher.runtimes.probe import engine_answers

_HOSTS = 8
_UP_AIMS = {"process": Aim("ours", 1000), "docker": Aim("ours", 4000)}
_END_AIM = Aim("ours", 5000)
_LEARNING_AIM = Aim("ours", 1e-3)
_SAYS_WHEN = "import time; print('up', time.time(), flush=True)\n"
# The last host fails when all of them run; the others would go on for long.
_FAILS = """\
import os, time
print("up", time.time(), flush=True)
if os.environ["SM_CURRENT_HOST"] == "algo-8":
    time.sleep(2)
    print("failed", time.time(), flush=True)
    raise SystemExit(3)
time.sleep(600)
"""
_METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
_NUMBERS = itertools.count()


def host_rows(scratch: Path, runs: int) -> list[Row]:
    """Hosts that come up, that end with a failing one, and that learn together."""
    rows = []
    for runtime, aim in _UP_AIMS.items():
        titles = f"{_HOSTS} hosts are up, {runtime}", f"... until a failing one has ended the job, {runtime}"
        if runtime == "docker" and not engine_answers():
            rows += [Row("hosts", title, skipped="no Docker engine answers") for title in titles]
            continue
        times = [_until_up(scratch, runtime) for _ in range(min(runs, 5))]
        rows.append(Row("hosts", titles[0], ours=times, aims=(aim,)))
        rows.append(Row("hosts", titles[1], ours=[_until_ended(scratch, runtime)], aims=(_END_AIM,)))
    return [*rows, *_learning_rows(scratch)]


def _estimator(scratch: Path, script: str, runtime: str, hosts: int) -> launcher.Estimator:
    folder = scratch / f"hosts-{next(_NUMBERS)}"
    folder.mkdir()
    (folder / "train.py").write_text(script, encoding="utf-8")
    return launcher.Estimator(
        entry_point="train.py", source_dir=str(folder), runtime=runtime, instance_count=hosts, mode="local"
    )


def _last_moment(job: launcher.TrainingJob, word: str) -> float:
    logs = [path.read_text(encoding="utf-8") for path in job.path.glob("job*.log")]
    lines = [line.split() for log in logs for line in log.splitlines() if line.startswith(word)]
    return max(float(line[1]) for line in lines)


def _until_up(scratch: Path, runtime: str) -> float:
    """Return the milliseconds from ``submit`` to the first line of the last host's script."""
    estimator = _estimator(scratch, _SAYS_WHEN, runtime, _HOSTS)
    begun = time.time()
    estimator.submit().wait(logs=False)
    return (_last_moment(estimator.latest_training_job, "up") - begun) * 1000


def _until_ended(scratch: Path, runtime: str) -> float:
    """Return the milliseconds from the failure of a host to the end of the job; it has to be the one that is named."""
    job = _estimator(scratch, _FAILS, runtime, _HOSTS).submit()
    try:
        job.wait(logs=False)
    except launcher.JobFailedError as error:
        ended = time.time()
        if f"algo-{_HOSTS}" not in str(error):
            raise RuntimeError(f"another host is named: {error}") from error
        return (ended - _last_moment(job, "failed")) * 1000
    raise RuntimeError("the job did not fail")


def _learning_rows(scratch: Path) -> list[Row]:
    """The whole default training on 1, 2 and 4 hosts: the largest relative difference of the metric files."""
    options = {"logs": False, "runtime": "process"}
    collected = launcher.fit("preset-cartpole-random", entry_point="collect.py", **options)
    tables, seconds = {}, {}
    for hosts in (1, 2, 4):
        begun = time.monotonic()
        job = launcher.fit(
            "preset-cartpole-ddqnbcq",
            {"train": collected.outputs.data_path},
            instance_count=hosts,
            distribution={"torch_distributed": {"enabled": hosts > 1}},
            **options,
        )
        seconds[hosts] = time.monotonic() - begun
        with (job.outputs.intermediate_path / _METRICS).open(encoding="utf-8", newline="") as file:
            tables[hosts] = list(csv.DictReader(file))
    note = ", ".join(f"{hosts}: {value:.1f} s" for hosts, value in seconds.items())
    return [
        Row(
            "hosts",
            f"learning over {hosts} hosts: largest relative difference of WIS, loss and gradients",
            unit="",
            ours=[_largest_difference(tables[1], tables[hosts])],
            aims=(_LEARNING_AIM,),
            note=f"The whole training on one machine by number of hosts: {note}." if hosts == 4 else "",
        )
        for hosts in (2, 4)
    ]


def _largest_difference(alone: list[dict[str, str]], together: list[dict[str, str]]) -> float:
    names = ("Weighted Importance Sampling", "Loss/Mean", "Grads (unclipped)/Mean", "Q/Mean")
    pairs = [
        (float(ours[name]), float(theirs[name])) for ours, theirs in zip(together, alone, strict=True) for name in names
    ]
    return max(abs(ours - theirs) / max(abs(theirs), 1e-6) for ours, theirs in pairs if math.isfinite(theirs))
