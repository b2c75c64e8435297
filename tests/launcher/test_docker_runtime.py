"""What only containers can get wrong: foreign images, owners, leftovers."""

import contextlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import uuid
import zipfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

import launcher
from launcher import errors
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes import get_runtime
from launcher.runtimes.docker_engine.job_network import addresses_of
from launcher.runtimes.docker_engine.names import network_name
from launcher.runtimes.docker_engine.traits import bridge_address
from launcher.runtimes.image import image_tag
from launcher.runtimes.probe import engine_address
from launcher.settings import build_settings, data_path
from tests.engine_proxy import EngineProxy
from tests.shell import launcher_environment
from tests.users import ORDINARY_UID, as_ordinary_user, folder_of_ordinary_user

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine():
    return docker.from_env()


@pytest.fixture(scope="module")
def foreign_image(engine):
    """An algorithm image with nothing of ours inside: ``train`` is a shell script; one that runs as root."""
    yield from _image(engine, "")


@pytest.fixture(scope="module")
def image_of_another_user(engine):
    yield from _image(engine, "USER 4321:4321")


@pytest.fixture(scope="module")
def baked_image(engine):
    """The recipe of the official toolkit's own page: code below /opt/ml, the program by SAGEMAKER_PROGRAM."""
    files = {
        "Dockerfile": f"FROM {build_settings().base_image}\nCOPY baked /opt/ml/code\nCOPY train /usr/local/bin/train\n"
        "ENV SAGEMAKER_PROGRAM=job.py\n",
        "baked/job.py": "import helper, pathlib; print(helper.WORD, sorted(p.name for p in "
        "pathlib.Path('/opt/ml').iterdir())); pathlib.Path('/opt/ml/model/m').write_text('m')",
        "baked/helper.py": "WORD = 'baked code runs'",
        "train": '#!/bin/sh\nexec python3 "/opt/ml/code/$SAGEMAKER_PROGRAM"\n',
    }
    yield from _built(engine, files)


def _image(engine, last_line):
    script = """\
    #!/bin/sh
    set -e
    id -u > /opt/ml/model/uid
    mkdir -p /opt/ml/model/sealed && echo secret > /opt/ml/model/sealed/key && chmod 700 /opt/ml/model/sealed
    cp /opt/ml/input/config/hyperparameters.json /opt/ml/output/data/
    ls -A /opt/ml/code > /opt/ml/output/data/code 2>/dev/null || true
    echo "loss=0.5;"
    if [ -d /checkpoints ]; then cat /checkpoints/own || true; umask 077; echo mine > /checkpoints/own; sleep 3; fi
    if grep -q slow /opt/ml/input/config/hyperparameters.json; then sleep 60; fi
    """
    dockerfile = f"FROM {build_settings().base_image}\nCOPY train /usr/local/bin/train\n{last_line}\n"
    yield from _built(engine, {"Dockerfile": dockerfile, "train": textwrap.dedent(script)})


