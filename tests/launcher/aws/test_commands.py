"""``launcher up | down | status | env``."""

import fcntl
import json
import socket
import sys
import time
from pathlib import Path

import boto3
import pytest

from launcher.s3_server import service
from launcher.storage.own_s3 import ensure_server
from tests.shell import run_launcher


@pytest.fixture
def shell(home, tmp_path):
    def run(*arguments, expected=0, **variables):
        ended = run_launcher(*arguments, cwd=tmp_path, **variables)
        assert ended.returncode == expected, ended.stderr
        return ended

    return run


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_up_says_where_and_stays_until_down(home, shell):
    url = shell("up", LAUNCHER_S3_IDLE_SECONDS="0.1").stdout.strip()
    time.sleep(1.5)
    [server] = service.status(home)
    assert (server.url, server.stays) == (url, True)
    assert shell("status").stdout == f"home: {home}\nup: {url}, pid {server.pid}, until launcher down\n"
    assert ensure_server(home) == url, "whoever needs it finds it"
    assert shell("down").stdout == f"stopped: {url}\n"
    assert service.status(home) == []
    assert shell("status", "--json").stdout == json.dumps({"home": str(home), "servers": []}, indent=2) + "\n"
    assert shell("down").stdout == "no server was up\n"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_server_of_up_is_a_copy_that_keeps_nothing_of_the_command(home, shell):
    """Another interpreter takes as long again; a lock of the command's would be held as long as the server lives."""
    shell("up")
    [server] = service.status(home)
    folder = Path(f"/proc/{server.pid}")
    assert b"launcher.aws.server" not in (folder / "cmdline").read_bytes()
    opened = {str(descriptor.readlink()) for descriptor in (folder / "fd").iterdir()}
    own = {name for name in opened if name.startswith(str(home / "s3" / "servers"))}
    assert own == {str(home / "s3" / "servers" / f"127.0.0.1.{kind}") for kind in ("alive", "log")}
    assert (folder / "cwd").readlink() == Path("/")
    with (home / "s3" / "servers" / "127.0.0.1.starting").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_up_keeps_a_server_that_is_there_already(home, shell):
    url = ensure_server(home)
    assert service.status(home)[0].stays is False
    assert json.loads(shell("up", "--json").stdout) == {"url": url}
    assert service.status(home)[0].stays is True


def test_a_port_of_ones_own(home, shell):
    ensure_server(home)
    port = unused_port()
    assert shell("up", "--port", str(port)).stdout == f"http://127.0.0.1:{port}\n"
    assert [server.port for server in service.status(home)] == [port]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        ended = shell("up", "--port", str(number), expected=2)
    assert f"port {number} of 127.0.0.1 is taken" in ended.stderr


def test_another_address_is_warned_of_and_asks_for_the_key(home, shell):
    ended = shell("up", "--address", "0.0.0.0")
    assert "can be reached from other machines" in ended.stderr
    assert service.status(home)[0].needs_key
    told = json.loads(shell("env", "--address", "0.0.0.0", "--json").stdout)
    assert told["AWS_SECRET_ACCESS_KEY"] in (home / "s3" / "key.env").read_text()
    assert not shell("up").stderr


def test_env_leads_boto3_to_it(home, shell, monkeypatch):
    """As ``eval`` of a shell would set the lines."""
    lines = shell("env").stdout.splitlines()
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    assert json.loads(shell("env", "--json").stdout) == variables
    assert "AWS_SESSION_TOKEN" in lines[-1]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert boto3.client("sts").get_caller_identity()["Account"] == "000000000000"
    assert boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert shell("storage", "ls").returncode == 0, "the launcher knows its own server"


def test_a_server_of_s3_alone_is_replaced_by_the_whole(home, shell, monkeypatch):
    """Such as a launcher of an older version started."""
    url = service.ensure(home)
    assert ensure_server(home) == url
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("sts", endpoint_url=url, aws_access_key_id="any", aws_secret_access_key="any")
    assert client.get_caller_identity()["Account"] == "000000000000"
    assert service.ensure(home) == url, "who needs S3 alone takes the whole"
    assert service.status(home)[0].module == "launcher.aws.server"
