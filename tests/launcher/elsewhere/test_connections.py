"""Connections that break, machines that nobody can log in to, inputs that are there already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import launcher
from launcher import errors
from launcher.elsewhere.connection import Connection
from launcher.jobs.store import JobStore
from launcher.runtimes.addresses import MachineAddress
from tests.shell import launcher_environment, run_launcher
from tests.sshd import write_client
from tests.waiting import wait_until

COUNTS = """
import os, pathlib, time
go = pathlib.Path(os.environ["GO"])
for number in range(5):
    print("line", number, flush=True)
    while number == 2 and not go.exists():
        time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_job_outlives_its_connection_and_the_log_goes_on_where_it_was(box, store, make_source, tmp_path):
    """The driver here is killed and the connection cut; the job ends meanwhile; the next look brings all of it."""
    go = box.home / tmp_path.name
    source = make_source(COUNTS)
    command = ["fit", "train.py", "--source-dir", source, "--job-name", "long", "-e", f"GO={go}"]
    follower = subprocess.Popen(
        [sys.executable, "-m", "launcher", *command], env=launcher_environment(), stdout=subprocess.DEVNULL
    )
    log = store.folder("long").log_path("algo-1")
    wait_until(lambda: log.exists() and "line 2" in log.read_text())
    follower.kill()
    follower.wait()
    box.stop_server()
    box.run(f"touch {go}")
    there = box.home / ".launcher/jobs/long/job.log"
    wait_until(lambda: "line 4" in there.read_text())
    assert "line 3" not in log.read_text()
    box.start_server()
    followed = run_launcher("logs", "-f", "long", cwd=tmp_path)
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.splitlines() == [f"line {number}" for number in range(5)]
    assert store.load("long").status == "Completed"


@pytest.mark.whole
def test_a_driver_goes_on_by_itself_when_the_machine_answers_again(box, store, make_source, tmp_path):
    go = box.home / tmp_path.name
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(COUNTS), environment={"GO": str(go)})
    estimator.fit(wait=False, job_name="long")
    wait_until(lambda: "line 2" in estimator.latest_training_job.logs())
    box.stop_server()
    wait_until(lambda: store.load("long").unknown_since is not None)
    assert "(unknown)" in run_launcher("ls", cwd=tmp_path).stdout
    box.start_server()
    box.run(f"touch {go}")
    wait_until(lambda: store.load("long").terminal)
    job = launcher.TrainingJob("long")
    assert (job.status, job.logs().count("line 2")) == ("Completed", 1)
    assert any("the connection was lost for a while" in line for line in job.warnings)


@pytest.mark.slow
def test_a_second_submission_with_unchanged_inputs_sends_no_byte_of_them(box, make_source, tmp_path, monkeypatch):
    """Nor are they read again here: their digests are those of the first time."""
    sent = []
    ask = Connection.ask

    def counted(self, call, payload=(), size=0, **arguments):
        sent.append((call, size))
        return ask(self, call, payload, size, **arguments)

    monkeypatch.setattr(Connection, "ask", counted)
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.bin").write_bytes(os.urandom(3_000_000))
    (data / "same.bin").write_bytes((data / "a.bin").read_bytes())
    estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source("print(1)"))
    estimator.fit(str(data), logs=False)
    assert [size for call, size in sent if call == "put" and size > 100_000] == [3_000_000], (
        "the same content goes once"
    )
    sent.clear()
    estimator.fit(str(data), logs=False)
    assert [call for call, size in sent if size] == []
    (data / "b.bin").write_bytes(b"new")
    estimator.fit(str(data), logs=False)
    assert [size for _, size in sent if size] == [3]


@pytest.mark.whole
def test_an_input_that_a_job_there_has_changed_is_sent_again(box, make_source, tmp_path, monkeypatch):
    """Without namespaces nothing keeps a job from writing to its channel."""
    monkeypatch.setenv("LAUNCHER_NAMESPACES", "off")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("right")
    script = """
import os, pathlib
path = pathlib.Path(os.environ["SM_CHANNEL_TRAINING"], "a.txt")
print("text", path.read_text())
path.write_text("wrong")
"""
    for _ in range(2):
        estimator = launcher.Estimator(entry_point="train.py", source_dir=make_source(script))
        estimator.fit(str(tmp_path / "data"), logs=False)
        assert "text right" in estimator.latest_training_job.logs()


@pytest.mark.slow
def test_a_name_that_is_used_there_is_refused_before_anything_is_sent(box, store, make_source, tmp_path, monkeypatch):
    monkeypatch.delenv("LAUNCHER_HOST")
    there = {"entry_point": "train.py", "source_dir": make_source(""), "runtime": f"process+{box.address}"}
    launcher.Estimator(**there).fit(logs=False, job_name="same")
    assert launcher.Estimator.attach("same").request()["Launcher"]["Runtime"] == f"process+{box.address}"
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "other"))
    with pytest.raises(errors.JobExistsError, match="already exists"):
        launcher.Estimator(**there).fit(logs=False, job_name="same")
    assert JobStore(tmp_path / "other").names() == []


def refused(tmp_path, **variables):
    """Return what the command line says of a job that it does not begin."""
    (tmp_path / "train.py").write_text("print('never')")
    result = run_launcher("fit", "train.py", cwd=tmp_path, **variables)
    assert result.returncode == 2, result.stderr
    assert not Path(os.environ["LAUNCHER_HOME"], "jobs").exists()
    return result.stderr


