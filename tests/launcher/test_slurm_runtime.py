"""What is special about jobs on a Slurm cluster: its queue, its interruptions, its answers, and what it cannot do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import launcher
from launcher.errors import BadInputError, RuntimeUnavailableError, SettingsError
from launcher.jobs.spec import ContainerSpec, Mount
from launcher.runtimes.process import write_request
from launcher.runtimes.slurm import SlurmRuntime
from launcher.runtimes.slurm_commands import JobView, look
from tests.shell import run_launcher

WAITS_FOR_SIGTERM = """
import os, pathlib, signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if list(pathlib.Path("/opt/ml/checkpoints").iterdir()):
    print("resumed", flush=True)
    sys.exit(0)
pathlib.Path("/opt/ml/checkpoints/step").write_text("1")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def estimator(slurm, make_source):
    def make(script="pass", **options):
        return launcher.Estimator(
            entry_point="train.py", source_dir=make_source(script), **{"runtime": "slurm", "max_run": 600} | options
        )

    return make


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def submitted(estimator, **options):
    estimator.fit(wait=False, job_name="job-1", **options)
    return estimator.latest_training_job


def has_printed(job, text):
    return (job.path / "job.log").exists() and text in (job.path / "job.log").read_text()


def slurm_job(job):
    return json.loads((job.path / "job.json").read_text())["executions"]["algo-1"]["job"]


def full(slurm):
    """Fill the partition with a job of somebody else's; return its number."""
    return slurm.run(
        "sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 100"
    ).strip()


def test_a_job_in_the_queue_is_pending_and_that_is_no_training_time(slurm, estimator):
    other = full(slurm)
    job = submitted(estimator("print('ready')", max_run=60))
    wait_until(lambda: job.describe()["SecondaryStatus"] == "Pending")
    waited = time.monotonic()
    while time.monotonic() < waited + 1:
        assert job.describe()["SecondaryStatus"] == "Pending"
    slurm.run("scancel", other)
    job.wait(logs=False)
    description = job.describe()
    assert job.status == "Completed"
    assert description["TrainingTimeInSeconds"] < time.monotonic() - waited


def test_a_job_that_is_stopped_in_the_queue_leaves_it(slurm, estimator):
    other = full(slurm)
    job = submitted(estimator())
    wait_until(lambda: job.describe()["SecondaryStatus"] == "Pending")
    job.stop()
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert slurm.run("squeue", "--noheader", "--format=%i").split() == [other]
    slurm.run("scancel", other)


