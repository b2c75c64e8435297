"""What a job may use: the CPUs, memory and GPUs of its instance type, and the caller's own settings."""

import contextlib
import json
import os
import subprocess
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

import launcher
from launcher import errors
from launcher.jobs.instance_types import InstanceType, instance_type
from launcher.jobs.spec import ContainerSpec, Limits, TrainingJobSpec
from launcher.requests.shapes import shape
from launcher.running import limits
from launcher.runtimes import machine
from launcher.runtimes.docker_engine.options import host_options
from tests.fakes import FakeRuntime

RUNTIMES = ["process", pytest.param("docker", marks=pytest.mark.docker)]
UNKNOWN_TYPES = {f"ml.g7.{size}" for size in ("2xlarge", "4xlarge", "8xlarge", "12xlarge", "24xlarge", "48xlarge")}
MIB = 1 << 20


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.fixture
def small_type(monkeypatch):
    """A type smaller than any machine that runs the tests."""
    monkeypatch.setattr(limits, "instance_type", lambda name: InstanceType(1, 300 * MIB, 0))


@pytest.fixture
def run(make_source):
    def run(script, runtime, **options):
        estimator = launcher.Estimator(
            entry_point="train.py", source_dir=make_source(textwrap.dedent(script)), runtime=runtime, **options
        )
        with contextlib.suppress(launcher.JobFailedError):
            estimator.fit(logs=False, job_name="job-1")
        return estimator.latest_training_job

    return run


def test_every_type_that_sagemaker_trains_on_is_in_the_table():
    """But those whose size AWS does not tell."""
    names = set(shape("TrainingInstanceType")["enum"])
    assert {name for name in names if instance_type(name) is None} == UNKNOWN_TYPES
    assert instance_type("ml.m5.large") == InstanceType(2, 8 << 30, 0)
    assert instance_type("ml.c4.xlarge") == InstanceType(4, 7_680 * MIB, 0)
    assert instance_type("ml.p3.16xlarge") == InstanceType(64, 488 << 30, 8)
    assert instance_type("local") is None


def test_a_job_gets_the_cpus_of_its_type_and_is_told_so(runtime, run, small_type):
    script = """
    import os
    print("CPUS", os.environ["SM_NUM_CPUS"], len(os.sched_getaffinity(0)))
    """
    job = run(script, runtime, instance_type="ml.t3.medium")
    assert "CPUS 1 1" in job.logs()


def test_a_job_that_wants_more_memory_than_its_type_has_is_told_the_limit(runtime, run, small_type):
    job = run("x = bytearray(800 << 20); print(len(x))", runtime, instance_type="ml.t3.medium")
    if any("memory is not limited to the 300 MiB" in text for text in job.warnings):
        pytest.skip(job.warnings[0])
    assert job.status == "Failed"
    assert job.failure_reason.startswith("AlgorithmError: OutOfMemory: the kernel killed the job for lack of memory; ")
    assert "memory limit is 300 MiB" in job.failure_reason


def test_a_memory_limit_leaves_no_cgroup_behind(run, small_type):
    before = _groups()
    run("pass", "process", instance_type="ml.t3.medium")
    assert _groups() <= before


def _groups():
    folders = subprocess.run(
        ["find", "/sys/fs/cgroup", "-maxdepth", "6", "-name", "launcher-*"], capture_output=True, text=True, check=False
    )
    return set(folders.stdout.split())


def test_what_the_system_cannot_enforce_is_said(run, small_type, monkeypatch):
    """A supervisor whose cgroup takes no children."""
    from launcher.runtimes import supervisor

    monkeypatch.setattr(supervisor, "_memory_cgroup", lambda: ("/proc", "memory.events", "memory.limit_in_bytes"))
    group = supervisor._MemoryGroup(300 * MIB)
    assert group.folder == ""
    assert group.warning.startswith("memory is not limited to the 300 MiB of the instance type (/proc: ")