def test_a_key_that_is_refused_there_is_named_with_what_to_do(box, tmp_path):
    text = refused(
        tmp_path, LAUNCHER_SSH=write_client(box.folder, "stranger-client", IdentityFile=box.folder / "stranger")
    )
    assert f"RuntimeUnavailableError: {box.address} cannot be reached" in text
    assert "Permission denied (publickey)" in text
    assert "ssh-copy-id" in text


def test_a_machine_whose_key_nobody_knows_is_not_trusted(box, tmp_path):
    text = refused(tmp_path, LAUNCHER_SSH=write_client(box.folder, "new-client", UserKnownHostsFile="/dev/null"))
    assert "Host key verification failed" in text
    assert "compare the fingerprint" in text


def test_a_machine_that_is_not_there_is_named(box, tmp_path):
    port = box.port
    box.stop_server()
    text = refused(tmp_path)
    assert "Connection refused" in text
    assert f"-p {port} {box.user}@127.0.0.1" in text


def test_a_path_without_a_python_is_named(box, tmp_path):
    text = refused(tmp_path, LAUNCHER_HOST=f"{box.bare_address}/nowhere")
    assert "/nowhere there is neither a Python nor a virtual environment" in text


def with_programs(box, **programs):
    """Give the user a PATH with these scripts before everything else; return how the client asks for it."""
    folder = box.home / "programs"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, text in programs.items():
        (folder / name.replace("_", ".")).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name.replace("_", ".")).chmod(0o755)
    return folder


def start_over(box):
    box.run("rm -rf ~/.cache/launcher/pythons")


@pytest.mark.slow
def test_the_python_of_an_installed_launcher_is_used_by_itself(box, make_source, tmp_path, monkeypatch):
    start_over(box)
    folder = with_programs(box)
    (folder / "launcher").write_text(f"#!{box.python}/bin/python\n")
    (folder / "launcher").chmod(0o755)
    monkeypatch.setenv("LAUNCHER_SSH", f"{sys.executable} {_ssh_with_path(box, folder)}")
    monkeypatch.setenv("LAUNCHER_HOST", box.bare_address)
    job = launcher.Estimator(entry_point="train.py", source_dir=make_source("import sys; print(sys.executable)"))
    job.fit(logs=False)
    assert f"{box.python}/bin/python" in job.latest_training_job.logs()


def test_a_machine_without_a_new_enough_python_is_told_apart(box, tmp_path, monkeypatch):
    start_over(box)
    old = 'case "$*" in *-V*) echo "Python 3.9.2" ;; *) exit 1 ;; esac'
    folder = with_programs(box, **dict.fromkeys(("python3", "python3_11", "python3_12", "python3_13"), old))
    text = refused(
        tmp_path, LAUNCHER_SSH=f"{sys.executable} {_ssh_with_path(box, folder)}", LAUNCHER_HOST=box.bare_address
    )
    assert "there is no Python 3.11 or newer" in text
    assert "(Python 3.9.2)" in text
    assert "apt install python3" in text


def test_packages_that_cannot_be_fetched_there_are_named(box, tmp_path):
    start_over(box)
    wrong = """case "$*" in
        *pip*) echo "ERROR: no index answers"; exit 1 ;;
        *venv*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
        *sys.exit*) exit 0 ;;
        *) exit 1 ;;
    esac"""
    folder = with_programs(box, python3=wrong, python3_11=wrong, python3_12=wrong, python3_13=wrong)
    text = refused(
        tmp_path, LAUNCHER_SSH=f"{sys.executable} {_ssh_with_path(box, folder)}", LAUNCHER_HOST=box.bare_address
    )
    assert "its packages cannot be fetched: ERROR: no index answers" in text
    assert f"LAUNCHER_HOST={box.bare_address}/path/to/venv" in text
    assert "boto3" in text


def _ssh_with_path(box, folder):
    """Return a program that is ssh, and gives what runs there another PATH, as a login file there would."""
    path = box.folder / "ssh_with_path.py"
    path.write_text(
        "import os, sys\n"
        f"line = sys.argv[1:-1] + ['PATH={folder}:/usr/bin:/bin; export PATH; ' + sys.argv[-1]]\n"
        f"os.execvp('ssh', ['ssh', '-F', '{box.folder}/client', *line])\n"
    )
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://127.0.0.1:4566", "Name the machine itself"),
        ("tcp://box:2376", "an engine elsewhere does not see the folders"),
        ("my-docker-context", "A Docker context or another engine's address will not do"),
        ("ssh://user:secret@box", "has a password in it"),
        ("ssh://-oProxyCommand=x", "is no machine"),
        ("ssh://box/a b", "is no machine"),
        ("ssh://box:99999", "Port out of range"),
        ("ssh://", "is no machine"),
    ],
)
def test_what_is_no_machine_is_refused_by_name(text, words, monkeypatch, make_source, home):
    monkeypatch.setenv("LAUNCHER_HOST", text)
    with pytest.raises(errors.SettingsError) as error:
        launcher.Estimator(entry_point="train.py", source_dir=make_source("")).fit()
    assert words in str(error.value)
    assert not home.exists()


@pytest.mark.parametrize(
    "name", ["docker+ssh://me@box:2222/opt/venv", "ssh://box", "process+ssh://[fe80::1]:22", "my.runtime-2+ssh://a.b"]
)
def test_the_name_of_a_runtime_there_says_all_of_it(name):
    assert MachineAddress.of_runtime(name).runtime_name == name