@pytest.mark.slow
def test_a_spot_job_that_another_one_takes_the_place_of_begins_again_from_its_checkpoint(slurm, estimator, tmp_path):
    spot = {"use_spot_instances": True, "max_wait": 1200, "checkpoint_s3_uri": str(tmp_path / "checkpoints")}
    job = submitted(estimator(WAITS_FOR_SIGTERM, **spot))
    wait_until(lambda: has_printed(job, "ready"))
    taken = ["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    slurm.run("sbatch", "--parsable", *taken)
    job.wait(logs=False)
    states = [transition["Status"] for transition in job.describe()["SecondaryStatusTransitions"]]
    assert job.status == "Completed", job.failure_reason
    assert states[-6:] == ["Starting", "Downloading", "Pending", "Training", "Uploading", "Completed"]
    assert "Interrupted" in states
    assert "saved" in job.logs(), "it has time for its SIGTERM"
    assert "resumed" in job.logs()


@pytest.mark.slow
def test_a_job_that_slurm_takes_away_fails_and_says_so(slurm, estimator):
    """Its script ends well, for it heeds SIGTERM; the job has been cut short all the same."""
    job = submitted(estimator(WAITS_FOR_SIGTERM))
    wait_until(lambda: has_printed(job, "ready"))
    slurm.run("scancel", str(slurm_job(job)))
    with pytest.raises(launcher.JobFailedError):
        job.wait(logs=False)
    assert job.failure_reason.startswith("InternalServerError: ")
    assert f"job {slurm_job(job)} of Slurm was ended, not by the launcher (state CANCELLED)" in job.failure_reason


def test_a_node_that_does_not_see_the_home_is_named(slurm, estimator, monkeypatch):
    """Before any code of the job runs."""
    home = slurm.folder / "unseen" / "home"
    monkeypatch.setenv("LAUNCHER_HOME", str(home))
    monkeypatch.setenv("LAUNCHER_SLURM_PARTITION", "blind")
    with pytest.raises(launcher.JobFailedError):
        estimator().fit(logs=False, job_name="job-1")
    reason = launcher.TrainingJob("job-1").failure_reason
    assert reason.startswith("InternalServerError: node3 does not see ")
    assert "LAUNCHER_HOME and this Python have to be on a folder that all nodes share" in reason


def test_a_node_that_does_not_see_a_channel_names_it(slurm, estimator, monkeypatch):
    data = slurm.folder / "unseen" / "rows"
    data.mkdir(exist_ok=True)
    (data / "a.csv").write_text("1")
    monkeypatch.setenv("LAUNCHER_SLURM_PARTITION", "blind")
    with pytest.raises(launcher.JobFailedError):
        estimator().fit(str(data), logs=False, job_name="job-1")
    assert f"node3 does not see {data}: it has to be on a folder" in launcher.TrainingJob("job-1").failure_reason


def test_who_comes_after_a_kill_finds_the_job_that_was_not_recorded(slurm, estimator):
    """The driver dies between Slurm's answer and its own note of it: the comment of the job says whose it is."""
    job = submitted(estimator("import time; print('ready', flush=True); time.sleep(2)"))
    wait_until(lambda: has_printed(job, "ready"))
    state = job.path / "work" / "algo-1"
    number = json.loads((state / "job.json").read_text())["job"]
    (state / "job.json").unlink()
    container = _containers(job)[0]
    execution = SlurmRuntime().find(container)
    assert execution.reference["job"] == number
    assert json.loads((state / "job.json").read_text()) == {"job": number}
    (remains,) = SlurmRuntime().leftovers(os.environ["LAUNCHER_HOME"])
    assert (remains.job_name, remains.text, remains.lost) == ("job-1", f"job {number} of Slurm", False)
    job.wait(logs=False)
    assert job.status == "Completed"
    wait_until(lambda: SlurmRuntime().leftovers(os.environ["LAUNCHER_HOME"]) == [])


def _containers(job):
    from launcher.jobs.store import JobStore
    from launcher.running.runner import Driver

    store = JobStore(job.path.parents[1])
    return Driver(store, job.name, SlurmRuntime()).containers


@pytest.mark.slow
def test_the_hosts_of_a_job_add_up_by_torch_distributed(slurm, estimator):
    """1 and 2 make 3 on both hosts."""
    script = """
    import torch
    import torch.distributed as together
    together.init_process_group("gloo")
    value = torch.tensor([together.get_rank() + 1.0])
    together.all_reduce(value)
    print("rank", together.get_rank(), "of", together.get_world_size(), "sum", value.item())
    """
    options = {"instance_count": 2, "distribution": {"torch_distributed": {"enabled": True}}}
    own = estimator(textwrap.dedent(script), **options)
    own.fit(logs=False, job_name="job-1")
    for number, log in enumerate(("job.log", "job.algo-2.log")):
        text = (own.latest_training_job.path / log).read_text()
        assert f"rank {number} of 2 sum 3.0" in text


@pytest.mark.whole
def test_a_controller_that_does_not_answer_leaves_the_job_alone(slurm, estimator):
    """A stop that it did not hear of reaches the host all the same: its node looks for it."""
    job = submitted(estimator(WAITS_FOR_SIGTERM))
    wait_until(lambda: has_printed(job, "ready"))
    slurm.silence(signal.SIGSTOP)
    try:
        job.stop()
        wait_until(lambda: has_printed(job, "saved"))
    finally:
        slurm.silence(signal.SIGCONT)
    job.wait(logs=False)
    assert job.status == "Stopped"


def test_the_plan_shows_the_command_and_a_type_becomes_what_slurm_is_asked_for(estimator, monkeypatch, tmp_path):
    monkeypatch.setenv("LAUNCHER_SLURM_PARTITION", "low")
    monkeypatch.setenv("LAUNCHER_SLURM_OPTIONS", "--nice=5 --constraint=''")
    plan = estimator(instance_type="ml.g4dn.xlarge", instance_count=2, max_run=60).plan(job_name="job-1")
    # 60 s, twice the 5 s of grace, and two minutes: four minutes.
    assert (
        "submits    sbatch --parsable --job-name=job-1 --time=4 --signal=TERM@5 --no-requeue --ntasks=2 "
        "--cpus-per-task=4 --mem-per-cpu=4096M --gpus-per-task=1 --partition=low --nice=5 --constraint= "
        "--chdir=/ --output=/dev/null --export=ALL"
    ) in str(plan)


def test_a_job_gets_the_devices_that_slurm_gives_its_host(slurm, estimator):
    script = "import os; print('devices', os.environ.get('CUDA_VISIBLE_DEVICES'))"
    lent = estimator(script, instance_type="ml.g4dn.xlarge")
    lent.fit(logs=False, job_name="lent")
    assert lent.latest_training_job.logs().split()[-1] in ("0", "1")
    none = estimator(script, instance_type="ml.m5.large")
    none.fit(logs=False, job_name="none")
    assert none.latest_training_job.logs().split()[-1] == "-1"


@pytest.mark.parametrize(
    ("options", "variables", "error", "text"),
    [
        ({"instance_type": "ml.p3.16xlarge"}, {}, RuntimeUnavailableError, "Slurm would not run the job: .*ntasks=1"),
        ({}, {"LAUNCHER_SLURM_PARTITION": "nope"}, RuntimeUnavailableError, "invalid partition.*nope"),
        ({}, {"LAUNCHER_SLURM_PARTITION": "short"}, RuntimeUnavailableError, "13 minutes.*short allows 10"),
        ({}, {"LAUNCHER_SLURM_OPTIONS": "--requeue"}, RuntimeUnavailableError, "--requeue, which the launcher sets"),
        ({}, {"LAUNCHER_SLURM_OPTIONS": "-plow"}, RuntimeUnavailableError, "LAUNCHER_SLURM_OPTIONS has -plow"),
        ({}, {"LAUNCHER_SLURM_OPTIONS": "'"}, SettingsError, "No closing quotation"),
        ({}, {"LAUNCHER_SLURM_ACCOUNT": "a b"}, SettingsError, "LAUNCHER_SLURM_ACCOUNT is 'a b'"),
        ({}, {"PATH": "/nowhere"}, RuntimeUnavailableError, "there is no command sbatch here"),
        pytest.param(  # which looks the controller up in the domain name system for a while
            {}, {"SLURM_CONF": "/nowhere"}, RuntimeUnavailableError, "Slurm (would|does) not", marks=pytest.mark.whole
        ),
        ({"instance_type": "local_gpu"}, {}, BadInputError, "all NVIDIA devices of this machine"),
        ({"instance_type": "ml.g4dn.xlarge"}, {"LAUNCHER_GPUS": "0"}, BadInputError, "machines of a cluster"),
        ({"image_uri": "mine:1"}, {}, RuntimeUnavailableError, "image mine:1"),
        ({"instance_count": 2, "enable_network_isolation": True}, {}, RuntimeUnavailableError, "several hosts"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_by_name_before_anything_is_recorded(
    options, variables, error, text, estimator, monkeypatch, tmp_path, home
):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    own = launcher.Estimator(image_uri="mine:1", runtime="slurm") if "image_uri" in options else estimator(**options)
    with pytest.raises(error, match=text):
        own.fit({"training": str(tmp_path / "rows")}, logs=False, job_name="job-1")
    assert not (home / "jobs" / "job-1" / "job.json").exists()


def test_a_node_writes_the_pipes_of_its_host(estimator, tmp_path):
    (tmp_path / "rows").mkdir()
    for name in ("a", "b"):
        (tmp_path / "rows" / name).write_text(f"{name}\n")
    script = "print([open(f'/opt/ml/input/data/training_{epoch}').read() for epoch in (0, 1)])"
    own = estimator(script, input_mode="Pipe")
    own.fit({"training": str(tmp_path / "rows")}, logs=False)
    assert "['a\\nb\\n', 'a\\nb\\n']" in own.latest_training_job.logs()


@pytest.mark.slow
def test_a_command_runs_beside_a_host_with_its_place_and_environment(estimator, tmp_path):
    job = submitted(estimator(WAITS_FOR_SIGTERM, environment={"COLOUR": "blue"}))
    wait_until(lambda: has_printed(job, "ready"))
    script = "hostname; pwd; echo $COLOUR $SM_CURRENT_HOST; cat; exit 7"
    ran = run_launcher("shell", "job-1", "--", "sh", "-c", script, cwd=tmp_path, text="by hand")
    job.stop()
    job.wait(logs=False)
    assert ran.stdout.splitlines() == ["algo-1", "/opt/ml/code", "blue algo-1", "by hand"], ran.stderr
    assert ran.returncode == 7


def test_the_values_of_inherited_variables_are_written_nowhere(slurm, estimator, monkeypatch, home):
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hush@index.example/simple")
    script = "import os, time; print(os.environ['PIP_INDEX_URL'][-14:], flush=True); time.sleep(2)"
    job = submitted(estimator(script))
    wait_until(lambda: has_printed(job, "example/simple"))
    written = [path for path in home.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    job.wait(logs=False)
    assert written == []


def test_accounting_knows_a_job_that_the_controller_has_forgotten(slurm, tmp_path, monkeypatch):
    """The cluster of the tests has no accounting: a program that prints as sacct does stands in for it."""
    assert look(999_999, "token") is None
    program = tmp_path / "sacct"
    program.write_text("#!/bin/sh\necho '999999|CANCELLED by 1000|0:15|node[1-2]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert look(999_999, "token") == JobView("CANCELLED", exit_code=0, nodes="node[1-2]")


def test_a_job_of_the_command_line_runs_on_the_cluster_and_says_so(slurm, tmp_path):
    (tmp_path / "train.py").write_text("print('it ran')")
    arguments = ["fit", "train.py", "--runtime", "slurm", "--max-run", "600"]
    answer = run_launcher(*arguments, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "it ran" in answer.stdout


@pytest.fixture
def other_network():
    """A network of this machine's, as another node has one: its name, and this machine's address in it."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network of another node takes root and iproute2")
    name, address = f"node{os.getpid()}", "198.18.79"
    commands = [
        f"ip netns add {name}",
        f"ip link add s{os.getpid()} type veth peer name inner netns {name}",
        f"ip addr add {address}.1/24 dev s{os.getpid()}",
        f"ip link set s{os.getpid()} up",
        f"ip -n {name} addr add {address}.2/24 dev inner",
        f"ip -n {name} link set inner up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield name, f"{address}.1"
    finally:
        subprocess.run(["ip", "link", "del", f"s{os.getpid()}"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


def test_hosts_on_different_nodes_find_each_other_and_are_told_their_interface(other_network, tmp_path):
    """What each task runs, without Slurm: the cluster of the tests has one machine."""
    network, address = other_network
    talk = """
import json, os, socket, sys, time
if sys.argv[1] == "algo-1":
    with socket.create_server(("algo-1", 7777)) as server:
        print("heard", server.accept()[0].recv(5).decode())
else:
    for _ in range(300):
        try:
            socket.create_connection(("algo-1", 7777), 5).sendall(b"hello")
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
print(json.load(open("/opt/ml/input/config/resourceconfig.json"))["network_interface_name"])
"""
    hosts = ("algo-1", "algo-2")
    for host in hosts:
        state, tree = tmp_path / host, tmp_path / host / "opt_ml"
        (tree / "input/config").mkdir(parents=True)
        (tree / "input/config/resourceconfig.json").write_text('{"network_interface_name": "lo"}')
        container = ContainerSpec(
            job_name="job-1",
            host=host,
            image="",
            entry_point=(sys.executable, "-c", talk, host),
            arguments=(),
            environment={},
            mounts=(Mount(str(tree), "/opt/ml", read_only=False),),
            state_path=str(state),
            log_path=str(tmp_path / f"{host}.log"),
            tree_path=str(tree),
            hosts=hosts,
        )
        write_request(container, {}, (), shared_network="Slurm put them on one node")
        (state / "orders").touch()
    places = [{"state": str(tmp_path / host), "log": str(tmp_path / f"{host}.log")} for host in hosts]
    (tmp_path / "algo-1" / "submission.json").write_text(json.dumps({"hosts": places}))
    script = Path(launcher.__file__).parent / "runtimes" / "slurm_node.py"
    command = [sys.executable, "-I", "-S", str(script), str(tmp_path / "algo-1")]
    tasks = [
        subprocess.Popen(
            [*place, *command], env={**os.environ, "SLURM_PROCID": str(number), "SLURM_LAUNCH_NODE_IPADDR": address}
        )
        for number, place in enumerate(([], ["ip", "netns", "exec", network]))
    ]
    assert [task.wait(60) for task in tasks] == [0, 0], [(tmp_path / f"{host}.log").read_text() for host in hosts]
    assert (tmp_path / "algo-1.log").read_text().split() == ["heard", "hello", f"s{os.getpid()}"]
    assert (tmp_path / "algo-2.log").read_text().split() == ["inner"]