def _built(engine, files):
    """Build an image from texts by name; all of them are executable."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755
            archive.addfile(info, io.BytesIO(text.encode()))
    context.seek(0)
    tag = f"launcher-test-{uuid.uuid4().hex[:8]}:1"
    engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)
    yield tag
    engine.images.remove(tag, force=True)


def containers_of(engine, job, home=None):
    labels = [f"launcher.job={job}", f"launcher.home={home or os.environ['LAUNCHER_HOME']}"]
    return engine.containers.list(all=True, filters={"label": labels})


def test_a_bridge_that_names_no_gateway_has_an_address(engine):
    """As engine 20.10 inspects its own bridge until it is restarted; the answers are recorded from one."""
    subnet = {"IPAM": {"Config": [{"Subnet": "10.251.7.0/24"}]}, "Options": {}}
    assert bridge_address(subnet) == "10.251.7.1"
    restarted = {"IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.9"}]}}
    assert bridge_address(restarted) == "172.17.0.9"
    loopback = {"IPAM": {"Config": []}, "Options": {"com.docker.network.bridge.name": "lo"}}
    assert bridge_address(loopback) == "127.0.0.1", "the interface's own address, where this machine has it"
    elsewhere = {**subnet, "Options": {"com.docker.network.bridge.name": "lo"}}
    assert bridge_address(elsewhere) == "10.251.7.1", "an interface of that name here may be another engine's"
    assert bridge_address({"IPAM": {"Config": None}}) == ""
    network = engine.api.inspect_network("bridge")
    for config in network["IPAM"]["Config"]:
        config.pop("Gateway", None)
    assert bridge_address(network) == get_runtime("docker").host_address


def test_hosts_get_a_network_whose_addresses_are_fixed_though_a_driver_was_killed_while_it_looked_for_one(engine):
    """What such a driver leaves is found by ``gc``, and by the next driver."""
    home = f"/homes/{uuid.uuid4().hex}"
    labels = {"launcher.job": "job-1", "launcher.home": home}
    hosts = tuple(
        ContainerSpec("job-1", name, "", (), (), {}, (), "", "", labels=labels, hosts=("algo-1", "algo-2"))
        for name in ("algo-1", "algo-2")
    )
    runtime, name = get_runtime("docker"), network_name(hosts[0])
    engine.networks.create(f"{name}-probe", check_duplicate=True, labels=labels)
    assert [entry.text for entry in runtime.leftovers(home)] == [f"network {name}-probe"]
    runtime.open(hosts)
    try:
        runtime.open(hosts)  # by the driver after that
        assert [entry.text for entry in runtime.leftovers(home)] == [f"network {name}"]
        first, second = (ip_address(address) for address in addresses_of(engine.api, hosts[0]).values())
        (config,) = engine.api.inspect_network(name)["IPAM"]["Config"]
        assert first in ip_network(config["Subnet"])
        assert int(second) == int(first) + 1
    finally:
        runtime.close(hosts)
    assert runtime.leftovers(home) == []


def test_any_image_that_follows_the_contract_runs(foreign_image, engine):
    estimator = launcher.Estimator(
        foreign_image,
        hyperparameters={"a": True, "b": 1.5},
        metric_definitions=[{"Name": "loss", "Regex": "loss=(.*?);"}],
    )
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert (job.outputs.model_path / "uid").read_text() == "0\n", "the image keeps its user"
    assert (job.outputs.data_path / "hyperparameters.json").read_text() == '{"a":"True","b":"1.5"}'
    assert job.describe()["AlgorithmSpecification"]["TrainingImage"] == foreign_image
    assert job.describe()["FinalMetricDataList"][0]["Value"] == 0.5
    environment = json.loads((job.path / "environment.json").read_text())
    assert environment["ImageId"] == engine.images.get(foreign_image).id
    assert containers_of(engine, "job-1") == []


def test_what_an_image_has_below_opt_ml_stays(baked_image):
    """Code that was copied there when the image was built runs; the folders of the contract are the job's."""
    estimator = launcher.Estimator(baked_image)
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert "baked code runs ['checkpoints', 'code', 'input', 'model', 'output']" in job.logs()
    assert (job.outputs.model_path / "m").read_text() == "m"


def test_a_source_takes_the_place_of_the_images_code(baked_image, make_source):
    source = make_source("import os; print(os.listdir('/opt/ml/code'))")
    estimator = launcher.Estimator(
        baked_image, entry_point="train.py", source_dir=source, environment={"SAGEMAKER_PROGRAM": "train.py"}
    )
    estimator.fit(logs=False, job_name="job-1")
    assert "['train.py']" in estimator.latest_training_job.logs()


def test_a_program_that_is_missing_inside_is_not_a_missing_train(baked_image):
    """127 is also what a shell returns for any command that it does not find."""
    estimator = launcher.Estimator(baked_image, container_entry_point=["/bin/sh", "-c", "no-such-program"])
    with pytest.raises(errors.JobFailedError) as caught:
        estimator.fit(logs=False, job_name="job-1")
    assert caught.value.exit_code_of_job == 127
    assert "docker run IMAGE train" not in str(caught.value)


def test_an_image_keeps_a_user_of_its_own_who_can_write(image_of_another_user):
    estimator = launcher.Estimator(image_of_another_user)
    estimator.fit(logs=False, job_name="job-1")
    assert (estimator.latest_training_job.outputs.model_path / "uid").read_text() == "4321\n"


def _foreign_owners(folder, uid):
    return [str(path) for path in [folder, *folder.rglob("*")] if path.lstat().st_uid != uid]


