"""What a job's hosts use is measured while it runs, kept beside its log, and added up in its record."""

import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import launcher
from launcher.cli.main import app
from launcher.jobs.store import JobStore
from launcher.jobs.usage import UsageSample, append_samples, latest_samples, read_samples
from launcher.runtimes.usage import tree_usage

# Half a second of one CPU, 64 MiB of memory, 2 MiB on the disk; then until the test has seen it.
BUSY = """
import os, pathlib, time
block = bytearray(64 << 20)
block[:: 4096] = b"1" * len(block[:: 4096])
pathlib.Path(os.environ["SM_MODEL_DIR"], "weights").write_bytes(os.urandom(2 << 20))
while time.process_time() < 0.5:
    pass
print("busy no more", flush=True)
deadline = time.monotonic() + 60
while not pathlib.Path("/opt/ml/output/intermediate/seen").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
"""


def sample(host="algo-1", **values):
    numbers = dict.fromkeys(("cpu_percent", "memory_percent", "disk_percent", "cpu_seconds"), 1.0)
    numbers |= dict.fromkeys(("memory_bytes", "memory_peak_bytes", "disk_bytes"), 1)
    return UsageSample(**({"time": 1.0, "host": host, **numbers} | values))


def command(*words):
    """Run a command of the launcher in this process; return what it printed."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_samples_are_read_as_they_were_written_and_lines_cut_short_are_passed_over(tmp_path):
    path = tmp_path / "usage.jsonl"
    append_samples(path, [sample(), sample("algo-10"), sample("algo-2")])
    with path.open("a") as file:
        file.write('{"time": 2.0, "host"\n[]\n{"time": 2.0}\n')
    append_samples(path, [sample(time=3.0)])
    with path.open("a") as file:
        file.write(json.dumps(vars(sample(time=4.0))))  # its end is not written yet
    assert read_samples(path) == [sample(), sample("algo-10"), sample("algo-2"), sample(time=3.0)]
    assert list(latest_samples(path)) == ["algo-1", "algo-2", "algo-10"]
    assert latest_samples(path)["algo-1"].time == 3.0
    assert read_samples(tmp_path / "none") == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts so")
def test_a_tree_counts_its_processes_those_that_have_ended_and_shared_memory_once(tmp_path):
    """Two processes share 64 MiB that one of them has filled; a third has spent CPU time and ended."""
    program = tmp_path / "tree.py"
    program.write_text(
        "import os, subprocess, sys, time\n"
        "spend = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "subprocess.run([sys.executable, '-c', spend])\n"
        "block = bytearray(64 << 20)\n"
        "block[:: 4096] = b'1' * len(block[:: 4096])\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(writer), os.read(reader, 1), os._exit(0)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", sys.executable, str(program)]
    with subprocess.Popen(root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        usage = tree_usage(process.pid)
        process.stdin.close()
    assert usage.cpu_seconds >= 0.29
    assert 64 << 20 <= usage.memory_bytes < 120 << 20
    assert usage.memory_peak_bytes >= 64 << 20
    assert tree_usage(process.pid) is None


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_job_has_numbers_while_it_runs_and_totals_in_its_record(runtime, home, make_source):
    job = launcher.Estimator(entry_point="train.py", source_dir=make_source(BUSY), runtime=runtime)
    job.fit(wait=False)
    name = job.latest_training_job.name
    folder = JobStore(home).folder(name)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        samples = read_samples(folder.usage_path)
        if samples and samples[-1].cpu_seconds >= 0.5 and samples[-1].disk_bytes >= 2 << 20:
            break
        time.sleep(0.1)
    shown = json.loads(command("top", "latest", "--json"))
    assert command("top", "latest").split()[:2] == ["HOST", "CPU"]
    (folder.tree_path("algo-1") / "output" / "intermediate" / "seen").touch()
    job.latest_training_job.wait(logs=False)
    last = samples[-1]
    assert shown["hosts"][0]["host"] == "algo-1"
    assert shown["hosts"][0]["memory_bytes"] >= 64 << 20
    assert last.host == "algo-1"
    assert abs(last.time - time.time()) < 60
    assert 64 << 20 <= last.memory_bytes < 400 << 20
    assert last.memory_peak_bytes >= last.memory_bytes
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert last.memory_percent == pytest.approx(100 * last.memory_bytes / total, abs=0.01)
    assert last.disk_percent == pytest.approx(100 * last.disk_bytes / (30 << 30), abs=0.01)
    assert max(sample.cpu_percent for sample in samples) > 5
    usage = JobStore(home).load(name).usage["algo-1"]
    assert usage["cpu_seconds"] >= last.cpu_seconds
    assert usage["memory_peak_bytes"] >= last.memory_peak_bytes
    assert usage["disk_bytes"] >= 2 << 20
    assert json.loads(command("top", name, "--json")) == {
        "job": name,
        "status": "Completed",
        "hosts": [],
        "totals": {"algo-1": usage},
    }
    assert f"{name}: Completed, in all:" in command("top", name)


def test_a_job_too_short_for_a_sample_has_its_totals_from_the_system(home, make_source):
    script = "import time\nblock = bytearray(32 << 20)\nblock[:: 4096] = b'1' * len(block[:: 4096])\n"
    job = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="process")
    job.fit(logs=False)
    usage = JobStore(home).load(job.latest_training_job.name).usage["algo-1"]
    assert usage["cpu_seconds"] > 0
    assert usage["memory_peak_bytes"] > 32 << 20


def test_watch_tells_each_change_of_a_status_until_the_jobs_have_ended(home, make_source, tmp_path):
    assert CliRunner().invoke(app, ["watch"]).output == "no job runs\n"
    for name, script in (("good", "import time; time.sleep(1)"), ("bad", "raise SystemExit(3)")):
        estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script, name), runtime="process")
        estimator.fit(wait=False, job_name=name)
    result = CliRunner().invoke(app, ["watch", "good", "bad"])
    assert result.exit_code == 1, result.output
    told = [tuple(line.split()[1:]) for line in result.output.splitlines()]
    assert {("good", "Completed"), ("bad", "Failed")} <= set(told)
    assert len(told) == len(set(told))
    assert CliRunner().invoke(app, ["watch", "good"]).exit_code == 0
