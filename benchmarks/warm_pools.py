"""Warm pools: how soon a job begins, and whether a thousand in a row leave anything.

python benchmarks/warm_pools.py 1000     jobs in a row from one pool: its descriptors, threads, children and memory
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from engine import EngineMissingError, engine_for
from measuring import Aim, Row, interleave

from launcher import Estimator
from launcher.jobs.store import JobStore
from launcher.runtimes.warm_pools import Pools, WarmPool

_KEEP_ALIVE_SECONDS = 600
_LOADING_SECONDS = 120
_FIRST_LINE = """
import time, torch
torch.optim.Adam(torch.nn.Linear(4, 2).parameters())
print(time.time())
"""


def warm_rows(scratch: Path, home: Path, runs: int) -> list[Row]:
    """Return how long a do-nothing job takes against a container's cycle, and when torch is ready in a job."""
    empty, first_line = _script(scratch, "empty", ""), _script(scratch, "first-line", _FIRST_LINE)
    _job(empty, _KEEP_ALIVE_SECONDS)
    _wait_until_loaded(home)
    begun: dict[int, list[float]] = {0: [], _KEEP_ALIVE_SECONDS: []}
    for _ in range(max(3, min(runs, 7))):
        for keep_alive, times in begun.items():
            times.append(_milliseconds_to_first_line(home, first_line, keep_alive))
    rows = [
        Row(
            "warm",
            "from submit() to torch and an optimizer in a job, warm against cold",
            floor=begun[0],
            ours=begun[_KEEP_ALIVE_SECONDS],
            aims=(Aim("ours", 60),),
        )
    ]
    title = "do-nothing job, process, warm pool, against docker-py's container"
    try:
        with engine_for(home) as engine:
            actions = {
                "floor": lambda: engine.cycle(engine.tiny_image, ["train"]),
                "ours": lambda: _job(empty, _KEEP_ALIVE_SECONDS),
                "cold": lambda: _job(empty, 0),
            }
            times = interleave(actions, runs)
            rows += [
                Row("warm", title, floor=times["floor"], ours=times["ours"], aims=(Aim("ratio", 0.3),)),
                Row("warm", "... without a pool", floor=times["floor"], ours=times["cold"]),
            ]
    except EngineMissingError as error:
        rows.append(Row("warm", title, skipped=str(error)))
    for pool in Pools(home).all():
        Pools(home).stop(pool)
    return rows


def _script(scratch: Path, name: str, text: str) -> Path:
    path = scratch / name / "train.py"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def _job(script: Path, keep_alive_seconds: int) -> str:
    """Run a job to its end; return its name."""
    estimator = Estimator(
        entry_point=str(script), runtime="process", keep_alive_period_in_seconds=keep_alive_seconds or None
    )
    job = estimator.submit()
    job.wait(logs=False)
    return job.name


def _milliseconds_to_first_line(home: Path, script: Path, keep_alive_seconds: int) -> float:
    began = time.time()
    name = _job(script, keep_alive_seconds)
    return (float(JobStore(home).folder(name).log_path("algo-1").read_text().split()[-1]) - began) * 1000


def _wait_until_loaded(home: Path) -> WarmPool:
    """Wait until the one pool answers at once, and return it."""
    (pool,) = Pools(home).all()
    deadline = time.monotonic() + _LOADING_SECONDS
    while _processor_seconds(pool) != (before := _processor_seconds(pool)) or before < 0.1:
        time.sleep(0.5)
        if _processor_seconds(pool) == before:
            return pool
        if time.monotonic() > deadline:
            raise TimeoutError("the pool does not load its libraries")
    return pool


def _processor_seconds(pool: WarmPool) -> float:
    fields = Path(f"/proc/{pool.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _state(pool: WarmPool) -> dict[str, int]:
    folder = Path(f"/proc/{pool.pid}")
    memory = next(line for line in (folder / "smaps_rollup").read_text().splitlines() if line.startswith("Private_D"))
    return {
        "descriptors": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
        "children": len((folder / "task" / str(pool.pid) / "children").read_text().split()),
        "own KiB": int(memory.split()[1]),
    }


def _in_a_row(count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch, "home")
        os.environ |= {"LAUNCHER_HOME": str(home)}
        script = _script(Path(scratch), "empty", "")
        _job(script, _KEEP_ALIVE_SECONDS)
        pool, times = _wait_until_loaded(home), []
        for number in range(1, count + 1):
            began = time.perf_counter()
            name = _job(script, _KEEP_ALIVE_SECONDS)
            times.append((time.perf_counter() - began) * 1000)
            record = JobStore(home).load(name)
            if record.status != "Completed" or record.executions["algo-1"].get("warm_pool") != pool.name:
                raise RuntimeError(f"{name}: {record.status}, {record.warnings}")
            if number in (10, count) or number % 100 == 0:
                time.sleep(1)  # copies are buried when the process looks next
                print(f"{number} jobs: {_state(pool)}, median {statistics.median(times):.0f} ms", flush=True)
        left = [path for path in (home / "jobs").glob("*/work") if path.exists()]
        Pools(home).stop(pool)
        print(f"working folders left: {len(left)}; pools left: {len(list((home / 'pools').iterdir()))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="of jobs")
    _in_a_row(parser.parse_args().count)