def test_a_type_larger_than_the_machine_sets_no_limit(monkeypatch):
    monkeypatch.setattr(machine, "cpu_ids", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 << 30)
    assert allowed("ml.m5.24xlarge") == Limits()
    assert allowed("ml.m5.large") == Limits(cpus=2, memory_bytes=8 << 30)
    assert allowed("local") == Limits()


def test_a_type_of_unknown_size_sets_no_limit_and_is_named():
    spec = TrainingJobSpec("job-1", "docker", instance_type=min(UNKNOWN_TYPES))
    given = limits.job_limits(spec, FakeRuntime())
    assert given.limits == Limits()
    assert given.warnings == (
        f"InstanceType={min(UNKNOWN_TYPES)} sets no limits: what such an instance has is not known here",
    )


def allowed(name, count=1):
    spec = TrainingJobSpec("job-1", "docker", instance_type=name, instance_count=count)
    return limits.job_limits(spec, FakeRuntime()).limits


@pytest.fixture
def four_gpus(tmp_path, monkeypatch):
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(machine, "DEVICES", tmp_path / "dev")


@pytest.mark.parametrize(
    ("name", "choice", "gpus"),
    [
        ("local_gpu", "", (0, 1, 2, 3)),
        ("local_gpu", "1,3", (1, 3)),
        ("ml.g5.xlarge", "", (0,)),
        ("ml.g5.xlarge", "3,1", (3,)),
        ("ml.g5.12xlarge", "", (0, 1, 2, 3)),
        ("ml.p3.16xlarge", "", (0, 1, 2, 3)),
        ("ml.m5.large", "", ()),
        ("local", "", None),
        ("local", "2", (2,)),
        ("ml.g5.xlarge", "none", ()),
    ],
)
def test_a_type_with_gpus_gets_that_many_of_those_allowed(four_gpus, monkeypatch, name, choice, gpus):
    monkeypatch.setenv("LAUNCHER_GPUS", choice)
    assert allowed(name).gpus == gpus


def test_hosts_get_gpus_of_their_own_while_there_are_enough(four_gpus):
    two = allowed("ml.g5.xlarge", 2)
    assert [two.of_host(number).gpus for number in range(2)] == [(0,), (1,)]
    shared = allowed("ml.g5.12xlarge", 2)
    assert [shared.of_host(number).gpus for number in range(2)] == [(0, 1, 2, 3)] * 2


def test_gpus_reach_a_process_and_a_container(four_gpus, monkeypatch, make_source, tmp_path):
    monkeypatch.setenv("LAUNCHER_GPUS", "1,3")
    source = make_source("import os; print('VISIBLE', os.environ['CUDA_VISIBLE_DEVICES'], os.environ['SM_NUM_GPUS'])")
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=source, runtime="process", instance_type="local_gpu"
    )
    assert "  limit    GPUs 1, 3" in str(estimator.plan())
    estimator.fit(logs=False, job_name="job-1")
    assert "VISIBLE 1,3 0" in estimator.latest_training_job.logs(), "the toolkit counts the devices that are there"
    container = ContainerSpec("job-1", "algo-1", "", (), (), {}, (), "", "", limits=Limits(gpus=(1, 3)))
    engine = SimpleNamespace(is_podman=False, is_rootless=False, cpu_count=2)
    options = host_options(container, engine, {}, [])
    assert [dict(request) for request in options["device_requests"]] == [
        {"Driver": "", "Count": 0, "DeviceIDs": ["1", "3"], "Capabilities": [["gpu"]], "Options": {}}
    ]


