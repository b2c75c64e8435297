"""Jobs that start from what another one left: as quickly as a copy is made, and with nothing of that job."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launcher import Estimator, JobFailedError
from launcher.aws import sagemaker
from launcher.aws.errors import AwsError
from launcher.cli.main import app
from launcher.jobs.store import JobStore
from launcher.running.accepting import accept
from launcher.runtimes.process import ProcessRuntime, namespaces_missing
from launcher.runtimes.warm_pools import Pools, uses_libraries
from tests.fakes import FakeRuntime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")


def wait_until(condition, complaint, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
    return result


@pytest.fixture(autouse=True)
def few_libraries(monkeypatch, home):
    """Pools that load no torch are there at once; none outlives its test."""
    if missing := namespaces_missing(home):
        pytest.skip(f"no warm pools here: {missing}")
    monkeypatch.setenv("LAUNCHER_WARM_LIBRARIES", "")
    yield
    for pool in Pools(home).all():
        Pools(home).stop(pool)


@pytest.fixture
def run(make_source, home):
    """A function that runs a script, by default with a warm pool, and returns its log and its record."""
    numbers = iter(range(1, 1000))

    def run(script, *, keep_alive=300, files=None, **options):
        name = f"job-{next(numbers)}"
        source = make_source(script, name)
        for path, text in (files or {}).items():
            Path(source, path).write_text(text)
        estimator = Estimator(
            entry_point="train.py", source_dir=source, runtime="process", keep_alive_period_in_seconds=keep_alive,
            **options,
        )  # fmt: skip
        try:
            estimator.fit(logs=False, job_name=name)
        except JobFailedError:
            assert JobStore(home).load(name).status == "Failed"
        return JobStore(home).folder(name).log_path("algo-1").read_text(), JobStore(home).load(name)

    return run


def pool_of(record):
    """Return the pool that a job's host was started from; empty where it was started by itself."""
    return record.executions["algo-1"].get("warm_pool", "")


def status(home, name):
    return sagemaker.answer("DescribeTrainingJob", {"TrainingJobName": name}, home).get("WarmPoolStatus")


def listed(home, wanted):
    answer = sagemaker.answer("ListTrainingJobs", {"WarmPoolStatusEquals": wanted, "SortBy": "Name"}, home)
    return [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]]


def test_a_job_starts_from_the_pool_of_the_job_before_and_describe_says_so(run, home):
    _, first = run("print('first')")
    assert first.warm_pool
    assert not pool_of(first)
    assert status(home, "job-1") == {"Status": "Available"}
    log, second = run("print('second')")
    assert pool_of(second) == second.warm_pool == first.warm_pool
    assert log == "second\n"
    reused = status(home, "job-1")
    assert reused["Status"] == "Reused"
    assert reused["ReusedByJob"] == "job-2"
    assert reused["ResourceRetainedBillableTimeInSeconds"] >= 0
    run("print('cold')", keep_alive=None)
    assert status(home, "job-3") is None
    assert (listed(home, "Available"), listed(home, "Reused")) == (["job-2"], ["job-1"])

    rows = json.loads(CliRunner().invoke(app, ["pool", "ls", "--json"]).stdout)
    assert [(row["name"], row["last_job"]) for row in rows] == [(first.warm_pool, "job-2")]
    assert CliRunner().invoke(app, ["pool", "stop"]).stdout == f"stopped: {first.warm_pool}\n"
    assert status(home, "job-2") == {"Status": "Terminated"}
    assert listed(home, "Terminated") == ["job-2"]
    wait_until(lambda: not Path("/proc", str(rows[0]["pid"])).exists(), "its process lives")
    assert list((home / "pools").iterdir()) == []
    assert "no warm pools" in CliRunner().invoke(app, ["pool", "ls"]).stdout


