"""Networks of hosts that are processes: which addresses reach what, and that nothing of them is left after any end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import launcher
from launcher.jobs.spec import ContainerSpec
from launcher.runtimes.process import ProcessRuntime, networks_missing
from tests.shell import launcher_environment
from tests.users import as_ordinary_user, folder_of_ordinary_user
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(networks_missing(2) != "", reason=networks_missing(2))


def estimator(source, **options):
    return launcher.Estimator(entry_point="train.py", source_dir=source, runtime="process", instance_count=2, **options)


@pytest.fixture
def answering():
    """Return the port of a server on this machine's loopback address, which says a word to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"machine")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_host_reaches_this_machine_where_it_has_no_server_of_its_own(answering, make_source):
    """By any kind of connection; sockets keep their settings, and a host's own address is that of its network."""
    script = """
import asyncio, os, socket, subprocess, sys
port = int(os.environ["PORT"])

def heard(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as link:
        link.settimeout(10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.connect((address, port))
        said = link.recv(100).decode()
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) and not link.get_inheritable()
        return said

async def heard_later():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = (await reader.read(100)).decode()
    writer.close()
    return said

below = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(100).decode())"
print("heard", heard(), asyncio.run(heard_later()), subprocess.check_output([sys.executable, "-c", below], text=True))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.connect(("8.8.8.8", 9))
    print("own", link.getsockname()[0] == socket.gethostbyname(os.environ["SM_CURRENT_HOST"]))
with socket.create_server(("127.0.0.1", port)) as server:
    with socket.create_connection(("127.0.0.1", port)) as link, server.accept()[0] as own:
        own.sendall(b"host")
        print("now", link.recv(100).decode())
try:
    socket.create_connection((os.environ["SM_CURRENT_HOST"], 1), 5)
except ConnectionRefusedError:
    print("refused")
"""
    fitted = estimator(make_source(script), environment={"PORT": str(answering)})
    fitted.fit(logs=False)
    for name in ("job.log", "job.algo-2.log"):
        log = (fitted.latest_training_job.path / name).read_text()
        assert "heard machine machine machine\n" in log, log
        assert "own True\n" in log, log
        assert "now host\nrefused\n" in log, log