@pytest.fixture
def users_home():
    path = folder_of_ordinary_user()
    yield path
    shutil.rmtree(path)


def _fit_as_user(users_home, image, kill_when=None, job_name="job-1", options=None, **hyperparameters):
    script = (
        "import launcher\n"
        f"estimator = launcher.Estimator({image!r}, hyperparameters={hyperparameters!r}, **{options or {}!r})\n"
        f"estimator.fit(logs=False, job_name={job_name!r})\n"
    )
    process = subprocess.Popen(
        as_ordinary_user([sys.executable, "-c", script]),
        env={
            **os.environ,
            "LAUNCHER_HOME": str(users_home / "home"),
            "HOME": str(users_home),
            "PYTHONPATH": str(data_path("container").parent),
        },
        cwd=users_home,
    )
    if kill_when is not None:
        deadline = time.monotonic() + 60
        while not kill_when():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert process.wait(timeout=120) == (0 if kill_when is None else -9)


@pytest.mark.parametrize("image", ["foreign_image", "image_of_another_user"])
def test_what_a_foreign_user_wrote_belongs_to_the_caller(image, users_home, request):
    """Also a folder that the caller could not even look into."""
    _fit_as_user(users_home, request.getfixturevalue(image))
    job = users_home / "home" / "jobs" / "job-1"
    assert _foreign_owners(users_home, ORDINARY_UID) == []
    assert not (job / "work").exists()
    with tarfile.open(job / "output" / "model.tar.gz") as archive:
        assert "sealed/key" in archive.getnames()


def test_it_belongs_to_the_caller_after_a_kill_too(foreign_image, users_home, engine):
    """The launcher is killed while the container runs; the next process of the same user stops the job."""
    model = users_home / "home" / "jobs" / "job-1" / "work" / "algo-1" / "opt_ml" / "output" / "data" / "code"
    _fit_as_user(users_home, foreign_image, kill_when=model.exists, pace="slow")
    assert len(containers_of(engine, "job-1", users_home / "home")) == 1
    answer = subprocess.run(
        as_ordinary_user([sys.executable, "-m", "launcher", "stop", "job-1"]),
        env={
            **os.environ,
            "LAUNCHER_HOME": str(users_home / "home"),
            "HOME": str(users_home),
            "PYTHONPATH": str(data_path("container").parent),
        },
        cwd=users_home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "job-1: Stopped\n"
    assert containers_of(engine, "job-1", users_home / "home") == []
    assert _foreign_owners(users_home, ORDINARY_UID) == []
    assert (users_home / "home" / "jobs" / "job-1" / "output" / "model.tar.gz").exists()


@pytest.mark.parametrize("image", ["foreign_image", "image_of_another_user"])
def test_checkpoints_outside_opt_ml_that_only_their_owner_can_read_get_out(image, users_home, request):
    """While the container runs the caller cannot read them; when it has ended they are the caller's."""
    options = {"checkpoint_s3_uri": str(users_home / "kept"), "checkpoint_local_path": "/checkpoints"}
    for name in ("job-1", "job-2"):
        _fit_as_user(users_home, request.getfixturevalue(image), job_name=name, options=options)
        assert (users_home / "kept" / "own").read_text() == "mine\n"
        record = json.loads((users_home / "home" / "jobs" / name / "job.json").read_text())
        assert record["warnings"] == []
    assert "mine\n" in (users_home / "home" / "jobs" / "job-2" / "job.log").read_text()
    assert _foreign_owners(users_home, ORDINARY_UID) == []


def test_our_image_runs_as_the_caller_with_no_rights(make_source):
    script = """
import os, pathlib
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
shm = os.statvfs("/dev/shm")
pathlib.Path("/opt/ml/model/seen").write_text(" ".join([
    str(os.getuid()), status["CapEff"].strip(), status["NoNewPrivs"].strip(),
    pathlib.Path("/proc/1/comm").read_text().strip(), str(shm.f_blocks * shm.f_frsize > 2**30),
]))
"""
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script), runtime="docker")
    estimator.fit(logs=False)
    seen = (estimator.latest_training_job.outputs.model_path / "seen").read_text()
    assert seen == f"{os.getuid()} 0000000000000000 1 docker-init True"


