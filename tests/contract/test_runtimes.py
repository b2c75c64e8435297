"""One job, the same result: whatever a job can see, leave or suffer does not depend on the runtime that ran it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import launcher
from launcher import errors
from launcher.jobs.store import JobStore
from launcher.runtimes.process import networks_missing
from tests.fakes import FakeRuntime
from tests.shell import launcher_environment

_ONE_ON_SLURM = pytest.param("slurm", marks=pytest.mark.whole)  # two hosts show the same, and the queue takes a while
RUNTIMES = [
    *("fake", "process", "process-without-namespaces"),
    pytest.param("docker", marks=pytest.mark.docker),
    _ONE_ON_SLURM,
]
# By ssh, as another user of this machine; tests/launcher/elsewhere has the sample of the quick suite.
ELSEWHERE = [pytest.param(name, marks=pytest.mark.whole) for name in ("elsewhere", "elsewhere-2")]
# The same on two hosts: what a job can see, leave or suffer does not depend on how many there are either.
TWO_HOSTS = ["fake-2", "process-2", pytest.param("docker-2", marks=pytest.mark.docker), "slurm-2"]
REAL_RUNTIMES = [
    "process",
    "process-2",
    _ONE_ON_SLURM,
    "slurm-2",
    *(pytest.param(name, marks=pytest.mark.docker) for name in ("docker", "docker-2")),
]

WRITES_EVERYTHING = """
import os, pathlib
if os.environ["SM_CURRENT_HOST"] != "algo-1":
    raise SystemExit(0)  # as on SageMaker, the first of several hosts writes the model
