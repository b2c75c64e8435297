"""What the server does below the API that boto3 shows: connections, framing, hosts, memory, refusals."""

import concurrent.futures
import hashlib
import http.client
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from launcher.s3_server import service
from tests.shell import launcher_environment

MIB = 1 << 20
SSE = "x-amz-server-side-encryption"
NO_BODY = {"Content-Length": "0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("s3")
    service.ensure(home)
    [server] = service.status(home)
    client(server.url).create_bucket(Bucket="bucket")
    yield server
    service.stop(home)


def client(url):
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


@pytest.fixture
def connection(server):
    opened = http.client.HTTPConnection(server.address, server.port, timeout=30)
    yield opened
    opened.close()


def ask(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def peak_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_a_connection_goes_on_after_errors_answers_without_body_and_bodies_nobody_wanted(connection):
    assert ask(connection, "PUT", "/nowhere/key", b"x" * 3 * MIB)[0] == 404
    socket = connection.sock
    assert ask(connection, "HEAD", "/bucket/nothing")[:2] == (404, b"")
    assert ask(connection, "PUT", "/bucket/key", b"text")[0] == 200
    assert ask(connection, "DELETE", "/bucket/key", b"why a body")[:2] == (204, b"")
    assert ask(connection, "GET", "/bucket/key")[0] == 404
    assert connection.sock is socket


def test_an_error_is_s3s_xml(connection):
    status, text, headers = ask(connection, "GET", "/bucket/a%26b%3C")
    assert (status, headers["Content-Type"]) == (404, "application/xml")
    assert b"<Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>" in text
    assert b"<Resource>/bucket/a%26b%3C</Resource>" in text
    assert headers["x-amz-request-id"]


def test_a_bucket_may_stand_in_the_host(connection):
    hosted = {"Host": "bucket.localhost:9000"}
    assert ask(connection, "PUT", "//leading", b"text", hosted)[0] == 200
    assert ask(connection, "GET", "//leading", None, hosted)[:2] == (200, b"text")
    assert ask(connection, "GET", "/bucket//leading")[:2] == (200, b"text")
    assert b"<Key>/leading</Key>" in ask(connection, "GET", "/?prefix=/", None, {"Host": "bucket.s3.localhost"})[1]
    assert b"<Name>bucket</Name>" in ask(connection, "GET", "/", None, {"Host": "s3.localhost"})[1]
    ask(connection, "DELETE", "/bucket//leading")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/bucket", {}, 501, b"NotImplemented"),
        ("PUT", "/bucket/key", NO_BODY | {f"{SSE}-customer-algorithm": "AES256"}, 501, b"NotImplemented"),
        ("PUT", "/bucket/key", NO_BODY | {"x-amz-object-lock-mode": "GOVERNANCE"}, 501, b"NotImplemented"),
        ("POST", "/bucket/key?restore", {}, 501, b"NotImplemented"),
        ("POST", "/bucket/key?select&select-type=2", {}, 501, b"NotImplemented"),
        ("POST", "/bucket/key", {}, 405, b"MethodNotAllowed"),
        ("DELETE", "/", {}, 405, b"MethodNotAllowed"),
        ("GET", "/bucket/%ff", {}, 400, b"InvalidURI"),
        ("GET", "/bucket/..%2F..%2Fkey", {}, 400, b"InvalidURI"),
        ("PUT", "/bucket/key", {"Content-Length": "many"}, 400, b"InvalidRequest"),
        ("PUT", "/bucket/key", {"Content-Length": str((5 << 30) + 1)}, 400, b"EntityTooLarge"),
        ("GET", "/bucket/key?X-Amz-Expires=soon&X-Amz-Date=now", {}, 400, b"AuthorizationQueryParametersError"),
        ("GET", "/bucket/key?X-Amz-Expires=604801&X-Amz-Date=20260101T000000Z", {}, 400, b"AuthorizationQuery"),
    ],
)
def test_what_is_not_done_is_refused_and_nothing_is_put(server, connection, method, path, headers, status, code):
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    if headers.get("Content-Length", "0") not in ("0", "many"):
        connection.sock.shutdown(1)
    answer = connection.getresponse()
    text = answer.read()
    assert (answer.status, code in text) == (status, True), text
    assert "Contents" not in client(server.url).list_objects_v2(Bucket="bucket", Prefix="key")