SURROUNDINGS = """
import json, os, signal, sys, tempfile, threading
numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGPIPE]
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "file": __file__, "name": __name__, "path": sys.path,
    "folder": os.getcwd(), "main": sys.modules["__main__"].__dict__ is globals(),
    "variables": {name: value for name, value in os.environ.items() if "JOB" not in name and "MODULE" not in name},
    "descriptors": {number: os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in (0, 1, 2)},
    "open": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "signals": [str(signal.getsignal(number)).partition(" at ")[0] for number in numbers],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "umask": os.umask(0o22),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) == list(range(1, os.getpid() + 1)),
    "host": os.uname().nodename, "threads": threading.active_count(), "opt_ml": sorted(os.listdir("/opt/ml")),
    "output": [os.listdir(f"/opt/ml/{folder}") for folder in ("model", "output/data", "checkpoints")],
    "temporary": os.listdir(tempfile.gettempdir()), "status": open("/proc/self/status").read().count("NoNewPrivs:\\t1"),
    "dumpable": os.stat("/proc/self/fd").st_uid, "cpus": sorted(os.sched_getaffinity(0)), "left": hasattr(os, "left"),
}))
"""
HOSTILE = """
import os, pathlib, random, signal, socket, subprocess, sys
os.left = True; os.environ["LEFT"] = "1"; os.umask(0); random.seed(1); sys.path.insert(0, "/left")
open("/opt/ml/model/left", "w").write("x"); open("/opt/ml/checkpoints/left", "w").write("x")
open(os.environ["TMPDIR"] + "/left", "w").write("x")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.pause()
for number in range(2, 40000):
    if number not in (os.getpid(), os.getppid()):
        try: os.kill(number, 0)
        except ProcessLookupError: pass
        else: number > 60 and print("reached", number)
sys.path.insert(0, RUNTIMES)
import fork_server
for name in ("socket", "light"):
    for path in pathlib.Path(POOLS).glob(f"*/{name}"):
        print(name, fork_server.ask(path, {"state": "/tmp"}, [0, 1, 2]))
"""


@pytest.mark.parametrize("library", ["", "yaml"])
def test_a_job_finds_what_it_would_find_by_itself_and_nothing_of_the_one_before(run, home, library, monkeypatch):
    """A job that imports a library of the pool is a copy of another process than one that does not."""
    monkeypatch.setenv("LAUNCHER_WARM_LIBRARIES", library)
    surroundings = SURROUNDINGS + (f"import {library}" if library else "")
    cold = json.loads(run(surroundings, keep_alive=None)[0])
    pool = run("")[1].warm_pool
    runtimes = str(Path(sys.modules[Pools.__module__].__file__).parent)
    hostile, record = run(HOSTILE.replace("RUNTIMES", repr(runtimes)).replace("POOLS", repr(str(home / "pools"))))
    assert pool_of(record) == pool
    for name in ("socket", "light"):
        assert f"{name} {{'refused': 'it has namespaces of its own'}}" in hostile
    assert "reached" not in hostile
    log, record = run(surroundings)
    assert pool_of(record) == pool
    warm = json.loads(log)

    def plain(values):  # a job's name is in its folders
        return json.loads(json.dumps(values).replace("job-4", "job-1"))

    assert plain(warm) == cold


def test_chance_is_new_in_every_job(run):
    script = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    run("")
    (text, first), (later, second) = run(script), run(script)
    assert pool_of(first) == pool_of(second) != ""
    assert not set(text.split()) & set(later.split())


ENDINGS = {
    "a code": "import sys; sys.exit(3)",
    "a text": "import sys; sys.exit('no data')",
    "an error": "def f():\n    raise ValueError('no transitions')\nf()",
    "an interruption": "raise KeyboardInterrupt",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "no Python": "x = (",
    "at the end": (
        "import atexit, threading, time; atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
        "file = open('/opt/ml/output/data/log', 'w'); file.write('written when the interpreter ends'); print('end')"
    ),
}


def test_a_script_ends_as_it_does_by_itself(run, home):
    run("")
    for name, script in ENDINGS.items():
        cold_log, cold = run(script, keep_alive=None)
        warm_log, warm = run(script)
        assert pool_of(warm), name
        assert (warm.status, warm.exit_codes, warm.failure_reason) == (
            cold.status,
            cold.exit_codes,
            cold.failure_reason,
        )
        assert warm_log == cold_log, name
    outputs = [path.stat().st_size for path in sorted((home / "jobs").glob("*/output/output.tar.gz"))]
    assert len(outputs) == 2
    assert outputs[0] == pytest.approx(outputs[1], abs=8)