model, data = pathlib.Path(os.environ["SM_MODEL_DIR"]), pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"])
(model / "deep").mkdir()
(model / "weights.bin").write_bytes(b"12345")
(model / "deep" / "config.json").write_text("{}")
(data / "checkpoint").mkdir()
(data / "checkpoint" / "latest").write_text("1")
(pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"]) / "worker_0.csv").write_text("Epoch,Loss\\n1,0.5\\n")
print("loss=0.25;")
print("loss=0.125;")
"""


class On(NamedTuple):
    """Where a job runs: on what, and on how many hosts."""

    runtime: str | FakeRuntime
    hosts: int = 1

    @property
    def options(self):
        return {"runtime": self.runtime, "instance_count": self.hosts}


@pytest.fixture(params=[*RUNTIMES, *TWO_HOSTS, *ELSEWHERE])
def runtime(request, monkeypatch):
    return _on(request, monkeypatch)


@pytest.fixture(params=[*TWO_HOSTS, ELSEWHERE[1]])
def two_hosts(request, monkeypatch):
    return _on(request, monkeypatch)


@pytest.fixture(params=[*REAL_RUNTIMES, *ELSEWHERE])
def real_runtime(request, monkeypatch):
    return _on(request, monkeypatch)


def _on(request, monkeypatch):
    name = request.param.removesuffix("-2")
    if name == "slurm":
        request.getfixturevalue("slurm")
    if name == "elsewhere":
        request.getfixturevalue("box")
        return On("process", 1 if name == request.param else 2)
    return _named(request.param, monkeypatch)


def _named(parameter, monkeypatch):
    name = parameter.removesuffix("-2")
    return On(_runtime(name, monkeypatch), 1 if name == parameter else 2)


def _runtime(name, monkeypatch):
    if name == "process-without-namespaces":
        monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
        return "process"
    return FakeRuntime() if name == "fake" else name


@pytest.fixture
def run_script(make_source):
    """Run a script as a job; return the job, whether or not it failed."""

    def run(script, runtime, inputs=None, job_name="job-1", **options):
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(textwrap.dedent(script)), **runtime.options, **options
        )
        try:
            estimator.fit(inputs, logs=False, job_name=job_name)
        except launcher.JobFailedError as error:
            estimator.latest_training_job.error = error
        return estimator.latest_training_job

    return run


def members(uri):
    with tarfile.open(uri.removeprefix("file://")) as archive:
        return archive.getnames()


def each_hosts(name, runtime):
    """Return where a file is in an archive that every host of a job has left in one place."""
    return [name, f"algo-2/{name}"][: runtime.hosts]


def files_below(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_job_leaves_the_managed_keys_and_nothing_else(runtime, run_script):
    job = run_script(WRITES_EVERYTHING, runtime)
    assert job.status == "Completed"
    left = files_below(job.path)
    assert [name for name in left if name != "usage.jsonl"] == [  # a job that is over at once has no sample
        "driver.lock",
        "environment.json",
        *(["job.algo-2.log"] if runtime.hosts == 2 else []),
        "job.json",
        "job.log",
        "job.log.times",
        "output/intermediate/worker_0.csv",
        "output/model.tar.gz",
        "output/output.tar.gz",
        "source/sourcedir.tar.gz",
    ]
    assert members(job.keys.model) == ["deep", "deep/config.json", "weights.bin"]
    assert members(job.keys.output) == ["checkpoint", "checkpoint/latest"]
    assert members(job.keys.source) == ["train.py"]
    assert not (job.path / "work").exists()


def test_a_job_passes_through_the_documented_states(runtime, run_script):
    description = run_script(WRITES_EVERYTHING, runtime).describe()
    states = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    if runtime.runtime == "slurm":  # whose queue every job passes through
        states.remove("Pending")
    assert states == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def test_metric_definitions_find_the_last_value_in_the_log(runtime, run_script):
    definitions = [{"Name": "loss", "Regex": "loss=(.*?);"}]
    job = run_script(WRITES_EVERYTHING, runtime, metric_definitions=definitions)
    assert [(metric["MetricName"], metric["Value"]) for metric in job.describe()["FinalMetricDataList"]] == [
        ("loss", 0.125)
    ]


def test_results_go_below_the_output_path_that_was_asked_for(runtime, run_script, tmp_path):
    job = run_script(WRITES_EVERYTHING, runtime, output_path=str(tmp_path / "results"))
    assert files_below(tmp_path / "results") == [
        "job-1/output/intermediate/worker_0.csv",
        "job-1/output/model.tar.gz",
        "job-1/output/output.tar.gz",
        "job-1/source/sourcedir.tar.gz",
    ]
    assert job.model_data == f"file://{tmp_path}/results/job-1/output/model.tar.gz"


def test_a_script_that_raises_fails_the_job_and_names_the_error(runtime, run_script):
    job = run_script("raise ValueError('no transitions')", runtime)
    assert job.status == "Failed"
    assert job.failure_reason.startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 1\n")
    assert 'ErrorMessage "ValueError: no transitions"' in job.failure_reason
    assert job.failure_reason.endswith(", exit code: 1")
    assert job.error.exit_code_of_job == 1
    assert "train.py exited with 1" in str(job.error)
    assert "raise ValueError('no transitions')" in str(job.error), "the last lines of the log belong to the error"


def test_what_a_failed_job_had_written_is_kept(runtime, run_script):
    job = run_script(WRITES_EVERYTHING + "\nraise SystemExit(3)", runtime)
    assert job.status == "Failed"
    assert job.error.exit_code_of_job == 3
    assert "weights.bin" in members(job.keys.model)


def test_the_failure_file_of_the_job_is_its_failure_reason(runtime, run_script):
    script = """
    import os, pathlib, sys
    (pathlib.Path(os.environ["SM_OUTPUT_DIR"]) / "failure").write_text("the data is too small" + "!" * 2000)
    sys.exit(7)
    """
    job = run_script(script, runtime)
    assert job.failure_reason.startswith("AlgorithmError: the data is too small!!!")
    assert job.failure_reason.endswith("!, exit code: 7")
    assert len(job.failure_reason) == 1024


def test_a_killed_script_counts_as_failed_and_nobody_guesses_why(runtime, run_script):
    job = run_script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", runtime)
    assert job.status == "Failed"
    assert job.error.exit_code_of_job == 137
    assert "SIGKILL (signal 9), which the platform did not send" in job.failure_reason
    assert "emory" not in job.failure_reason


def test_hyperparameters_arrive_unharmed(runtime, run_script):
    hostile = {
        "newline": "a\nb",
        "quotes": "'\"`",
        "shell": "$(touch /tmp/hacked) ${HOME} ; rm -rf /",
        "unicode": "größe 数 🎲",
        "padded": "007",
        "number": 1e-3,
        "flag": False,
        "empty": "",
        "dash": "--x",
    }
    script = """
    import json, os, pathlib
    from job_toolkit.environment import read_environment
    values = read_environment().hyperparameters
    (pathlib.Path(os.environ["SM_MODEL_DIR"]) / "seen.json").write_text(json.dumps(values))
    """
    job = run_script(script, runtime, hyperparameters=hostile)
    assert json.loads((job.outputs.model_path / "seen.json").read_text()) == hostile


def test_an_empty_variable_reaches_the_job(runtime, run_script):
    job = run_script("import os; print(repr(os.environ.get('EMPTY')))", runtime, environment={"EMPTY": ""})
    assert "''" in job.logs().splitlines()


def test_the_configuration_has_every_key_that_sagemaker_writes(runtime, run_script, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1")
    script = """
    import os, pathlib, shutil
    shutil.copytree(os.environ["SM_INPUT_CONFIG_DIR"], pathlib.Path(os.environ["SM_MODEL_DIR"]) / "config")
    """
    inputs = {"train": launcher.TrainingInput(str(tmp_path / "rows"), content_type="text/csv")}
    job = run_script(script, runtime, inputs, instance_type="ml.m5.large", hyperparameters={"a": 1})
    config = job.outputs.model_path / "config"
    resources = json.loads((config / "resourceconfig.json").read_text())
    assert list(resources) == [
        "current_host",
        "current_instance_type",
        "current_group_name",
        "hosts",
        "instance_groups",
        "network_interface_name",
    ]
    assert resources["current_host"] == "algo-1"
    assert resources["hosts"] == ["algo-1", "algo-2"][: runtime.hosts]
    assert resources["current_instance_type"] == "ml.m5.large"
    assert json.loads((config / "inputdataconfig.json").read_text()) == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    hyperparameters = json.loads((config / "hyperparameters.json").read_text())
    assert hyperparameters["a"] == "1"
    assert hyperparameters["sagemaker_program"] == '"train.py"'
    assert all(isinstance(value, str) for value in hyperparameters.values())


def test_a_channel_is_a_folder_with_what_was_named(runtime, run_script, tmp_path):
    """A folder keeps its sub-folders; a file comes alone, without its neighbours."""
    (tmp_path / "log:s, 1" / "deep").mkdir(parents=True)
    for name in ("log:s, 1/a.csv", "log:s, 1/deep/b.csv", "one.csv", "neighbour.csv"):
        (tmp_path / name).write_text(name)
    script = """
    import json, os, pathlib
    found = {}
    for name in ("train", "test"):
        root = pathlib.Path(os.environ["SM_CHANNEL_" + name.upper()])
        found[name] = sorted([str(p.relative_to(root)), p.read_text()] for p in root.rglob("*") if p.is_file())
    (pathlib.Path(os.environ["SM_MODEL_DIR"]) / "found.json").write_text(json.dumps(found))
    """
    job = run_script(script, runtime, {"train": str(tmp_path / "log:s, 1"), "test": f"file://{tmp_path}/one.csv"})
    assert json.loads((job.outputs.model_path / "found.json").read_text()) == {
        "train": [["a.csv", "log:s, 1/a.csv"], ["deep/b.csv", "log:s, 1/deep/b.csv"]],
        "test": [["one.csv", "one.csv"]],
    }
    assert files_below(tmp_path / "log:s, 1") == ["a.csv", "deep/b.csv"]


def test_every_line_of_a_flood_is_kept_in_order(runtime, run_script):
    job = run_script("for i in range(30000): print(i, 'x' * 50)", runtime)
    numbers = [int(line.split()[0]) for line in job.logs().splitlines() if line.endswith("x" * 50)]
    assert numbers == list(range(30000))


def test_a_stopped_job_gets_sigterm_first_and_keeps_what_it_wrote(runtime, make_source, store):
    script = """
import os, pathlib, signal, sys, time
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
def stop(*_):
    (model / "saved").write_text("in time")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    job = _stopped(runtime, make_source(script), store)
    assert job.status == "Stopped"
    assert job.failure_reason == ""
    # Two hosts leave the same name: the first one's file has it, the other one's is kept beside it and named.
    assert members(job.keys.model) == each_hosts("saved", runtime)
    assert len([line for line in job.warnings if "algo-2/saved" in line]) == runtime.hosts - 1
    states = [transition["Status"] for transition in job.describe()["SecondaryStatusTransitions"]]
    if runtime.runtime == "slurm":
        states.remove("Pending")
    assert states == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(runtime, make_source, store, monkeypatch):
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "0.5")
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    assert _stopped(runtime, make_source(script), store).status == "Stopped"