def test_an_ordinary_users_hosts_have_networks_too():
    """By a namespace of users that they share; each host listens at the same port, and asks the other one."""
    asks = "import socket as s; s.create_connection(('algo-$n', 7777))"
    talk = (
        f'python3 -m http.server 7777 & for n in 1 2; do until python3 -c "{asks}"; do sleep 0.1; done; done; sleep 1'
    )
    script = (
        f"import launcher\nlauncher.Estimator(container_entry_point=['sh', '-c'], container_arguments=[{talk!r}],"
        " instance_count=2, runtime='process', enable_network_isolation=True, max_run=60).fit(job_name='job-1')"
    )
    folder = folder_of_ordinary_user()
    answer = subprocess.run(
        as_ordinary_user([sys.executable, "-c", script]),
        env={
            **os.environ,
            "HOME": str(folder),
            "LAUNCHER_HOME": str(folder / "home"),
            "PYTHONPATH": str(launcher.settings.data_path("container").parent),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run(["rm", "-r", str(folder)], check=True)
    if "which processes cannot have here" in answer.stderr:
        pytest.skip(f"this machine allows no user namespaces: {answer.stderr}")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_file_descriptor_or_address_that_makes_no_sense_fails_as_ever(make_source):
    script = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
for descriptor, address, length in ((999, b"\\2\\0" + bytes(14), 16), (1, b"\\2\\0" + bytes(14), 16), (1, b"", 0)):
    assert libc.connect(descriptor, address, length) == -1
    print(errno.errorcode[ctypes.get_errno()])
print(libc.connect(1, None, 16), libc.connect(1, ctypes.c_void_p(-1), 16), libc.connect(-1, b"\\2\\0" + bytes(14), 16))
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), 10)
"""
    fitted = estimator(make_source(script))
    fitted.fit(logs=False)
    words = fitted.latest_training_job.logs().split()
    assert words == ["EBADF", "ENOTSOCK", "ENOTSOCK", "-1", "-1", "-1"]


def container(tmp_path, host, command):
    (tmp_path / host / "tree").mkdir(parents=True)
    return ContainerSpec(
        job_name="job-1",
        host=host,
        image="",
        entry_point=(sys.executable, "-c", command),
        arguments=(),
        environment={},
        mounts=(),
        state_path=str(tmp_path / host),
        log_path=str(tmp_path / f"{host}.log"),
        tree_path=str(tmp_path / host / "tree"),
        hosts=("algo-1", "algo-2"),
    )


def test_a_host_that_the_next_driver_starts_is_on_the_network_of_those_that_run(tmp_path):
    """The first driver is gone before it has started the second host; the second one's network has both."""
    waits = "import socket; socket.create_server(('', 7777)).accept()"
    asks = """
import socket, time
while True:
    try:
        socket.create_connection(("algo-1", 7777), 10)
        break
    except OSError:
        time.sleep(0.1)
"""
    containers = [container(tmp_path, "algo-1", waits), container(tmp_path, "algo-2", asks)]
    first, second = ProcessRuntime(), ProcessRuntime()
    first.open(containers)
    first.start(containers[0])
    wait_until((tmp_path / "algo-1" / "supervisor.json").exists)
    first.close(containers)
    second.open(containers)
    executions = [second.find(containers[0]), second.start(containers[1])]
    try:
        assert [execution.wait(60) for execution in executions] == [0, 0], (tmp_path / "algo-2.log").read_text()
    finally:
        for execution in executions:
            execution.remove()
        second.close(containers)


def holders(namespace):
    """Return the processes that have a namespace, or a descriptor of it."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        links = [folder / "ns" / "net"]
        try:
            links += (folder / "fd").iterdir()
            if any(str(link.readlink()) == namespace for link in links):
                pids.append(int(folder.name))
        except OSError:  # it has ended, or has just closed a file
            continue
    return pids


@pytest.mark.parametrize("end", ["the job is stopped", "a supervisor is killed", "all are killed"])
def test_nothing_of_a_network_is_left(end, make_source, store):
    """The namespaces go with their processes, and the machine's own network has never had anything of them."""
    source = make_source("import time; print('ready', flush=True); time.sleep(600)")
    job = estimator(source).submit(job_name="job-1")
    command = [sys.executable, "-m", "launcher", "drive", "job-1"]
    driver = subprocess.Popen(command, env=launcher_environment(), cwd=job.path)
    folder = store.folder("job-1")
    logs = [folder.log_path(host) for host in ("algo-1", "algo-2")]
    wait_until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))
    recorded = [json.loads((folder.work_path / host / "supervisor.json").read_text()) for host in ("algo-1", "algo-2")]
    pids = [entry["pid"] for entry in recorded]
    network = str(Path(f"/proc/{pids[0]}/fd/{recorded[0]['namespaces'][0]}").readlink())
    assert {driver.pid, *pids} <= set(holders(network))
    inside = {str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in holders(network)}
    if end == "the job is stopped":
        job.stop()
        driver.wait(60)
        assert job.status == "Stopped"
    else:
        if end == "all are killed":
            driver.kill()
            driver.wait()
            os.kill(pids[1], signal.SIGKILL)
        os.kill(pids[0], signal.SIGKILL)
        if end == "all are killed":
            with pytest.raises(launcher.JobFailedError, match="supervisor was killed"):
                job.wait(logs=False)
        driver.wait(60)
        assert job.status == "Failed"
    assert len(inside) == 1, "supervisors and driver are in this machine's own"
    wait_until(lambda: holders(network) == [])
    assert not {name for _, name in socket.if_nameindex()} & {"hosts", "host0", "host1"}
