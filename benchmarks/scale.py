"""Thousands of jobs through one store, on a runtime that runs nothing: what the launcher itself costs.

    python benchmarks/scale.py                       all sizes, then the pictures of docs/scale.md
    python benchmarks/scale.py --sizes 1 10 100      some sizes
    python benchmarks/scale.py --constants           what one record, list, line, sync and request costs

Each size runs in a process of its own: N jobs are submitted, then driven by at most ``--drivers`` threads at once, as a
tuning job drives its training jobs. Half of them end by themselves with a model, half are stopped. The runtime is given
in the process (the seam ``Runtime``); its hosts are objects, so that everything that is measured is the launcher's.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from launcher.jobs.index import list_entries
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.metrics import MetricRecorder
from launcher.jobs.spec import ContainerSpec, MetricDefinition
from launcher.jobs.store import JobStore
from launcher.requests.describe import describe_record
from launcher.running.accepting import submit
from launcher.running.driving import drive_in_thread
from launcher.running.following import LogReader
from launcher.running.signals import Interrupts
from launcher.running.spawner import _LOADED
from launcher.running.syncing import FolderSync
from launcher.runtimes import Execution, HostState, Runtime, open_log
from launcher.storage import recorded_storage

SIZES = (1, 10, 100, 1_000, 10_000)
HOSTS = (1, 2, 4)
DRIVERS = 20
_LINES = 10
_FOLLOWED, _FOLLOWING_SECONDS = 20, 5.0
_LOG_LINES, _SYNCED = 200_000, 1_000
CURVES = {
    "submit_cpu_ms_per_job": "submit a job: ms of CPU",
    "drive_cpu_ms_per_job": "drive, stop or collect it: ms of CPU",
    "page_ms_in_progress": "a page of 20, all in progress: ms of CPU",
    "page_ms_ended": "a page of 20, all ended: ms of CPU",
    "rss_mib": "memory of the process: MiB",
    "descriptors": "open files, at most",
}
"""What is drawn, with its title."""

RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"


class SimulatedHost(Execution):
    """A host that is an object: it prints its lines at once, and ends when it is told to, or by itself."""

    def __init__(self, container: ContainerSpec, *, goes_on: bool) -> None:
        self._ended = threading.Event()
        self._code = 0
        if not goes_on:
            (Path(container.tree_path) / "model" / "weights").write_text("1")
            self._ended.set()

    @property
    def reference(self) -> dict[str, Any]:
        return {"runtime": "simulated"}

    def state(self) -> HostState:
        return HostState.ENDED if self._ended.is_set() else HostState.RUNNING

    def wait(self, timeout_seconds: float) -> int | None:
        return self._code if self._ended.wait(timeout_seconds) else None

    def terminate(self) -> None:
        self._code = 143
        self._ended.set()

    def kill(self) -> None:
        self._ended.set()

    def remove(self) -> None:
        self._ended.set()


class SimulatedRuntime(Runtime):
    """Starts objects in place of processes.

    Args:
        goes_on: says of a job's name whether it runs until it is stopped.
    """

    name = "simulated"
    network_interface = "lo"
    host_address = "127.0.0.1"

    def __init__(self, goes_on: Callable[[str], bool]) -> None:
        self._goes_on = goes_on
        self.going_on: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._hosts: dict[tuple[str, str], SimulatedHost] = {}

    def check(self, container: ContainerSpec) -> None:
        """Everything can be run."""

    def describe_image(self, container: ContainerSpec) -> str:
        return "none"

    def prepare(self, container: ContainerSpec) -> None:
        """Nothing to prepare."""

    def start(self, container: ContainerSpec) -> Execution:
        with open_log(container) as log:
            log.write(b"".join(b"loss=%d\n" % line for line in range(_LINES)))
        goes_on = self._goes_on(container.job_name)
        host = SimulatedHost(container, goes_on=goes_on)
        self._hosts[container.job_name, container.host] = host
        if goes_on and container.host == container.hosts[-1]:
            self.going_on.put(container.job_name)
        return host

    def find(self, container: ContainerSpec) -> Execution | None:
        return self._hosts.get((container.job_name, container.host))

    def close(self, containers: Sequence[ContainerSpec]) -> None:
        for container in containers:
            self._hosts.pop((container.job_name, container.host), None)


def request_of(name: str, channel: Path, results: Path, hosts: int) -> dict[str, Any]:
    """Return a request with a channel, ten hyperparameters, a metric and an image."""
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/launcher",
        "AlgorithmSpecification": {
            "TrainingImage": "simulated",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9]+)"}],
        },
        "HyperParameters": {f"parameter_{index}": "0.001" for index in range(10)},
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"file://{channel}"}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"file://{results}"},
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": hosts, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
    }


class Usage(threading.Thread):
    """Notes the most memory, descriptors and threads of this process, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.descriptors = self.threads = 0
        self.rss_bytes = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.look()

    def look(self) -> None:
        """Look once."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss_bytes = max(self.rss_bytes, pages * resource.getpagesize())
        self.descriptors = max(self.descriptors, len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - as it is now
        self.threads = max(self.threads, threading.active_count())


def simulate(home: Path, jobs: int, hosts: int, drivers: int) -> dict[str, float]:
    """Submit, drive, list, stop and collect jobs; return what it took.

    Args:
        home: an empty folder.
        jobs: how many.
        hosts: of each.
        drivers: how many jobs are driven at once; the others wait with their record alone.
    """
    os.environ |= {"LAUNCHER_HOME": str(home), "LAUNCHER_JOBS_AT_ONCE": "all", "LAUNCHER_STOP_GRACE_SECONDS": "5"}
    channel = home.parent / "channel"
    channel.mkdir(exist_ok=True)
    (channel / "log.csv").write_text("1\n")
    store = JobStore(home)
    names = [f"job-{number:05d}" for number in range(jobs)]
    to_stop = set(names[1::2])
    runtime = SimulatedRuntime(to_stop.__contains__)
    usage = Usage()
    usage.look()
    before = usage.rss_bytes
    usage.start()
    figures: dict[str, float] = {"jobs": jobs, "hosts": hosts, "drivers": min(drivers, jobs)}

    began, cpu = time.perf_counter(), time.process_time()
    for name in names:
        submit(request_of(name, channel, home.parent / "results", hosts), store, runtime)
    figures["submit_ms_per_job"] = 1000 * (time.perf_counter() - began) / jobs
    figures["submit_cpu_ms_per_job"] = 1000 * (time.process_time() - cpu) / jobs
    figures |= _lists(home, jobs, "in_progress")

    began, cpu = time.perf_counter(), time.process_time()
    _drive_all(store, names, runtime, drivers)
    figures["drive_ms_per_job"] = 1000 * (time.perf_counter() - began) / jobs
    figures["drive_cpu_ms_per_job"] = 1000 * (time.process_time() - cpu) / jobs
    figures |= _lists(home, jobs, "ended")

    usage.look()
    usage.ended.set()
    statuses = dict.fromkeys(("Completed", "Stopped"), 0)
    for entry in list_entries(home, [TRAINING_JOBS]).entries:
        statuses[entry.status] = statuses.get(entry.status, 0) + 1
    wanted = {"Completed": jobs - len(to_stop), "Stopped": len(to_stop)}
    if statuses != wanted:
        raise AssertionError(f"the jobs ended as {statuses}, and not as {wanted}")
    models = sum((home.parent / "results" / name / "output" / "model.tar.gz").exists() for name in names)
    if models != wanted["Completed"]:
        raise AssertionError(f"{models} models were collected, and not {wanted['Completed']}")
    files = [path for path in home.rglob("*") if path.is_file()]
    return figures | {
        "rss_mib": usage.rss_bytes / 2**20,
        "rss_growth_kib_per_job": (usage.rss_bytes - before) / 1024 / jobs,
        "descriptors": usage.descriptors,
        "threads": usage.threads,
        "files_per_job": len(files) / jobs,
        "disk_kib_per_job": sum(path.stat().st_blocks * 512 for path in files) / 1024 / jobs,
    }


def _drive_all(store: JobStore, names: Sequence[str], runtime: SimulatedRuntime, drivers: int) -> None:
    """Drive all jobs by so many threads; a job that goes on is stopped as soon as its hosts run."""
    left, errors, lock = iter(names), list[BaseException](), threading.Lock()

    def stop() -> None:
        while (name := runtime.going_on.get()) is not None:
            store.folder(name).request_stop()

    def work() -> None:
        while True:
            with lock:
                name = next(left, None)
            if name is None:
                return
            try:
                drive_in_thread(store, name, runtime, Interrupts())
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

    stopping = threading.Thread(target=stop)
    threads = [threading.Thread(target=work) for _ in range(min(drivers, len(names)))]
    for thread in (stopping, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    runtime.going_on.put(None)
    stopping.join()
    if errors:
        raise errors[0]


def _lists(home: Path, jobs: int, moment: str) -> dict[str, float]:
    """Time a first list, a page of it after that, and a description, in CPU time: others may use the machine."""
    store, name = JobStore(home), f"job-{jobs // 2:05d}"
    return {
        f"first_list_ms_{moment}": _timed(lambda: list_entries(home, [TRAINING_JOBS])),
        f"page_ms_{moment}": min(_timed(lambda: list_entries(home, [TRAINING_JOBS], limit=20)) for _ in range(5)),
        f"describe_ms_{moment}": min(_timed(lambda: describe_record(store.load(name))) for _ in range(5)),
    }


def _timed(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return 1000 * (time.process_time() - began)


def constants(home: Path) -> dict[str, float]:
    """Return what single steps cost, in CPU time where it is not said otherwise."""
    os.environ |= {"LAUNCHER_HOME": str(home), "LAUNCHER_JOBS_AT_ONCE": "all", "LAUNCHER_STOP_GRACE_SECONDS": "5"}
    channel = home.parent / "channel"
    channel.mkdir()
    (channel / "log.csv").write_text("1\n")
    store, runtime = JobStore(home), SimulatedRuntime(lambda _name: True)
    names = [f"job-{number:05d}" for number in range(_FOLLOWED)]
    for name in names:
        submit(request_of(name, channel, home.parent / "results", 1), store, runtime)
    record = store.load(names[0])
    figures = {"write a record (ms)": _timed(lambda: [store.save(names[0], record) for _ in range(200)]) / 200}
    figures["read a record (ms)"] = _timed(lambda: [store.load(names[0]) for _ in range(200)]) / 200

    threads = [threading.Thread(target=drive_in_thread, args=(store, name, runtime, Interrupts())) for name in names]
    for thread in threads:
        thread.start()
    for _ in names:
        runtime.going_on.get()
    time.sleep(2)
    cpu, began = time.process_time(), time.perf_counter()
    time.sleep(_FOLLOWING_SECONDS)
    spent, seconds = time.process_time() - cpu, time.perf_counter() - began
    figures["follow a job that prints nothing (ms of CPU a second)"] = 1000 * spent / seconds / len(names)
    for name in names:
        store.folder(name).request_stop()
    for thread in threads:
        thread.join()

    folder = store.folder(names[0])
    folder.log_path("algo-1").write_bytes(
        b"".join(b"epoch %d loss=0.5 and more words\n" % n for n in range(_LOG_LINES))
    )
    recorder = MetricRecorder((MetricDefinition("loss", "loss=([0-9.]+)"),), home / "metrics.jsonl")
    lines = LogReader(folder, lambda _host, line: recorder.feed(line, 0.0))
    figures["log lines a second, with a metric in each"] = 1000 * _LOG_LINES / _timed(lines.read)
    plain = LogReader(folder, lambda _host, line: None)
    figures["log lines a second, without"] = 1000 * _LOG_LINES / _timed(plain.read)

    tree = home / "tree"
    (tree / "output").mkdir(parents=True)
    for number in range(_SYNCED):
        (tree / "output" / f"file-{number:05d}").write_text("1")
    place = f"file://{home}/place"
    sync = FolderSync("files", [("algo-1", tree)], "output", recorded_storage(place, None), place)
    figures[f"first sync of {_SYNCED:,} files (ms)"] = _timed(sync.run)
    figures[f"a sync that finds {_SYNCED:,} files unchanged (ms)"] = min(_timed(sync.run) for _ in range(3))
    return figures | _driver_memory()


def _driver_memory() -> dict[str, float]:
    """Return the memory that a driver has to itself: as an interpreter, and as a copy of one that has loaded all."""
    program = """if True:
        import gc, os, sys
        from importlib import import_module
        for name in {names!r}:
            import_module(name)
        def own():
            fields = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup") if line.endswith("kB\\n"))
            return int(fields["Private_Clean:"]) + int(fields["Private_Dirty:"])
        print(own(), flush=True)
        gc.freeze()
        if not os.fork():
            print(own(), flush=True)
            os._exit(0)
        os.wait()
    """.format(names=[name for name in _LOADED if "docker" not in name])
    alone, copied = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
    return {
        "memory of a driver (MiB)": int(alone) / 1024,
        "memory of a driver that is a copy (MiB)": int(copied) / 1024,
    }


def measure(jobs: int, hosts: int, drivers: int) -> dict[str, float]:
    """Simulate in a process of its own, whose memory is only that of these jobs."""
    with tempfile.TemporaryDirectory(prefix="launcher-scale-") as folder:
        command = [sys.executable, __file__, "--one", folder, str(jobs), str(hosts), str(drivers)]
        process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
        return figures


def draw(measured: Sequence[dict[str, float]], folder: Path) -> None:
    """Draw time, memory and descriptors over the number of jobs, and over the hosts of a job.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    of_jobs = sorted((entry for entry in measured if entry["hosts"] == 1), key=lambda entry: entry["jobs"])
    size = max((entry["jobs"] for entry in measured if entry["hosts"] > 1), default=0)
    of_hosts = sorted((entry for entry in measured if entry["jobs"] == size), key=lambda entry: entry["hosts"])
    for name, key, entries in (("jobs", "jobs", of_jobs), ("hosts", "hosts", of_hosts)):
        if not entries:
            continue
        figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.2), layout="constrained")
        for axis, (value, title) in zip(axes.flat, CURVES.items(), strict=True):
            axis.plot([entry[key] for entry in entries], [entry[value] for entry in entries], marker="o")
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("jobs" if key == "jobs" else f"hosts of each of {size:,.0f} jobs", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.3)
            if key == "jobs":
                axis.set_xscale("log")
            if key == "jobs" and value.startswith("page"):
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
        figure.savefig(folder / f"scale-{name}.png", dpi=90)
        pyplot.close(figure)