def test_a_foreign_image_has_the_rights_of_a_plain_program_of_roots_and_no_more(foreign_image, engine):
    """It changes owners and users, as official images do; it gains no rights, and cannot fill the machine."""
    script = (
        "cd /opt/ml/model; cat /proc/self/status > status; chown 4321:4321 status && chmod 600 status; "
        "! mknod /tmp/disk b 254 0; echo started; sleep 60"
    )
    estimator = launcher.Estimator(
        foreign_image, container_entry_point=["/bin/sh", "-ec"], container_arguments=[script]
    )
    estimator.fit(wait=False, job_name="job-1")
    job = estimator.latest_training_job
    deadline = time.monotonic() + 60
    while "started" not in job.logs():
        assert time.monotonic() < deadline
        assert job.status == "InProgress", job.failure_reason
        time.sleep(0.05)
    [container] = containers_of(engine, "job-1")
    limits = container.attrs["HostConfig"]
    job.stop()
    status = dict(line.split(":", 1) for line in (job.outputs.model_path / "status").read_text().splitlines())
    assert status["NoNewPrivs"].strip() == "1"
    bounding = int(status["CapBnd"], 16)
    assert not bounding & (1 << 13 | 1 << 21 | 1 << 27 | 1 << 31), "raw packets, mounts, devices, file rights"
    assert bounding & (1 << 0), "owners"
    assert bounding & (1 << 18), "an sshd with a root folder of its own"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory // 2 < limits["Memory"] < memory
    assert 1000 < limits["PidsLimit"] < 100_000


def test_an_unknown_image_is_refused_before_anything_happens(home):
    with pytest.raises(errors.ImageError, match="is not on this machine and cannot be pulled"):
        launcher.Estimator("localhost:1/no-such-image:1").fit()
    assert not home.exists()


def test_an_image_that_cannot_train_says_so(engine):
    """An empty image: there is no program called train."""
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    tag = f"launcher-test-{uuid.uuid4().hex[:8]}"
    engine.api.import_image_from_data(empty.getvalue(), repository=tag)
    try:
        with pytest.raises(errors.JobFailedError, match="there is no 'train' to run"):
            launcher.Estimator(tag).fit(job_name="job-1", logs=False)
        assert launcher.TrainingJob("job-1").status == "Failed"
        assert containers_of(engine, "job-1") == []
    finally:
        engine.images.remove(tag, force=True)


def test_a_container_that_was_made_but_never_started_is_made_anew(make_source, engine):
    """The launcher died between the two calls."""
    estimator = launcher.Estimator(
        entry_point="train.py", source_dir=make_source("open('/opt/ml/model/m', 'w')"), runtime="docker"
    )
    plan = estimator.plan(job_name="job-1")
    get_runtime("docker").prepare(estimator.plan(job_name="job-2").containers[0])
    left = engine.api.create_container(image_tag(), labels=dict(plan.containers[0].labels))
    estimator.fit(job_name="job-1", logs=False)
    assert estimator.latest_training_job.status == "Completed"
    assert containers_of(engine, "job-1") == []
    with pytest.raises(docker.errors.NotFound):
        engine.api.inspect_container(left["Id"])


def test_two_homes_may_have_jobs_of_one_name(make_source, tmp_path, monkeypatch):
    source = make_source("import time; time.sleep(1)")
    first = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="docker")
    first.fit(job_name="job-1", wait=False)
    other = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="docker")
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "other"))
    other.fit(job_name="job-1", logs=False)
    assert other.latest_training_job.status == "Completed"
    first.latest_training_job.wait(logs=False)
    assert first.latest_training_job.status == "Completed"