def test_what_would_be_another_process_is_started_by_itself(run, monkeypatch):
    """Another kind of job, other variables of interpreters and libraries, and modules that hide loaded ones."""
    monkeypatch.setenv("LAUNCHER_WARM_POOLS", "9")
    pool = run("")[1].warm_pool
    for options in (
        {"instance_type": "ml.m5.large"},
        {"environment": {"OMP_NUM_THREADS": "1"}},
        {"role": "arn:aws:iam::000000000000:role/other"},
        {"requirements": "pip"},
    ):
        files = {"requirements.txt": "# nothing\n"} if options.pop("requirements", "") else None
        _, record = run("", keep_alive=30, files=files, **options)
        assert not pool_of(record), options
        assert record.warm_pool != pool, options
    log, record = run("import shlex; print(shlex.OWN)", files={"shlex.py": "OWN = 'mine'"})
    assert pool_of(record) == pool
    assert "shlex of the job is another than what is loaded" in log
    assert "own" not in log


def test_a_pool_ends_by_itself_when_its_time_is_over(run, home):
    run("", keep_alive=1)
    wait_until(lambda: not list((home / "pools").iterdir()), "it stayed")
    assert status(home, "job-1") == {"Status": "Terminated"}
    assert not pool_of(run("", keep_alive=300)[1])
    with pytest.raises(AwsError, match="no warm pool that is available"):
        update(home, "job-1", 60)
    update(home, "job-2", 0)
    assert status(home, "job-2") == {"Status": "Terminated"}


def update(home, name, seconds):
    request = {"TrainingJobName": name, "ResourceConfig": {"KeepAlivePeriodInSeconds": seconds}}
    return sagemaker.answer("UpdateTrainingJob", request, home)


def test_jobs_outlive_a_pool_that_is_killed_and_the_next_makes_another(run, home, make_source):
    pool = run("")[1].warm_pool
    source = make_source("import time; print('begun', flush=True); time.sleep(1.5); print('ended')", "long")
    estimator = Estimator(
        entry_point="train.py", source_dir=source, runtime="process", keep_alive_period_in_seconds=300
    )  # fmt: skip
    estimator.fit(wait=False, job_name="long")
    log = JobStore(home).folder("long").log_path("algo-1")
    wait_until(lambda: log.exists() and "begun" in log.read_text(), "it did not begin")
    assert status(home, "long") == {"Status": "InUse"}
    assert listed(home, "InUse") == ["long"]
    os.kill(Pools(home).find(pool).pid, signal.SIGKILL)
    wait_until(lambda: JobStore(home).load("long").terminal, "it did not end")
    record = JobStore(home).load("long")
    assert (record.status, pool_of(record), log.read_text()) == ("Completed", pool, "begun\nended\n")
    assert Pools(home).find(record.warm_pool) is not None  # made anew when the job ended
    assert ProcessRuntime().leftovers(str(home)) == []


def processes_of(pool):
    """Return the processes of a pool, as its command line names it, that are no copies for a job."""
    own = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(pool.path).encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                own.append(int(folder.name))
    return own


@pytest.mark.parametrize("killed", ["with libraries", "without"])
def test_of_the_two_processes_of_a_pool_none_outlives_the_other(run, home, killed):
    pool = Pools(home).find(run("")[1].warm_pool)
    assert pool_of(run("")[1]) == pool.name  # it is up
    processes = processes_of(pool)
    assert len(processes) == 2
    (other,) = set(processes) - {pool.pid}
    os.kill(pool.pid if killed == "with libraries" else other, signal.SIGKILL)
    wait_until(lambda: not processes_of(pool), "one is left")
    assert Pools(home).find(pool.name) is None
    assert not pool_of(run("")[1])


def test_a_pool_stays_while_a_job_that_uses_no_library_runs(run, home, make_source):
    pool = Pools(home).find(run("")[1].warm_pool)
    source = make_source("import time; time.sleep(2.5); print('slept', flush=True); time.sleep(60)", "long")
    estimator = Estimator(entry_point="train.py", source_dir=source, runtime="process", keep_alive_period_in_seconds=1)
    job = estimator.submit(job_name="long")
    job.detach()
    wait_until(lambda: "slept" in job.logs(), "it did not begin")
    assert pool_of(JobStore(home).load("long")) == pool.name
    assert Pools(home).find(pool.name).pid == pool.pid
    job.stop()