def main() -> int:
    """Measure the sizes; add the figures to those of earlier runs, and draw the pictures of docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--hosts", type=int, nargs="+", default=list(HOSTS))
    parser.add_argument("--drivers", type=int, default=DRIVERS)
    parser.add_argument("--constants", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, *numbers = options.one
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(json.dumps(simulate(Path(folder).resolve() / "home", *map(int, numbers))))
        return 0
    if options.constants:
        with tempfile.TemporaryDirectory(prefix="launcher-scale-") as scratch:
            for name, value in constants(Path(scratch).resolve() / "home").items():
                print(f"{name}: {value:,.3g}" if value < 1000 else f"{name}: {value:,.0f}")
        return 0
    runs = [(size, 1) for size in options.sizes]
    runs += [(100, hosts) for hosts in options.hosts if hosts > 1]
    RESULTS.parent.mkdir(exist_ok=True)
    measured = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for jobs, hosts in runs:
        figures = measure(jobs, hosts, options.drivers)
        print("  ".join(f"{name}={value:.4g}" for name, value in figures.items()), flush=True)
        measured = [entry for entry in measured if (entry["jobs"], entry["hosts"]) != (jobs, hosts)] + [figures]
        RESULTS.write_text(json.dumps(measured, indent=1))
    draw(measured, PICTURES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
