"""The server as a process: one for everybody, found again, gone when idle, and never mistaken for another."""

import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import boto3
import pytest
from botocore.config import Config

from launcher.errors import SettingsError
from launcher.s3_server import service
from launcher.s3_server.errors import S3Error
from launcher.storage.own_s3 import ensure_server
from tests.shell import launcher_environment


@pytest.fixture(autouse=True)
def no_server_left(home):
    yield
    service.stop(home)


def client(url):
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
    )  # fmt: skip


def until(happened, seconds=30):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def start_python(script, home, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nfrom pathlib import Path\nfrom launcher.s3_server import service\n"
         "home = Path(sys.argv[1])\n" + script, str(home), *arguments],
        env=launcher_environment(), text=True, stdout=subprocess.PIPE, **options,
    )  # fmt: skip


def test_asking_for_the_status_writes_nothing(home):
    assert service.status(home) == []
    assert service.stop(home) == []
    assert not home.exists()


def test_a_server_outlives_its_starter_and_is_found_by_the_next_process(home):
    starter = start_python("print(service.ensure(home))", home)
    url = starter.communicate()[0].strip()
    assert service.ensure(home) == url
    [server] = service.status(home)
    assert (server.url, server.address) == (url, "127.0.0.1")
    client(url).create_bucket(Bucket="bucket")


def test_what_was_put_is_there_for_the_next_server_at_the_same_url(home):
    url = service.ensure(home)
    client(url).create_bucket(Bucket="bucket")
    client(url).put_object(Bucket="bucket", Key="key", Body=b"text", Metadata={"a": "b"})
    [server] = service.stop(home)
    assert service.status(home) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.address, server.port))
    assert service.ensure(home) == url
    answer = client(url).get_object(Bucket="bucket", Key="key")
    assert (answer["Body"].read(), answer["Metadata"]) == (b"text", {"a": "b"})


@pytest.mark.slow
def test_thirty_processes_that_need_a_server_at_once_get_the_same_one(home):
    processes = [start_python("print(service.ensure(home))", home) for _ in range(30)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert len(service.status(home)) == 1
    log = (home / "s3" / "servers" / "127.0.0.1.log").read_text()
    assert log.count(" serves ") == 1


def test_a_killed_server_is_replaced_and_has_lost_nothing_that_it_acknowledged(home):
    url = service.ensure(home)
    client(url).create_bucket(Bucket="bucket")
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.putrequest("PUT", "/bucket/half")
    connection.putheader("Content-Length", "3000000")
    connection.endheaders(b"x" * 2_500_000)
    client(url).put_object(Bucket="bucket", Key="whole", Body=b"y" * 100_000)
    incoming = home / "s3" / "incoming"
    until(lambda: any(path.stat().st_size for path in incoming.glob("*")))
    [server] = service.status(home)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: service.status(home) == [])
    assert service.ensure(home) == url
    listing = client(url).list_objects_v2(Bucket="bucket")["Contents"]
    assert [(entry["Key"], entry["Size"]) for entry in listing] == [("whole", 100_000)]
    until(lambda: list(incoming.iterdir()) == [])


def test_a_client_that_is_killed_while_it_puts_leaves_nothing(home):
    url = service.ensure(home)
    client(url).create_bucket(Bucket="bucket")
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.putrequest("PUT", "/bucket/half")
    connection.putheader("Content-Length", "3000000")
    connection.endheaders(b"x" * 2_500_000)
    incoming = home / "s3" / "incoming"
    until(lambda: any(path.stat().st_size for path in incoming.glob("*")))
    connection.close()
    until(lambda: list(incoming.iterdir()) == [])
    assert "Contents" not in client(url).list_objects_v2(Bucket="bucket")