def _stopped(runtime, source, store):
    import threading

    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, **runtime.options)
    job = estimator.submit(job_name="job-1")
    thread = threading.Thread(target=lambda: job.wait(logs=False))
    thread.start()
    hosts = [f"algo-{number}" for number in range(1, runtime.hosts + 1)]
    logs = [store.folder("job-1").log_path(host) for host in hosts]
    wait_until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))
    store.folder("job-1").request_stop()
    thread.join(60)
    assert not thread.is_alive()
    return job


def test_a_job_that_takes_too_long_is_stopped(runtime, run_script):
    job = run_script("import time; time.sleep(60)", runtime, max_run=1)
    assert job.status == "Stopped"
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_metric_files_can_be_read_while_the_job_runs(runtime, make_source, store):
    script = """
import os, pathlib, time
path = pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"]) / "worker_0.x.csv"
path.write_text("Epoch,Loss\\n1,0.5\\n")
print("ready", flush=True)
time.sleep(60)
"""
    import threading

    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), **runtime.options)
    job = estimator.submit(job_name="job-1")
    thread = threading.Thread(target=lambda: job.wait(logs=False))
    thread.start()
    csv = job.path / "output" / "intermediate" / "worker_0.x.csv"
    wait_until(csv.exists)
    assert csv.read_text() == "Epoch,Loss\n1,0.5\n"
    assert job.status == "InProgress"
    job.stop()
    thread.join(60)