def test_the_image_is_named_by_its_content(tmp_path, monkeypatch):
    """A changed file makes another image; compiled files, wheels and the script for the base image do not count."""
    copy = tmp_path / "container"
    shutil.copytree(data_path("container"), copy)
    monkeypatch.setenv("LAUNCHER_CONTAINER_DIR", str(copy))
    before = image_tag()
    (copy / "job_toolkit" / "__pycache__").mkdir(exist_ok=True)
    (copy / "job_toolkit" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (copy / "make-base-image").write_text("changed")
    assert image_tag() == before
    (copy / "job_toolkit" / "paths.py").write_text("changed")
    assert image_tag() != before
    monkeypatch.setenv("LAUNCHER_BASE_IMAGE", "other:1")
    assert image_tag() != before


def test_a_broken_dockerfile_says_where_the_build_failed(tmp_path, monkeypatch, make_source):
    copy = tmp_path / "container"
    shutil.copytree(data_path("container"), copy)
    Path(copy, "Dockerfile").write_text(f"FROM {build_settings().base_image}\nRUN echo no such luck && false\n")
    monkeypatch.setenv("LAUNCHER_CONTAINER_DIR", str(copy))
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="docker")
    with pytest.raises(errors.ImageError, match="no such luck"):
        estimator.fit(job_name="job-1", logs=False)
    assert launcher.TrainingJob("job-1").status == "Failed"


def test_where_no_engine_answers_auto_takes_a_process(make_source, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(""), runtime="docker")
    with pytest.raises(errors.RuntimeUnavailableError, match="no Docker engine answers"):
        estimator.fit()
    assert launcher.Estimator(entry_point="train.py", source_dir=make_source("")).plan().runtime == "process"