@pytest.mark.parametrize("name", ["local_gpu", "ml.p3.2xlarge"])
def test_a_type_with_gpus_is_refused_where_there_are_none(make_source, home, monkeypatch, tmp_path, name):
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    estimator.instance_type = name
    with pytest.raises(errors.BadInputError, match=f"instance_type='{name}' has GPUs.*no NVIDIA device"):
        estimator.fit(job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()
    monkeypatch.setenv("LAUNCHER_GPUS", "none")
    if name != "local_gpu":
        estimator.fit(job_name="job-1", logs=False)
        assert "runs without any: LAUNCHER_GPUS is none" in estimator.latest_training_job.warnings[0]


def test_a_gpu_that_is_not_there_is_refused(four_gpus, monkeypatch):
    monkeypatch.setenv("LAUNCHER_GPUS", "1,7")
    with pytest.raises(errors.BadInputError, match=r"names 7, and this machine's NVIDIA devices are: 0, 1, 2, 3"):
        allowed("local")


@pytest.mark.docker
def test_the_size_of_dev_shm_is_a_setting(run, monkeypatch):
    monkeypatch.setenv("LAUNCHER_SHM_SIZE", "100m")
    job = run("import os; s = os.statvfs('/dev/shm'); print('SHM', s.f_blocks * s.f_frsize >> 20)", "docker")
    assert "SHM 100" in job.logs()


def test_limits_and_folders_of_the_caller_reach_the_job(runtime, run, make_source, monkeypatch, tmp_path):
    for name in ("shared", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared" / "words").write_text("hello")
    monkeypatch.setenv("LAUNCHER_ULIMITS", "nofile=256:512")
    mounts = f"{tmp_path}/shared:/opt/ml/shared;{tmp_path}/scratch:/opt/ml/scratch:rw"
    monkeypatch.setenv("LAUNCHER_MOUNTS", mounts)
    script = """
    import pathlib, resource
    print("FILES", *resource.getrlimit(resource.RLIMIT_NOFILE))
    print("WORDS", pathlib.Path("/opt/ml/shared/words").read_text())
    pathlib.Path("/opt/ml/scratch/out").write_text("written")
    try:
        pathlib.Path("/opt/ml/shared/words").write_text("changed")
    except OSError:
        print("READ ONLY")
    """
    plan = str(launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime=runtime).plan())
    assert f"  mount    /opt/ml/shared <- {tmp_path}/shared (read-only)" in plan
    assert "  limit    ulimit nofile=256:512" in plan
    job = run(script, runtime)
    for line in ("FILES 256 512", "WORDS hello", "READ ONLY"):
        assert line in job.logs(), job.logs()
    assert (tmp_path / "scratch" / "out").read_text() == "written"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LAUNCHER_GPUS", "one", "LAUNCHER_GPUS is 'one'"),
        ("LAUNCHER_SHM_SIZE", "much", "LAUNCHER_SHM_SIZE is 'much', which is no size"),
        ("LAUNCHER_ULIMITS", "files=1", "has 'files=1', which is no limit"),
        ("LAUNCHER_ULIMITS", "nofile", "has 'nofile', which is no limit"),
        ("LAUNCHER_MOUNTS", "data", "has 'data', which is no mount"),
        ("LAUNCHER_MOUNTS", "/nowhere-at-all:/x", "names /nowhere-at-all, which is not there"),
        ("LAUNCHER_MOUNTS", "/tmp:/opt/ml/model/x", "in the way of the job's own /opt/ml/model"),
        ("LAUNCHER_MOUNTS", "/tmp:/opt", "in the way of the job's own /opt/ml/input"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(make_source, home, monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    with pytest.raises(errors.BadInputError, match=words):
        estimator.fit(job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


def test_limits_stay_those_of_the_submission(store, make_source, monkeypatch):
    """Another driver, with another environment, gives the job what it was submitted with."""
    monkeypatch.setenv("LAUNCHER_ULIMITS", "nofile=300")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="process")
    estimator.submit(job_name="job-1")
    monkeypatch.delenv("LAUNCHER_ULIMITS")
    record = json.loads((store.folder("job-1").record_path).read_text())
    assert record["spec"]["limits"]["ulimits"] == ["nofile=300:300"]
    assert store.load("job-1").training_spec.limits == Limits(ulimits=("nofile=300:300",))
    assert os.environ.get("LAUNCHER_ULIMITS") is None
    assert Path("/dev/shm").is_dir()