@pytest.mark.parametrize(
    ("files", "uses"),
    [
        ({"train.py": ""}, False),
        ({"train.py": "import os, sys\nfrom json import dumps, loads\nimport own.part as part, helper"}, False),
        ({"train.py": "from . import near\nfrom job_toolkit.environment import read_environment"}, False),
        ({"train.py": "import os, scipy.stats as stats"}, True),
        ({"train.py": "def f():\n    from sklearn import svm"}, True),
        ({"train.py": "import importlib; importlib.import_module('tor' + 'ch')"}, False),
        ({"train.py": "__import__('torch')"}, True),
        ({"train.py": "import helper", "own/part.py": "import pandas"}, True),
        ({f"module_{number}.py": "" for number in range(200)}, True),
        ({"train.py": "#" * (2 << 20)}, True),
    ],
)
def test_a_source_uses_libraries_where_it_imports_or_names_any(tmp_path, monkeypatch, files, uses):
    """A guess: a library that is not seen is imported by the job as ever."""
    monkeypatch.setenv("LAUNCHER_WARM_LIBRARIES", "torch")
    for path, text in {"own/__init__.py": "", "helper.py": "", **files}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert uses_libraries(tmp_path) == uses


def test_there_are_no_more_pools_than_allowed(run, home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_WARM_POOLS", "1")
    first = run("")[1].warm_pool
    second = run("", environment={"OMP_NUM_THREADS": "1"})[1].warm_pool
    assert [pool.name for pool in Pools(home).all()] == [second] != [first]
    monkeypatch.setenv("LAUNCHER_WARM_POOLS", "0")
    record = run("", environment={"OMP_NUM_THREADS": "2"})[1]
    assert not record.warm_pool
    assert record.warnings == ["no warm pool is kept: LAUNCHER_WARM_POOLS is 0"]


def test_no_pool_is_kept_where_jobs_could_reach_it(run, home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    record = run("")[1]
    assert not record.warm_pool
    assert "a job can reach the pool's process" in record.warnings[0]
    assert Pools(home).all() == []


def test_a_runtime_without_pools_says_why(home):
    request = {
        "TrainingJobName": "job-1",
        "RoleArn": "arn:aws:iam::000000000000:role/any",
        "AlgorithmSpecification": {"TrainingImage": "any:1", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": f"file://{home}/out"},
        "ResourceConfig": {
            **{"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "KeepAlivePeriodInSeconds": 60,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    warnings = accept(request, FakeRuntime()).warnings
    assert warnings == ("KeepAlivePeriodInSeconds keeps no warm pool here: this runtime keeps nothing after a job",)


def test_ten_jobs_in_a_row_leave_nothing_in_the_pools_process(run, home):
    """benchmarks/warm_pools.py runs a thousand."""
    pool = Pools(home).find(run("")[1].warm_pool)
    assert pool_of(run("")[1]) == pool.name  # it is up
    processes = processes_of(pool)

    def state():
        folders = [Path("/proc", str(pid)) for pid in processes]
        children = {
            int(pid) for folder in folders for pid in (folder / "task" / folder.name / "children").read_text().split()
        }
        counts = [len(list((folder / name).iterdir())) for folder in folders for name in ("fd", "task")]
        return children <= {*processes} and counts

    before = None
    for _ in range(10):
        assert pool_of(run("x = bytearray(10 << 20)")[1]) == pool.name
        before = before or wait_until(state, "copies are left")
    wait_until(lambda: state() == before, "it has changed")


@pytest.mark.slow
def test_torch_is_loaded_before_the_script_begins_and_computes_as_ever(run, monkeypatch):
    monkeypatch.delenv("LAUNCHER_WARM_LIBRARIES")
    script = (
        "import sys; loaded = 'torch' in sys.modules; import torch, numpy\n"
        "chance = torch.initial_seed(), numpy.random.random(); torch.manual_seed(1)\n"
        "layer = torch.nn.Linear(64, 64); optimizer = torch.optim.Adam(layer.parameters())\n"
        "for _ in range(5): optimizer.zero_grad(); layer(torch.rand(256, 64)).square().mean().backward(); "
        "optimizer.step()\n"
        "print(loaded, *chance, torch.get_num_threads(), layer.weight.double().sum().item())"
    )
    logs = [run(script, instance_type="ml.c5.xlarge")[0].split() for _ in range(3)]
    assert [log[0] for log in logs] == ["False", "True", "True"]
    assert len({log[1] for log in logs}) == len({log[2] for log in logs}) == 3
    assert logs[0][3:] == logs[1][3:] == logs[2][3:]
