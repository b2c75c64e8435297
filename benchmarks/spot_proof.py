"""Whether a training that is interrupted and killed at random ends as one that ran through: byte by byte.

    python benchmarks/spot_proof.py --seeds 200
    python benchmarks/spot_proof.py --seeds 5 --first-seed 40 --runtime docker

A seed decides after which epochs the job's hosts are told to go (SIGTERM, the grace, SIGKILL), are taken away without
a word, or the process that drives the job is killed: two to six such events a run. Every seed is printed. Needs the
launcher with the extras of the bundled entry points, as ``make setup`` installs them.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import launcher
from launcher.jobs.record import JobRecord
from launcher.jobs.store import JobStore
from launcher.sdk.bundled import bundled_estimator, bundled_inputs
from launcher.settings import home_path

_PRESET = "preset-cartpole-ddqnbcq"
_METRICS = "worker_0.batch_rl_graph.main_level.main_level.agent_0.csv"
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_SMALL = {"agent.hidden_sizes": "[16]", "agent.members": 2, "agent.batch_size": 16, "improve_steps": 30}


def main() -> int:
    """Run the seeds; return 0 if every run was the same as the one that ran through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    options = parser.parse_args()
    same = 0
    with tempfile.TemporaryDirectory(prefix="launcher-spot-") as folder:
        os.environ |= {"LAUNCHER_HOME": f"{folder}/home", "LAUNCHER_RUNTIME": options.runtime}
        os.environ |= {"LAUNCHER_STOP_GRACE_SECONDS": "10", "SOURCE_DATE_EPOCH": "0"}  # archives without times
        data = launcher.fit(
            "preset-cartpole-random",
            entry_point="collect.py",
            hyperparameters={"num_envs": 20},
            environment=_ONE_THREAD,
            logs=False,
        ).outputs.data_path
        through = _result(
            launcher.fit(_PRESET, {"train": data}, hyperparameters=_SMALL, environment=_ONE_THREAD, logs=False)
        )
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            record, driver_kills, host_kills, result = _interrupted(seed, data, f"{folder}/ck-{seed}")
            reasons = [attempt["reason"] for attempt in record.attempts]
            equal = result == through
            same += equal
            print(
                f"seed {seed}: {'the same' if equal else 'DIFFERENT'}, {record.status}, "
                f"{reasons.count('Interrupted')} interruptions, {host_kills} hosts and {driver_kills} drivers killed"
                + (f": {record.failure_reason} {record.warnings}" if record.failure_reason else ""),
                flush=True,
            )
    print(f"{same} of {options.seeds} are the same, in the metric file and in model.tar.gz")
    return 0 if same == options.seeds else 1


def _interrupted(seed: int, data: Path, checkpoints: str) -> tuple[JobRecord, int, int, tuple[bytes, bytes]]:
    """Run a training with what its seed does to it; return its record, how often what was killed, and its result."""
    chance = random.Random(seed)
    epochs = sorted(chance.sample(range(1, _SMALL["improve_steps"] - 1), chance.randint(2, 6)))
    events = [(epoch, chance.choice(("interruption", "driver", "host"))) for epoch in epochs]
    estimator = bundled_estimator(
        _PRESET,
        hyperparameters=_SMALL,
        environment=_ONE_THREAD,
        checkpoint_s3_uri=checkpoints,
        use_spot_instances=True,
        max_wait=86400,
        max_retry_attempts=30,
        spot_interruptions=[f"at-line:Epoch={epoch}," for epoch, kind in events if kind == "interruption"],
    )
    job = estimator.submit(bundled_inputs("train.py", {"train": data}), f"seed-{seed}")
    store, drivers, hosts = JobStore(home_path()), 0, 0
    command = [sys.executable, "-m", "launcher", "drive", job.name, "--kind", "jobs"]
    driver = subprocess.Popen(command)
    for epoch, kind in events:
        if kind == "interruption":
            continue
        while f"Epoch={epoch}," not in job.logs() and driver.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        if kind == "host":
            hosts += _take_away(store, job.name)
        elif driver.poll() is None:
            driver.kill()
            driver.wait()
            drivers += 1
            time.sleep(chance.uniform(0, 0.5))
            driver = subprocess.Popen(command)
    driver.wait()
    return store.load(job.name), drivers, hosts, _result(job)


def _take_away(store: JobStore, name: str) -> int:
    """Remove a job's host as a platform does that loses a machine; return how many there were."""
    record = store.load(name)
    count = 0
    for reference in record.executions.values():
        if "pid" in reference:
            try:
                os.kill(reference["pid"], 9)
                count += 1
            except ProcessLookupError:
                continue
        else:
            removed = subprocess.run(["docker", "rm", "-f", reference["container"]], capture_output=True, check=False)
            count += removed.returncode == 0
    return count


def _result(job: launcher.TrainingJob) -> tuple[bytes, bytes]:
    if job.status != "Completed":
        return b"", b""
    metrics = (job.outputs.intermediate_path / _METRICS).read_bytes()
    return metrics, Path(job.model_data.removeprefix("file://")).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