def test_a_put_without_a_length_is_refused(connection):
    connection.putrequest("PUT", "/bucket/key")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"MissingContentLength" in answer.read()) == (411, True)


@pytest.mark.parametrize("text", [b"<", b"<a/>", b"<CompleteMultipartUpload/>", b"\xff", b""])
def test_xml_that_says_nothing_is_malformed(connection, text):
    status, answer, _ = ask(connection, "POST", "/bucket?delete", text)
    assert (status, b"MalformedXML" in answer) == (400, True)


@pytest.mark.slow
def test_large_objects_take_no_memory(server, tmp_path):
    """300 MiB in parts, in one piece, and back, by several at once."""
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(MIB))
    s3 = client(server.url)
    s3.upload_file(str(source), "bucket", "parts")
    with source.open("rb") as file:
        s3.put_object(Bucket="bucket", Key="piece", Body=file)
    for key in ("parts", "piece"):
        s3.download_file("bucket", key, str(target))
        with source.open("rb") as first, target.open("rb") as other:
            assert hashlib.file_digest(first, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
        s3.delete_object(Bucket="bucket", Key=key)
    assert peak_mib(server.pid) < 200


@pytest.mark.slow
def test_thirty_processes_put_list_and_get_at_once(server):
    script = (
        "import sys, boto3\n"
        "s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1',"
        " aws_access_key_id='any', aws_secret_access_key='any')\n"
        "for number in range(5):\n"
        "    s3.put_object(Bucket='bucket', Key=f'many/{sys.argv[2]}/{number}', Body=sys.argv[2].encode() * 1000)\n"
        "    s3.put_object(Bucket='bucket', Key='many/shared', Body=f'{sys.argv[2]:>2}'.encode() * 5000)\n"
        "    text = s3.get_object(Bucket='bucket', Key='many/shared')['Body'].read()\n"
        "    assert len(text) == 10000 and text == text[:2] * 5000\n"
        "listed = s3.list_objects_v2(Bucket='bucket', Prefix=f'many/{sys.argv[2]}/')['KeyCount']\n"
        "assert listed == 5, listed\n"
    )

    def run(number):
        command = [sys.executable, "-c", script, server.url, str(number)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=launcher_environment()).stderr

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        assert set(pool.map(run, range(30))) == {""}
    assert client(server.url).list_objects_v2(Bucket="bucket", Prefix="many/")["KeyCount"] == 151


def test_the_server_starts_without_moto_and_loads_it_when_it_is_asked():
    script = "import sys, launcher.s3_server.server; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=launcher_environment()
    )
    assert not {"moto", "boto3", "botocore", "numpy", "requests"} & set(loaded.stdout.split())


def test_the_aws_cli_copies_lists_and_removes(server, tmp_path):
    """The version that goes with this boto3, as a program of its own."""
    variables = {
        "AWS_ENDPOINT_URL_S3": server.url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }  # fmt: skip

    def aws(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "s3", *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | variables, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "sub" / "big").write_bytes(os.urandom(9 * MIB))
    aws("mb", "s3://cli-bucket")
    aws("sync", "data", "s3://cli-bucket/data")
    assert [line.split()[-1] for line in aws("ls", "--recursive", "s3://cli-bucket").splitlines()] == [
        "data/a.txt",
        "data/sub/big",
    ]
    aws("cp", "--recursive", "s3://cli-bucket/data", "s3://cli-bucket/copy")
    aws("cp", "--recursive", "s3://cli-bucket/copy", "back")
    assert (tmp_path / "back/sub/big").read_bytes() == (tmp_path / "data/sub/big").read_bytes()
    assert aws("sync", "data", "s3://cli-bucket/data") == "", "nothing has changed"
    aws("rb", "--force", "s3://cli-bucket")
    assert "cli-bucket" not in aws("ls")