def test_an_idle_server_ends_and_one_in_use_does_not(home):
    holder = start_python(
        "with service.in_use(home, idle_seconds=0.3) as url:\n    print(url, flush=True)\n    sys.stdin.read()",
        home,
        stdin=subprocess.PIPE,
    )
    url = holder.stdout.readline().strip()
    time.sleep(1.5)
    assert [server.url for server in service.status(home)] == [url]
    holder.kill()
    holder.communicate()
    alive = service._Place(home, "127.0.0.1").alive
    until(lambda: not alive())


def test_a_request_in_work_keeps_the_server_up(home):
    url = service.ensure(home, idle_seconds=0.2)
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.putrequest("PUT", "/bucket")
    connection.putheader("Content-Length", "1")
    connection.endheaders()
    time.sleep(1)
    connection.send(b" ")
    assert connection.getresponse().status == 400  # " " is no configuration


def test_ctrl_c_at_the_terminal_of_the_starter_does_not_reach_the_server(home):
    """A process group of its own stands for the terminal: Ctrl-C is a SIGINT to all of it."""
    starter = start_python("print(service.ensure(home), flush=True)\ntime.sleep(60)", home, start_new_session=True)
    url = starter.stdout.readline().strip()
    os.killpg(starter.pid, signal.SIGINT)
    starter.communicate()
    assert [server.url for server in service.status(home)] == [url]


def test_a_server_keeps_none_of_its_starters_files_open(home):
    """``communicate`` would wait for the pipe for as long as a server had it."""
    starter = start_python("service.ensure(home)", home, stderr=subprocess.PIPE, stdin=subprocess.PIPE)
    starter.communicate(timeout=60)
    assert len(service.status(home)) == 1


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"port": "x"}', '{"port": 1, "token": "t", "pid": 1}', "\0\1"])
def test_a_file_that_says_nothing_true_is_replaced(home, text):
    folder = home / "s3" / "servers"
    folder.mkdir(parents=True)
    (folder / "127.0.0.1.json").write_text(text)
    assert service.status(home) == []
    url = service.ensure(home)
    assert [server.url for server in service.status(home)] == [url]


def test_a_stranger_on_the_port_is_neither_used_nor_stopped(home):
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"token": "another", "pid": os.getpid()}).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        folder = home / "s3" / "servers"
        folder.mkdir(parents=True)
        port = stranger.server_address[1]
        (folder / "127.0.0.1.json").write_text(json.dumps({"port": port, "token": "ours"}))
        assert not service.is_ours(home, f"http://127.0.0.1:{port}")
        assert service.stop(home) == []
        url = service.ensure(home)
        assert not url.endswith(f":{port}")
        stranger.shutdown()


def test_servers_on_two_addresses_share_the_store(home):
    """127.0.0.2 stands for the gateway of an engine's network."""
    first, second = service.ensure(home), service.ensure(home, "127.0.0.2")
    client(first).create_bucket(Bucket="bucket")
    client(first).put_object(Bucket="bucket", Key="key", Body=b"text")
    assert client(second).get_object(Bucket="bucket", Key="key")["Body"].read() == b"text"
    assert [server.address for server in service.stop(home)] == ["127.0.0.1", "127.0.0.2"]


def test_an_address_of_another_machine_is_refused(home):
    with pytest.raises(S3Error, match=r"cannot listen on 192\.0\.2\.1"):
        service.ensure(home, "192.0.2.1")
    assert service.status(home) == []


def test_a_bad_setting_is_refused_before_anything_starts(home, monkeypatch):
    monkeypatch.setenv("LAUNCHER_S3_IDLE_SECONDS", "soon")
    with pytest.raises(SettingsError, match="LAUNCHER_S3_IDLE_SECONDS"):
        ensure_server(home)
    assert not home.exists()


def test_a_server_that_cannot_start_shows_its_log(home, monkeypatch, tmp_path):
    (tmp_path / "sqlite3.py").write_text("raise ImportError('no sqlite in this Python')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(service, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(S3Error, match="did not start"):
        service.ensure(home)