class RefusingEngine(http.server.BaseHTTPRequestHandler):
    """Says its version, and refuses everything else."""

    def do_GET(self):
        asked_version = self.path.endswith("/version")
        answer = {"ApiVersion": "1.44", "Version": "27.0"} if asked_version else {"message": "the disk is full"}
        text = json.dumps(answer).encode()
        self.send_response(200 if asked_version else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_what_an_engine_refuses_is_told_in_its_own_words(monkeypatch):
    """It has answered: that it does not answer would send its user the wrong way."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RefusingEngine) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.server_port}")
        with pytest.raises(
            errors.RuntimeUnavailableError, match="the containers of jobs could not be listed: the disk"
        ):
            get_runtime("docker").leftovers("/home")
        engine.shutdown()


@pytest.fixture
def engine_proxy(tmp_path, monkeypatch):
    proxy = EngineProxy(tmp_path / "engine.sock", urlsplit(engine_address()).path)
    monkeypatch.setenv("DOCKER_HOST", proxy.address)
    yield proxy
    proxy.end()


def _wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _foreign_job(*command, **options):
    """Submit a job of the base image that runs a command; return it and the thread that drives it."""
    estimator = launcher.Estimator(
        build_settings().base_image,
        container_entry_point=command[:1],
        container_arguments=command[1:],
        runtime="docker",
        **options,
    )
    job = estimator.submit(job_name="job-1")
    thread = threading.Thread(target=lambda: _driven(job))
    thread.start()
    return job, thread


def _driven(job):
    with contextlib.suppress(errors.JobFailedError):
        job.wait(logs=False)


LINES = "for i in $(seq 200); do echo out $i; echo err $i >&2; sleep 0.03; done; echo m > /opt/ml/model/m"


def test_an_engine_that_goes_away_and_comes_back_ends_nothing(engine_proxy, store, engine):
    """No line is lost or there twice, of either stream."""
    job, thread = _foreign_job("/bin/sh", "-c", LINES)
    _wait_until(lambda: "out 20\n" in job.logs())
    engine_proxy.end()
    _wait_until(lambda: store.load("job-1").unknown_since is not None)
    assert job.status == "InProgress"
    engine_proxy.begin()
    _wait_until(lambda: "out 60\n" in job.logs())
    engine_proxy.end()
    time.sleep(1)
    engine_proxy.begin()
    thread.join(60)
    assert job.status == "Completed", job.failure_reason
    lines = job.logs().splitlines()
    for stream in ("out", "err"):
        assert [line for line in lines if line.startswith(stream)] == [f"{stream} {i}" for i in range(1, 201)]
    assert (job.outputs.model_path / "m").exists()
    assert containers_of(engine, "job-1") == []


def test_a_stop_that_the_engine_could_not_hear_reaches_it_when_it_is_back(engine_proxy, store, engine):
    job, thread = _foreign_job(
        "/bin/sh", "-c", "trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    )
    _wait_until(lambda: "ready" in job.logs())
    engine_proxy.end()
    _wait_until(lambda: store.load("job-1").unknown_since is not None)
    store.folder("job-1").request_stop()
    _wait_until(lambda: job.status == "Stopping")
    engine_proxy.begin()
    thread.join(60)
    assert job.status == "Stopped"
    assert job.logs().count("stopping") == 1
    assert containers_of(engine, "job-1") == []


def test_a_hung_engine_refuses_a_new_job_in_time(engine_proxy, home):
    engine_proxy.hang()
    started = time.monotonic()
    with pytest.raises(errors.RuntimeUnavailableError, match="engine"):
        launcher.Estimator(build_settings().base_image, runtime="docker").fit()
    assert time.monotonic() - started < 15
    assert not home.exists()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda container: container.remove(force=True), "its container was removed, not by the launcher"),
        (lambda container: container.kill(), "killed by signal 9, not by the launcher"),
    ],
    ids=["rm", "kill"],
)
def test_a_container_that_somebody_else_ends_is_no_memory_error(engine, act, reason):
    job, thread = _foreign_job("/bin/sh", "-c", "echo m > /opt/ml/model/m; echo ready; sleep 60")
    _wait_until(lambda: "ready" in job.logs())
    act(containers_of(engine, "job-1")[0])
    thread.join(60)
    assert job.status == "Failed"
    assert reason in job.failure_reason
    assert "OutOfMemory" not in job.failure_reason
    assert job.failure_reason.endswith(", exit code: 137")
    assert (job.outputs.model_path / "m").exists(), "what it had written is kept"


def test_a_job_that_the_kernel_kills_for_memory_is_told_the_limit(engine):
    """The limit is set on the running container, so that it does not matter which one the launcher sets."""
    eats = "import time; print('ready', flush=True); time.sleep(2); data = bytearray(200 << 20); time.sleep(30)"
    job, thread = _foreign_job("python", "-c", eats)
    _wait_until(lambda: "ready" in job.logs())
    containers_of(engine, "job-1")[0].update(mem_limit="48m", memswap_limit="48m")
    thread.join(60)
    assert job.status == "Failed"
    assert "OutOfMemory" in job.failure_reason
    assert "48 MiB" in job.failure_reason


def test_the_toolkit_ends_a_job_in_time_though_nobody_drives_it(make_source, engine):
    """In the bundled image; an image of one's own has a driver for that alone."""
    script = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saving", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
    job = launcher.Estimator(
        entry_point="train.py", source_dir=make_source(script), runtime="docker", max_run=4
    ).submit(job_name="job-1")
    driver = subprocess.Popen(
        [sys.executable, "-m", "launcher", "drive", "job-1"], env=launcher_environment(), cwd=job.path
    )
    _wait_until(lambda: "ready" in job.logs())
    driver.kill()
    driver.wait()
    _wait_until(lambda: containers_of(engine, "job-1")[0].status == "exited")
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert job.logs().count("saving") == 1


def test_certificates_and_indexes_reach_the_installation_of_requirements(make_source, engine, monkeypatch, tmp_path):
    """Mounted, not copied: neither the record nor the image gets them. The package comes from a folder of wheels."""
    bundle, wheels = tmp_path / "ca.pem", tmp_path / "wheels"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    wheels.mkdir()
    _write_wheel(wheels)
    monkeypatch.setenv("PIP_CERT", str(bundle))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    script = """
import os, pathlib, small_answer
print("answer", small_answer.VALUE)
path = pathlib.Path(os.environ["PIP_CERT"])
print(path, path.read_text())
print(os.environ["PIP_INDEX_URL"].startswith("https://user:secret@"))
"""
    source = make_source(script)
    Path(source, "requirements.txt").write_text("small-answer==1.0\n--no-index\n")
    estimator = launcher.Estimator(entry_point="train.py", source_dir=source, runtime="docker")
    estimator.fit(logs=False, job_name="job-1")
    job = estimator.latest_training_job
    assert "answer 42" in job.logs()
    assert "/run/launcher/pip_cert.pem -----BEGIN CERTIFICATE-----" in job.logs()
    record = (job.path / "job.json").read_text()
    assert "secret" not in record
    assert str(bundle) not in record


def _write_wheel(folder):
    name = "small_answer-1.0"
    info = f"{name}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_answer.py", "VALUE = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-answer\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"small_answer.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