def test_code_that_hard_codes_opt_ml_finds_it_and_the_host_never_gets_one(real_runtime, run_script):
    script = """
    import os, socket, pathlib
    assert pathlib.Path("/opt/ml/input/config/resourceconfig.json").exists()
    assert socket.gethostname() == os.environ["SM_CURRENT_HOST"]
    assert socket.gethostbyname("algo-1")
    pathlib.Path("/opt/ml/model/m").write_text("m")
    """
    existed = Path("/opt/ml").exists()
    job = run_script(script, real_runtime)
    assert job.status == "Completed", job.logs()
    assert members(job.keys.model) == each_hosts("m", real_runtime)
    assert Path("/opt/ml").exists() == existed


def test_a_channel_cannot_be_changed_by_the_job(real_runtime, run_script, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1")
    script = """
    import errno
    try:
        open("/opt/ml/input/data/training/a.csv", "a")
    except OSError as error:
        assert error.errno == errno.EROFS, error
    else:
        raise SystemExit("it could be opened for writing")
    """
    assert run_script(script, real_runtime, str(tmp_path / "rows")).status == "Completed"


def test_checkpoints_go_from_one_job_to_the_next(runtime, run_script, tmp_path):
    """The second finds and changes what the first has left, though that was killed. The other host loses none of it."""
    script = """
    import os, pathlib, time
    if os.environ["SM_CURRENT_HOST"] != "algo-1":
        time.sleep(60)
    folder = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "checkpoints")
    (folder / "deep").mkdir(exist_ok=True)
    with (folder / "deep" / "epochs").open("a") as file:
        file.write("one more\\n")
    print((folder / "deep" / "epochs").read_text())
    os.kill(os.getpid(), 9)
    """
    place = tmp_path / "checkpoints"
    for number in (1, 2):
        job = run_script(script, runtime, job_name=f"job-{number}", checkpoint_s3_uri=place)
        assert job.status == "Failed"
        assert "one more\n" * number in job.logs()
        assert (place / "deep" / "epochs").read_text() == "one more\n" * number
    assert files_below(place) == ["deep/epochs"]


@pytest.mark.parametrize("runtime", [*RUNTIMES[1:], *TWO_HOSTS[1:]], indirect=True)
def test_no_process_of_a_job_outlives_it(runtime, run_script):
    """The grandchild leaves the process group, as daemons do."""
    marker = f"launcher-test-{os.getpid()}-{time.monotonic_ns()}"
    script = f"""
    import subprocess
    subprocess.Popen(["sh", "-c", "sleep 300 # {marker}"], start_new_session=True)
    """
    assert run_script(script, runtime).status == "Completed"
    assert marker not in _all_command_lines()


@pytest.mark.parametrize("real_runtime", REAL_RUNTIMES[::2], indirect=True)
def test_an_isolated_job_has_no_network(real_runtime, run_script):
    script = """
    import os
    assert sorted(os.listdir("/sys/class/net")) == ["lo"] or not open("/proc/net/route").read().splitlines()[1:]
    """
    job = run_script(script, real_runtime, enable_network_isolation=True)
    assert job.status == "Completed", job.logs()


@pytest.fixture
def outside():
    """Return an address and a port that answer, beyond this machine: in a network namespace behind it."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network beyond this machine takes root and iproute2")
    name, address = f"outside{os.getpid()}", "198.18.77"
    commands = [
        f"ip netns add {name}",
        f"ip link add v{os.getpid()} type veth peer name inner netns {name}",
        f"ip addr add {address}.1/24 dev v{os.getpid()}",
        f"ip link set v{os.getpid()} up",
        f"ip -n {name} addr add {address}.2/24 dev inner",
        f"ip -n {name} link set inner up",
        f"ip -n {name} route add default via {address}.1",
    ]
    server = None
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        listen = f"import socket\nwith socket.create_server(('{address}.2', 7777)) as s:\n while True: s.accept()"
        server = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", listen])
        yield f"{address}.2:7777"
    finally:
        if server is not None:
            server.kill()
            server.wait()
        subprocess.run(["ip", "link", "del", f"v{os.getpid()}"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.parametrize("name", [TWO_HOSTS[1], pytest.param("docker-2", marks=pytest.mark.docker)])
@pytest.mark.parametrize("isolated", [False, True])
def test_isolated_hosts_reach_each_other_and_nothing_else(name, isolated, outside, run_script, monkeypatch):
    """A job that is not isolated reaches the address beyond: the other one is kept from it.

    Either way both hosts may listen on the same port of all addresses.
    """
    script = """
    import json, os, socket, time
    hosts = [(name, 7777) for name in json.loads(os.environ["SM_HOSTS"])]

    def reached(address):
        for _ in range(100):
            try:
                socket.create_connection(address, timeout=3).close()
                return True
            except ConnectionRefusedError:
                time.sleep(0.1)
            except OSError:
                return False

    with socket.create_server(("", 7777)):
        print("peers", [reached(address) for address in hosts], flush=True)
        name, port = os.environ["OUTSIDE"].split(":")
        print("outside", reached((name, int(port))), flush=True)
        time.sleep(1)  # the other host may still be on its way
    """
    there = _named(name, monkeypatch)
    if name == "process-2" and (reason := networks_missing(2)):
        pytest.skip(f"no network of processes here: {reason}")
    job = run_script(script, there, enable_network_isolation=isolated, environment={"OUTSIDE": outside})
    assert job.status == "Completed", job.logs()
    assert "peers [True, True]" in job.logs(), job.logs()
    assert f"outside {not isolated}" in job.logs(), job.logs()


def test_hosts_that_share_this_machines_network_say_so_and_cannot_be_isolated(run_script, monkeypatch):
    monkeypatch.setenv("LAUNCHER_HOST_NETWORKS", "off")
    there = _named("process-2", monkeypatch)
    script = """
    import os, socket
    print("I am", socket.gethostbyname(os.environ["SM_CURRENT_HOST"]), os.environ["SM_NETWORK_INTERFACE_NAME"])
    """
    job = run_script(script, there)
    assert job.logs().startswith("launcher: the hosts of this job share this machine's network"), job.logs()
    assert "I am 127.0.0.1 lo" in job.logs()
    for options in ({"enable_network_isolation": True}, {"faults": "cut:algo-2"}):
        with pytest.raises(errors.RuntimeUnavailableError, match="LAUNCHER_HOST_NETWORKS is off"):
            run_script("pass", there, job_name="job-2", **options)


def test_a_command_of_ones_own_replaces_train(real_runtime, make_source):
    """By SageMaker's rule, with an entry point given the image's own command is not used."""
    estimator = launcher.Estimator(
        entry_point="train.py",
        source_dir=make_source("raise SystemExit(9)"),
        container_entry_point=["/bin/sh", "-c"],
        container_arguments=["echo from-a-shell > /opt/ml/model/out"],
        **real_runtime.options,
    )
    estimator.fit(logs=False, job_name="job-1")
    assert (estimator.latest_training_job.outputs.model_path / "out").read_text() == "from-a-shell\n"


def test_wait_false_returns_at_once_and_the_job_goes_on(real_runtime, make_source):
    source = make_source("import time; time.sleep(1); open('/opt/ml/model/m', 'w').write('m')")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, **real_runtime.options)
    estimator.fit(wait=False, job_name="job-1")
    assert estimator.latest_training_job.status == "InProgress"
    attached = launcher.Estimator.attach("job-1")
    assert attached.latest_training_job.status == "Completed"
    assert members(attached.model_data) == each_hosts("m", real_runtime)


def test_a_job_whose_launcher_was_killed_is_taken_up_by_the_next(real_runtime, make_source, home):
    """All of its log is there, its results are collected, and nothing of it is left running."""
    source = make_source(
        "import time\nfor i in range(30): print('line', i, flush=True); time.sleep(0.1)\n"
        "open('/opt/ml/model/m', 'w').write('m')"
    )
    first = _launcher_process(real_runtime, source)
    log = home / "jobs" / "job-1" / "job.log"
    wait_until(lambda: log.exists() and "line 3" in log.read_text())
    first.kill()
    first.wait()
    job = launcher.TrainingJob("job-1")
    assert job.status == "InProgress"
    job.wait(logs=False)
    assert job.status == "Completed"
    assert [line for line in job.logs().splitlines() if line.startswith("line")] == [f"line {i}" for i in range(30)]
    assert members(job.keys.model) == each_hosts("m", real_runtime)
    assert _containers("job-1") == []


def test_ctrl_c_stops_the_job_keeps_its_results_and_reaches_the_caller(real_runtime, make_source, home):
    source = make_source(
        "import time; open('/opt/ml/model/m', 'w').write('m'); print('ready', flush=True); time.sleep(60)"
    )
    process = _launcher_process(real_runtime, source)
    logs = [JobStore(home).folder("job-1").log_path(host) for host in ("algo-1", "algo-2")[: real_runtime.hosts]]
    wait_until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))
    process.send_signal(2)
    output, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in output
    assert "the next statement ran" not in output
    job = launcher.TrainingJob("job-1")
    assert job.status == "Stopped"
    assert members(job.keys.model) == each_hosts("m", real_runtime)
    assert _containers("job-1") == []


def test_each_host_is_told_who_it_is_and_has_folders_of_its_own(two_hosts, run_script):
    script = """
    import json, os, pathlib
    config = json.loads((pathlib.Path(os.environ["SM_INPUT_CONFIG_DIR"]) / "resourceconfig.json").read_text())
    print("I am", config["current_host"], os.environ["SM_CURRENT_HOST"], os.environ["SM_HOSTS"])
    own = pathlib.Path(os.environ["SM_MODEL_DIR"])
    assert list(own.iterdir()) == []
    (own / "mine").write_text("x")
    """
    job = run_script(script, two_hosts)
    assert job.status == "Completed", job.failure_reason
    for host, log in (("algo-1", "job.log"), ("algo-2", "job.algo-2.log")):
        assert f'I am {host} {host} ["algo-1","algo-2"]' in (job.path / log).read_text()


@pytest.mark.parametrize("failing", ["algo-1", "algo-2"])
def test_the_failure_of_either_host_ends_the_job_at_once(two_hosts, run_script, failing):
    """The other one is stopped; the error shows the log of the host that failed, with its name."""
    script = f"""
    import os, time
    if os.environ["SM_CURRENT_HOST"] == "{failing}":
        raise ValueError("out of transitions on {failing}")
    time.sleep(100)
    """
    started = time.monotonic()
    job = run_script(script, two_hosts)
    assert time.monotonic() - started < 60
    assert job.status == "Failed"
    assert f"out of transitions on {failing}" in job.failure_reason
    assert f"exited with 1 on {failing}" in str(job.error)
    assert f'raise ValueError("out of transitions on {failing}")' in str(job.error)


@pytest.mark.parametrize("two_hosts", TWO_HOSTS[1:], indirect=True)
def test_hosts_find_each_other_by_name_from_the_start_and_after_an_end(two_hosts, run_script):
    """The second host has ended when the first asks for its name again; before that, they talk."""
    script = """
    import os, socket, time
    here = os.environ["SM_CURRENT_HOST"]
    names = {name: socket.gethostbyname(name) for name in ("algo-1", "algo-2")}
    assert len(set(names.values())) == 2
    if here == "algo-1":
        with socket.create_server(("algo-1", 7777)) as server:
            connection, _ = server.accept()
            assert connection.recv(5) == b"hello"
            assert connection.recv(5) == b"", "the peer is gone"
        time.sleep(1)
        assert socket.gethostbyname("algo-2") == names["algo-2"]
    else:
        for attempt in range(200):
            try:
                connection = socket.create_connection(("algo-1", 7777), 5)
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        connection.sendall(b"hello")
    """
    job = run_script(script, two_hosts)
    assert job.status == "Completed", (job.failure_reason, job.logs())


def test_two_launchers_with_one_name_start_one_job(real_runtime, make_source, home):
    source = make_source("import time; time.sleep(1)")
    processes = [_launcher_process(real_runtime, source) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1]
    assert sum("JobExistsError" in output for output in outputs) == 1
    assert launcher.TrainingJob("job-1").status == "Completed"


def test_hosts_are_started_side_by_side_and_recorded_in_their_order(make_source, store):
    """None of them is there before all have been asked for; the last one is the first to be."""
    together = threading.Barrier(3)

    class Together(FakeRuntime):
        def start(self, container):
            together.wait(30)
            wait_until(lambda: container.host == "algo-3" or ("job-1", "algo-3") in self.executions)
            return super().start(container)

    source = make_source("pass")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=Together(), instance_count=3)
    estimator.fit(logs=False, job_name="job-1")
    assert list(store.load("job-1").executions) == ["algo-1", "algo-2", "algo-3"]


def test_a_host_that_cannot_be_started_ends_the_job_when_all_have_been_tried(make_source, store):
    """The first of those in the order of their numbers is named; no host is left."""

    class Broken(FakeRuntime):
        def start(self, container):
            if container.host == "algo-1":
                wait_until(lambda: ("job-1", "algo-3") in self.executions)
                raise errors.RuntimeUnavailableError("the first one is broken.")
            if container.host == "algo-2":
                raise errors.RuntimeUnavailableError("the second one is broken.")
            return super().start(container)

    runtime = Broken()
    source = make_source("import time; time.sleep(600)")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=runtime, instance_count=3)
    with pytest.raises(errors.RuntimeUnavailableError, match="the first one is broken"):
        estimator.fit(logs=False, job_name="job-1")
    assert store.load("job-1").failure_reason == "ClientError: the first one is broken."
    assert runtime.executions["job-1", "algo-3"].removed
    assert runtime.opened == set()


def test_ctrl_c_while_hosts_are_started_keeps_the_results_of_those_that_run(make_source, store):
    """The second host is slow to start; the first has written its model by then."""

    class Slow(FakeRuntime):
        def start(self, container):
            if container.host == "algo-2":
                log = store.folder("job-1").log_path("algo-1")
                wait_until(lambda: log.exists() and "ready" in log.read_text())
                os.kill(os.getpid(), 2)
            return super().start(container)

    source = make_source(
        "import os, time; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').close()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime=Slow(), instance_count=2)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert job.status == "Stopped"
    assert "m" in members(job.keys.model)


def _launcher_process(runtime, source):
    script = (
        "import launcher\n"
        f"e = launcher.Estimator(entry_point='train.py', source_dir={source!r}, **{runtime.options!r})\n"
        "e.fit(job_name='job-1')\nprint('the next statement ran')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=launcher_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _containers(job):
    from launcher.runtimes.probe import engine_answers

    if not engine_answers():
        return []
    import docker

    home = str(JobStore(Path(os.environ["LAUNCHER_HOME"])).home)
    labels = [f"launcher.job={job}", f"launcher.home={home}"]
    return docker.from_env().containers.list(all=True, filters={"label": labels})


def _all_command_lines():
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile
    return "\n".join(lines)
