"""Images on a Slurm cluster: by podman on its nodes, under the same contract as by Docker."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import launcher
from launcher.errors import RuntimeUnavailableError, SettingsError
from tests.conftest import IN_CI
from tests.shell import run_launcher

IMAGE = "localhost/launcher-test-algorithm:1"
_PROGRAMS = ("podman", "crun", "catatonit")
ALGORITHM = """#!/bin/bash
echo "$HOSTNAME runs ${0##*/}"
exec "$BASH" -c "$(</opt/ml/input/data/code/run.sh)"
"""


def _archive(program):
    """Return a root file system of this machine's own bash and a program ``train``, a few MB."""
    shell = shutil.which("bash")
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as image:
        image.add(shell, "bin/bash")
        for library in re.findall(r"(/\S+) \(", linked):
            image.add(library, library.lstrip("/"))
        train = tarfile.TarInfo("bin/train")
        train.size, train.mode = len(program), 0o755
        image.addfile(train, io.BytesIO(program.encode()))
    return archive.getvalue()


@pytest.fixture(scope="module")
def podman(_cluster):
    """The words of an engine with a storage of its own, which has one image."""
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        reason = f"no {', '.join(missing)} here"
        pytest.fail(f"CI=true, and {reason}") if IN_CI else pytest.skip(reason)
    folder = _cluster.folder / "podman"
    words = ["podman", f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs"]
    words += ["--cgroup-manager=cgroupfs"]
    change = ["--change=ENV ALGORITHM=bash"]
    subprocess.run([*words, "import", "--quiet", *change, "-", IMAGE], input=_archive(ALGORITHM), check=True)
    return words


def containers(podman):
    answer = subprocess.run([*podman, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    return answer.stdout.split()


@pytest.fixture
def algorithm(slurm, podman, monkeypatch, tmp_path):
    """A function that makes an estimator, and the channel with the script that its image runs."""
    monkeypatch.setenv("LAUNCHER_SLURM_CONTAINERS", " ".join(podman))

    def make(script, **options):
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "run.sh").write_text(script)
        own = {"image_uri": IMAGE, "runtime": "slurm", "max_run": 600} | options
        return launcher.Estimator(**own), {"code": str(code)}

    return make


def run(made, **options):
    estimator, inputs = made
    estimator.fit(inputs, logs=False, job_name="job-1", **options)
    return estimator.latest_training_job


def failed(made, **options):
    with pytest.raises(launcher.JobFailedError):
        run(made, **options)
    return launcher.TrainingJob("job-1").failure_reason


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def begun(made, word="ready"):
    estimator, inputs = made
    estimator.fit(inputs, wait=False, job_name="job-1")
    job = estimator.latest_training_job
    log = job.path / "job.log"
    wait_until(lambda: log.exists() and word in log.read_text())
    return job


def member(archive, name):
    with tarfile.open(archive) as packed:
        return packed.extractfile(name).read().decode()


EVERYTHING = """
echo "token $TOKEN by $ALGORITHM for $TRAINING_JOB_NAME"
echo "asked $(</opt/ml/input/config/hyperparameters.json)"
( echo x > /opt/ml/input/data/code/x ) 2>/dev/null || echo "inputs are read-only"
echo "sees $(echo /work* /home/*)"
[ $$ -lt 10 ] && echo "its own processes"
while read -r line; do [[ $line == *algo-* ]] && echo "hosts $line"; done < /etc/hosts
while read -r line; do [[ $line == *NoNewPrivs* || $line == CapEff* ]] && echo "$line"; done < /proc/self/status
if [ "$HOSTNAME" = algo-1 ]; then
    echo weights > /opt/ml/model/weights
    echo data > /opt/ml/output/data/rows
fi
"""


@pytest.mark.slow
def test_an_image_runs_on_the_nodes_by_the_contract(algorithm, podman):
    """Two hosts: mounts, variables, names, results, and nothing of it is left in the engine."""
    made = algorithm(
        EVERYTHING, instance_count=2, environment={"TOKEN": "a b\nc", "PATH": "/bin"}, hyperparameters={"k": "1"}
    )
    job = run(made)
    log = (job.path / "job.log").read_text()
    assert "algo-1 runs train\n" in log
    assert "token a b\nc by bash for job-1\n" in log
    assert 'asked {"k":"1"}' in log.replace(" ", "").replace("asked", "asked ")
    assert "inputs are read-only" in log
    assert "its own processes" in log
    assert {"hosts 127.0.0.1 algo-1", "hosts 127.0.0.2 algo-2"} <= set(log.splitlines())
    assert "NoNewPrivs:\t1" in log
    capabilities = int(re.search(r"CapEff:\s*(\w+)", log)[1], 16)
    assert not capabilities & (1 << 13 | 1 << 21 | 1 << 27), "no raw packets, no mounts, no device files"
    assert "algo-2 runs train" in (job.path / "job.algo-2.log").read_text()
    assert member(job.path / "output" / "model.tar.gz", "weights") == "weights\n"
    assert member(job.path / "output" / "output.tar.gz", "rows") == "data\n"
    assert json.loads((job.path / "environment.json").read_text())["Image"] == IMAGE
    assert containers(podman) == []


@pytest.mark.whole
def test_a_job_in_an_image_ends_by_its_exit_code_with_its_own_reason(algorithm, podman):
    made = algorithm("echo 'no transitions' > /opt/ml/output/failure; exit 7")
    assert failed(made) == "AlgorithmError: no transitions, exit code: 7"
    assert containers(podman) == []


STOPPED = """
trap 'echo saved > /opt/ml/model/state; echo heard; exit 0' TERM
echo ready
while :; do read -rt 0.1 < /dev/zero; done
"""


@pytest.mark.slow
def test_a_stop_reaches_the_program_in_the_image_and_its_variables_are_on_no_command_line(algorithm, podman):
    job = begun(algorithm(STOPPED, environment={"TOKEN": "hush-hush"}))
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(path.read_bytes())
    job.stop()
    job.wait(logs=False)
    assert any(b"--env=TOKEN" in line for line in lines)
    assert not any(b"hush-hush" in line for line in lines)
    assert job.status == "Stopped"
    assert "heard" in (job.path / "job.log").read_text()
    assert member(job.path / "output" / "model.tar.gz", "state") == "saved\n"
    assert containers(podman) == []


@pytest.mark.whole
def test_a_program_that_heeds_no_sigterm_is_killed_with_its_children(algorithm, podman, monkeypatch):
    monkeypatch.setenv("LAUNCHER_STOP_GRACE_SECONDS", "1")
    job = begun(algorithm("trap '' TERM; (while :; do read -rt 1 < /dev/zero; done) & echo ready; wait"))
    job.stop()
    job.wait(logs=False)
    assert job.status == "Stopped"
    assert containers(podman) == []
    assert subprocess.run(["pgrep", "-f", "read -rt 1 < /dev/zero"], capture_output=True, check=False).returncode == 1


@pytest.mark.whole
def test_max_run_ends_the_container(algorithm, podman):
    job = begun(algorithm(STOPPED, max_run=5))
    job.wait(logs=False)
    assert job.describe()["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert "heard" in (job.path / "job.log").read_text()
    assert containers(podman) == []


@pytest.mark.whole
def test_a_command_runs_in_the_container_of_a_host(algorithm, tmp_path):
    job = begun(algorithm(STOPPED))
    ran = run_launcher(
        "shell", "job-1", "--", "/bin/bash", "-c", "read x; echo $HOSTNAME $x; exit 7", cwd=tmp_path, text="in"
    )
    job.stop()
    job.wait(logs=False)
    assert (ran.stdout, ran.returncode) == ("algo-1 in\n", 7), ran.stderr


@pytest.mark.whole
def test_scancel_ends_the_container_as_well(slurm, algorithm, podman):
    job = begun(algorithm("echo ready; while :; do read -rt 1 < /dev/zero; done"))
    number = json.loads((job.path / "job.json").read_text())["executions"]["algo-1"]["job"]
    slurm.run("scancel", "--signal=KILL", str(number))
    with pytest.raises(launcher.JobFailedError):
        job.wait(logs=False)
    assert "of Slurm was ended, not by the launcher" in job.failure_reason


@pytest.mark.whole
def test_an_image_that_is_nowhere_is_named_with_its_node(algorithm):
    reason = failed(algorithm("", image_uri="localhost/nowhere:1"))
    assert re.match(r"InternalServerError: node[12] cannot have the image localhost/nowhere:1: Error: ", reason)


@pytest.mark.whole
def test_an_image_without_the_program_says_so(algorithm):
    made = algorithm("", container_entry_point=["nosuch"])
    assert "there is no 'nosuch' to run (No such file or directory)" in failed(made)


@pytest.mark.whole
def test_an_image_without_network_has_none(algorithm):
    script = 'while IFS=: read -r name _; do echo "interface $name"; done < /proc/net/dev'
    log = (run(algorithm(script, enable_network_isolation=True)).path / "job.log").read_text()
    assert [line.split()[-1] for line in log.splitlines() if line.startswith("interface")][2:] == ["lo"]


@pytest.mark.whole
def test_a_container_sees_the_devices_of_its_allocation_alone(slurm, algorithm):
    """Two terminals stand for GPUs, as the cluster counts them."""
    devices = [
        {"name": str(number), "containerEdits": {"deviceNodes": [{"path": f"/dev/tty{number + 1}"}]}}
        for number in range(2)
    ]
    spec = {"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": {}}
    (slurm.folder / "cdi" / "gpus.json").write_text(json.dumps(spec))
    made = algorithm(
        'echo "devices" /dev/tty[12] "${CUDA_VISIBLE_DEVICES-counts anew}"', instance_type="ml.g4dn.xlarge"
    )
    log = (run(made).path / "job.log").read_text()
    assert re.search(r"^devices /dev/tty[12] counts anew$", log, re.MULTILINE)


@pytest.mark.whole
def test_what_another_user_of_the_image_wrote_is_the_callers(algorithm, podman):
    user = f"{IMAGE}-user"
    subprocess.run(
        [*podman, "import", "--quiet", "--change=USER 1234", "-", user], input=_archive(ALGORITHM), check=True
    )
    job = run(algorithm("umask 077; echo mine > /opt/ml/model/weights", image_uri=user))
    with tarfile.open(job.path / "output" / "model.tar.gz") as packed:
        assert packed.getmember("weights").uid in (0, os.getuid())


@pytest.mark.whole
@pytest.mark.docker
def test_an_image_of_the_docker_engine_here_comes_over_by_the_shared_folder(algorithm, home):
    name = f"launcher-test-shipped:{os.getpid()}"
    subprocess.run(["docker", "import", "-", name], input=_archive(ALGORITHM), capture_output=True, check=True)
    try:
        job = run(algorithm("echo shipped", image_uri=name))
        assert "shipped" in (job.path / "job.log").read_text()
        image = json.loads((job.path / "environment.json").read_text())["ImageId"]
        assert [path.stem for path in (home / "images").iterdir()] == [image.removeprefix("sha256:")]
    finally:
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        ("", RuntimeUnavailableError, "told of no engine of the cluster that runs the image mine:1"),
        ("apptainer", SettingsError, "by podman alone, and not by apptainer"),
        ("/usr/bin/enroot --x", SettingsError, "by podman alone, and not by enroot"),
    ],
)
def test_a_cluster_without_podman_refuses_an_image_by_name(slurm, words, error, text, monkeypatch, home):
    monkeypatch.setenv("LAUNCHER_SLURM_CONTAINERS", words)
    with pytest.raises(error, match=text):
        launcher.Estimator(image_uri="mine:1", runtime="slurm", max_run=600).fit(logs=False, job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()


def test_a_path_that_podman_cannot_mount_is_refused_by_name(algorithm, tmp_path, home):
    estimator, _ = algorithm("")
    (tmp_path / "a,b").mkdir()
    (tmp_path / "a,b" / "rows").write_text("1")
    with pytest.raises(RuntimeUnavailableError, match="podman can mount no path with a comma"):
        estimator.fit({"code": str(tmp_path / "a,b")}, logs=False, job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()
