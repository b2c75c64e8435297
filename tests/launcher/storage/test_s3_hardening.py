"""What strangers may do to the server: broken framing, many connections, web pages, no key, random requests."""

import base64
import hashlib
import http.client
import os
import random
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.auth import HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from launcher.s3_server import service
from launcher.s3_server.access import home_key, key_path
from launcher.s3_server.connections import Connection
from tests.shell import launcher_environment

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("s3")
    service.ensure(home)
    [running] = service.status(home)
    client(running.url).create_bucket(Bucket="bucket")
    client(running.url).put_object(Bucket="bucket", Key="key", Body=b"text")
    yield running
    service.stop(home)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server that asks for the key of its home, as it does on an engine's gateway, and that key."""
    home = tmp_path_factory.mktemp("locked")
    service.ensure(home, access="key")
    [running] = service.status(home)
    key = home_key(home / "s3")
    client(running.url, key).create_bucket(Bucket="bucket")
    client(running.url, key).put_object(Bucket="bucket", Key="a b/ü+%.txt", Body=b"text")
    yield running, key
    service.stop(home)


def client(url, key=None, **config):
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=key.access_key if key else "any",
        aws_secret_access_key=key.secret_key if key else "any",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )  # fmt: skip


def talk(server, sent):
    """Send bytes and return all that is answered until the server closes."""
    with socket.create_connection((server.address, server.port), timeout=20) as plain:
        plain.sendall(sent)
        plain.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := plain.recv(1 << 16):
            answer += chunk
    return answer


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer)]


# Framing

HEAD = "PUT /bucket/framed HTTP/1.1\r\nHost: localhost\r\n"
INNER = "PUT /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "length", ["+43", "-1", "1_0", "0x5", "٣", "4" * 4300, "5, 5", " ", "1e3", "5\r\nContent-Length: 6", "5\x0b"]
)
def test_a_bad_length_is_refused_and_what_follows_is_never_a_request(server, length):
    sent = f"{HEAD}Content-Length: {length}\r\n\r\n{INNER}".encode()
    assert statuses(talk(server, sent)) == [400]
    assert "smuggled" not in str(client(server.url).list_buckets()["Buckets"])


@pytest.mark.parametrize("size", ["-1", "-2", "0x5", "1_0", "+5", "", " 5", "5 5", "f" * 16, "5;\x00", "٥", "5\n"])
def test_a_bad_chunk_size_is_refused_and_closes_the_connection(server, size):
    sent = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n{INNER}".encode()
    assert statuses(talk(server, sent)) == [400]
    assert "smuggled" not in str(client(server.url).list_buckets()["Buckets"])


@pytest.mark.parametrize("size", ["-1", "0x5", "1_0", "+5"])
def test_a_bad_size_of_a_signed_chunk_is_refused(server, size):
    body = f"{size};chunk-signature=x\r\nhello\r\n0;chunk-signature=x\r\n\r\n"
    head = f"{HEAD}x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Length: {len(body)}\r\n\r\n"
    assert statuses(talk(server, (head + body).encode())) == [400]


@pytest.mark.parametrize(
    "head",
    [
        "GET /bucket/key HTTP/1.1\r\n\r\n",
        "GET /bucket/key HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET  /bucket/key HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /bucket/key HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        "GET /bucket/key HTTP/1.1\r\nHost: localhost\r\nname : x\r\n\r\n",
        "GET /bucket/key HTTP/1.1\nHost: localhost\n\n",
        "GET /bucket/key HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "GET /bucket/key\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        f"{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        f"{HEAD}Content-Length: 5\r\n\r\nhel",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "GET /bucket/key HTTP/1.1\r\nHost: localhost\r\n" + "a: b\r\n" * 300 + "\r\n",
        "GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_two_programs_could_read_in_two_ways_is_refused(server, head):
    assert statuses(talk(server, head.encode() + INNER.encode() * ("framed" not in head))) == [400]
    assert "framed" not in str(client(server.url).list_objects_v2(Bucket="bucket"))


def test_chunks_with_extensions_and_trailers_and_requests_in_a_row_are_taken(server):
    chunked = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"
    answer = talk(server, (chunked + "GET /bucket/framed HTTP/1.1\r\nHost: localhost\r\n\r\n").encode())
    assert statuses(answer) == [200, 200]
    assert answer.endswith(b"\r\n\r\nhello0123456789")
    client(server.url).delete_object(Bucket="bucket", Key="framed")


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_more_than_5_gib_are_refused_before_any_of_them_is_sent(server, expect):
    with socket.create_connection((server.address, server.port), timeout=20) as plain:
        plain.sendall(f"{HEAD}{expect}Content-Length: {(5 << 30) + 1}\r\n\r\n".encode())
        answer = plain.recv(1 << 16)
    assert (statuses(answer), b"EntityTooLarge" in answer) == ([400], True)


def test_a_client_that_waits_to_be_asked_is_asked_only_for_what_is_wanted(server):
    body = b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((server.address, server.port), timeout=20) as plain:
        plain.sendall(b"PUT /nowhere/key HTTP/1.1\r\nHost: localhost\r\n" + body)
        assert statuses(plain.recv(1 << 16)) == [404]
    with socket.create_connection((server.address, server.port), timeout=20) as plain:
        plain.sendall(HEAD.encode() + body)
        assert plain.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        plain.sendall(b"hello")
        assert statuses(plain.recv(1 << 16)) == [200]
    client(server.url).delete_object(Bucket="bucket", Key="framed")


# Connections


def test_a_thousand_idle_connections_within_few_descriptors_leave_room_for_others(tmp_path):
    """``ulimit -n 1024``: the idle ones are closed for others, and the server lives on."""
    idle_clients = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher.s3_server.foreground", str(tmp_path), "127.0.0.1", str(port)],
        env=launcher_environment(), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)),
    )  # fmt: skip
    idle = []
    try:
        assert "serves" in process.stderr.readline()
        url = f"http://127.0.0.1:{port}"
        client(url).create_bucket(Bucket="bucket")
        for _ in range(idle_clients):
            idle.append(socket.create_connection(("127.0.0.1", port), timeout=60))
        client(url).put_object(Bucket="bucket", Key="key", Body=b"text")
        assert client(url).get_object(Bucket="bucket", Key="key")["Body"].read() == b"text"
        assert process.poll() is None
        for connection in idle:
            connection.close()
        assert client(url).list_objects_v2(Bucket="bucket")["KeyCount"] == 1
    finally:
        process.kill()
        process.communicate()
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def pair():
    """A connection as the server has it, and the client's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other_end = socket.create_connection(listener.getsockname())
        connection = Connection(listener.accept()[0])
    yield connection, other_end
    other_end.close()
    connection.close()


def until(happened):
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_client_that_sends_a_byte_now_and_then_is_dropped(pair):
    """A minute of patience, and a second for each KiB that was moved."""
    connection, other_end = pair
    other_end.sendall(b"P")
    assert connection.wait_for_request()
    reading = threading.Thread(target=lambda: connection.reader.read(10_000))
    reading.start()
    until(lambda: connection._waiting_since is not None)
    assert not connection.too_slow(time.monotonic() + 50)
    assert connection.too_slow(time.monotonic() + 61)
    other_end.sendall(b"x" * 9000)
    until(lambda: connection._moved > 8000)
    assert not connection.too_slow(time.monotonic() + 61)
    assert connection.too_slow(time.monotonic() + 75)
    connection.drop()
    reading.join(20)
    assert not reading.is_alive()


def test_a_client_that_does_not_read_is_dropped(pair, tmp_path):
    connection, other_end = pair
    (tmp_path / "large").write_bytes(bytes(32 * MIB))
    other_end.sendall(b"G")
    assert connection.wait_for_request()
    errors = []

    def send():
        try:
            with (tmp_path / "large").open("rb") as file:
                connection.send_file(file, 0, 32 * MIB)
        except OSError as error:
            errors.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    until(lambda: connection._waiting_since is not None)
    assert connection.too_slow(time.monotonic() + 60 + 32 * 1024)
    connection.drop()
    sending.join(20)
    assert errors


def test_the_servers_own_work_is_not_the_clients_slowness(pair):
    connection, other_end = pair
    other_end.sendall(b"G")
    assert connection.wait_for_request()
    assert not connection.too_slow(time.monotonic() + 3600)


def test_an_idle_connection_has_its_time(pair):
    connection, _ = pair
    assert not connection.too_slow(time.monotonic() + 119)
    assert connection.too_slow(time.monotonic() + 121)


# Names, web pages, tokens


@pytest.mark.parametrize(
    "host", ["evil.example", "s3", "localhost.evil.example", "127.0.0.1.evil.example", "a b", "", "x" * 300]
)
def test_a_name_that_foreign_dns_could_point_here_is_not_answered(server, host):
    answer = talk(server, f"GET /bucket/key HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert statuses(answer)[0] in (400, 403)
    assert b"text" not in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]:9000", "192.168.1.5", "S3.LocalHost"])
def test_addresses_and_localhost_are_answered(server, host):
    answer = talk(server, f"GET /bucket/key HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert statuses(answer) == [200]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", "http://localhost:1"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_a_page_of_another_origin_gets_and_changes_nothing(server, origin, method):
    """A POST of text/plain is sent by browsers without asking first."""
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    path, body = (
        ("/bucket?delete", "<Delete><Object><Key>key</Key></Object></Delete>")
        if method == "POST"
        else ("/bucket/key", None)
    )
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    assert (answer.status, b"text" in answer.read(), answer.headers["Access-Control-Allow-Origin"]) == (
        403,
        False,
        None,
    )
    connection.close()
    assert client(server.url).head_object(Bucket="bucket", Key="key")


def test_the_servers_own_origin_is_no_stranger(server):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    connection.request("GET", "/bucket/key", headers={"Origin": server.url})
    assert connection.getresponse().status == 200
    connection.close()


def test_a_stranger_learns_no_token_and_stops_nothing(server):
    for method, path in (
        ("GET", "/_launcher/ping"), ("GET", "/_launcher/ping/nonce"), ("GET", "/_launcher/ping/nonce/proof"),
        ("POST", "/_launcher/stop"), ("POST", "/_launcher/stop/nonce/proof"),
        ("GET", f"/_launcher/stop/{server.token}"),
    ):  # fmt: skip
        connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, server.token.encode() in answer.read()) == (404, False)
        connection.close()
    assert client(server.url).list_buckets()


def test_stored_html_runs_no_script_of_the_servers_origin(server):
    client(server.url).put_object(Bucket="bucket", Key="page", Body=b"<script>1</script>", ContentType="text/html")
    with urllib.request.urlopen(f"{server.url}/bucket/page") as answer:
        headers = answer.headers
    assert (headers["Content-Type"], headers["Content-Security-Policy"]) == ("text/html", "sandbox")
    assert headers["X-Content-Type-Options"] == "nosniff"
    client(server.url).delete_object(Bucket="bucket", Key="page")


# The key


def code_of(call):
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_home_has_one_key_that_only_its_owner_reads(tmp_path):
    keys = []
    threads = [threading.Thread(target=lambda: keys.append(home_key(tmp_path / "s3"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert len(keys[0].secret_key) == 40
    assert keys[0].secret_key not in repr(keys[0])
    assert key_path(tmp_path / "s3").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "s3").stat().st_mode & 0o777 == 0o700
    assert home_key(tmp_path / "other") != keys[0]


def test_with_the_key_everything_works(locked, tmp_path):
    server, key = locked
    s3 = client(server.url, key)
    assert s3.get_object(Bucket="bucket", Key="a b/ü+%.txt")["Body"].read() == b"text"
    assert s3.list_objects_v2(Bucket="bucket", Prefix="a b/", Delimiter="+&=")["KeyCount"] == 1
    source = tmp_path / "large"
    source.write_bytes(os.urandom(9 * MIB))
    s3.upload_file(str(source), "bucket", "large", ExtraArgs={"Metadata": {"a": "  two   blanks "}})
    s3.download_file("bucket", "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "large"})
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "copy"}, {"Key": "large"}]})
    older = client(server.url, key, signature_version="s3")
    assert older.get_object(Bucket="bucket", Key="a b/ü+%.txt")["Body"].read() == b"text"


@pytest.mark.parametrize("signer", [S3SigV4Auth, HmacV1Auth])
def test_a_bucket_in_the_host_is_signed_as_well(locked, signer):
    server, key = locked
    host = f"bucket.localhost:{server.port}"
    request = AWSRequest("GET", f"http://{host}/?list-type=2&prefix=a%20b", auth_path="/bucket/")
    region = ("s3", "us-east-1") if signer is S3SigV4Auth else ()
    signer(Credentials(key.access_key, key.secret_key), *region).add_auth(request)
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    connection.request("GET", "/?list-type=2&prefix=a%20b", headers={**dict(request.headers.items()), "Host": host})
    answer = connection.getresponse()
    assert (answer.status, b"<KeyCount>1</KeyCount>" in answer.read()) == (200, True)
    connection.close()


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_without_the_key_nothing_is_answered(locked, version):
    server, key = locked
    wrong = type(key)(key.access_key, "x" * 40)
    other = type(key)("SOMEBODY", key.secret_key)
    call = {"Bucket": "bucket", "Key": "a b/ü+%.txt"}
    assert code_of(lambda: client(server.url, wrong, signature_version=version).get_object(**call)) == (
        403,
        "SignatureDoesNotMatch",
    )
    assert code_of(lambda: client(server.url, other, signature_version=version).get_object(**call)) == (
        403,
        "InvalidAccessKeyId",
    )
    assert code_of(lambda: client(server.url, wrong, signature_version=version).put_object(**call, Body=b"x")) == (
        403,
        "SignatureDoesNotMatch",
    )
    for path in ("", "bucket", "bucket?policy", "bucket/key?tagging"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}/{path}")
        assert (caught.value.code, b"<Code>AccessDenied</Code>" in caught.value.read()) == (403, True)


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_are_held_against_the_key(locked, version):
    server, key = locked
    parameters = {"Bucket": "bucket", "Key": "a b/ü+%.txt", "ResponseContentType": "text/x"}

    def presigned(url_key, seconds=60):
        s3 = client(server.url, url_key, signature_version=version)
        return s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)

    def status_of(url, headers=()):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, re.search(rb"<Code>(\w+)", error.read())[1]

    assert status_of(presigned(key)) == (200, b"text")
    assert status_of(presigned(type(key)(key.access_key, "x"))) == (403, b"SignatureDoesNotMatch")
    assert status_of(presigned(key).replace("text%2Fx", "text%2Fy")) == (403, b"SignatureDoesNotMatch")
    assert status_of(presigned(key).replace("/bucket/a", "/bucket/b")) == (403, b"SignatureDoesNotMatch")
    assert status_of(presigned(key, -5))[0] in (400, 403)
    put = client(server.url, key, signature_version=version).generate_presigned_url(
        "put_object", Params={"Bucket": "bucket", "Key": "put"}
    )
    stolen = urllib.request.Request(
        put, data=b"", method="PUT", headers={"x-amz-copy-source": "/bucket/secret", "Content-Type": ""}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(stolen)
    assert caught.value.code == 403


class _StreamedAuth(S3SigV4Auth):
    """Signs as the Java and Go SDKs do over HTTP: the head's signature is the seed of the chunks'."""

    def payload(self, request):
        return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.mark.parametrize(("damage", "status"), [(b"", 200), (b"hello", 403), (b"chunk-signature=", 403)])
def test_each_chunk_of_a_stream_is_held_against_its_signature(locked, damage, status):
    server, key = locked
    request = AWSRequest(
        "PUT", f"{server.url}/bucket/streamed", headers={"x-amz-decoded-content-length": "8"}, data=b""
    )
    signer = _StreamedAuth(Credentials(key.access_key, key.secret_key), "s3", "us-east-1")
    signer.add_auth(request)
    previous = request.headers["Authorization"].rpartition("Signature=")[2]
    moment = request.context["timestamp"]
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    empty, body = hashlib.sha256(b"").hexdigest(), b""
    for chunk in (b"hello", b"you", b""):
        digest = hashlib.sha256(chunk).hexdigest()
        text = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", moment, scope, previous, empty, digest))
        previous = signer.signature(text, request)
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
    if damage == b"hello":
        body = body.replace(b"hello", b"hallo")
    elif damage:
        body = re.sub(rb"chunk-signature=\w", b"chunk-signature=x", body)
    headers = {
        **dict(request.headers.items()),
        "Content-Length": str(len(body)),
        "Host": f"{server.address}:{server.port}",
    }
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    connection.request("PUT", "/bucket/streamed", body, headers)
    assert connection.getresponse().status == status
    connection.close()
    listed = client(server.url, key).list_objects_v2(Bucket="bucket", Prefix="streamed")["KeyCount"]
    assert listed == (status == 200)
    client(server.url, key).delete_object(Bucket="bucket", Key="streamed")


def test_the_aws_cli_is_let_in_by_the_key_alone(locked):
    server, key = locked

    def listed(variables):
        told = {"AWS_ENDPOINT_URL_S3": server.url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [sys.executable, "-m", "awscli", "s3", "ls", "s3://bucket/"], capture_output=True, text=True,
            env={**os.environ, **told, **variables}, check=False,
        )  # fmt: skip

    assert "PRE a b/" in listed(key.variables).stdout
    assert "SignatureDoesNotMatch" in listed(key.variables | {"AWS_SECRET_ACCESS_KEY": "x"}).stderr


def test_only_a_loopback_address_takes_any_credentials(home):
    """A server that takes any is replaced by one that asks, at the same URL, when somebody wants the key."""
    from launcher.s3_server.access import needs_key

    assert [needs_key(address, "any") for address in ("127.0.0.1", "::1", "127.9.9.9", "172.17.0.1", "0.0.0.0")] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert needs_key("127.0.0.1", "key")
    url = service.ensure(home)
    client(url).list_buckets()
    assert service.credentials(home) == {"AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "launcher"}
    assert service.ensure(home, access="key") == url
    assert code_of(client(url).list_buckets) == (403, "InvalidAccessKeyId")
    assert service.ensure(home) == url, "who does not ask for it leaves it as it is"
    assert code_of(client(url).list_buckets) == (403, "InvalidAccessKeyId")
    assert service.credentials(home) == home_key(home / "s3").variables
    client(url, home_key(home / "s3")).list_buckets()


# Random requests

_ODD = [
    "",
    "0",
    "-1",
    "9" * 4301,
    "1_0",
    "٣",
    "ü",
    "%ff",
    "null",
    "a" * 3000,
    "public-ready",
    "*",
    "\t",
    '"',
    "<",
    "2026",
    "99999999999999999999",
]
_NAMES = [
    "Content-MD5", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "x-amz-acl", "x-amz-tagging", "Expect",
    "x-amz-copy-source", "x-amz-copy-source-range", "x-amz-checksum-crc32", "x-amz-content-sha256", "x-amz-trailer",
    "x-amz-storage-class", "x-amz-decoded-content-length", "Content-Encoding", "x-amz-object-attributes", "Origin",
    "x-amz-server-side-encryption", "x-amz-metadata-directive", "x-amz-max-parts", "x-amz-checksum-algorithm",
    "x-amz-grant-read", "Authorization", "x-amz-part-number-marker", "x-amz-meta-a", "x-amz-write-offset-bytes",
]  # fmt: skip
_QUERIES = [
    "acl", "tagging", "policy", "cors", "lifecycle", "website", "logging", "notification", "versioning", "versions",
    "uploads", "uploadId", "partNumber", "max-keys", "list-type", "continuation-token", "encoding-type", "delete",
    "versionId", "attributes", "location", "replication", "encryption", "object-lock", "max-parts", "retention",
    "legal-hold", "publicAccessBlock", "ownershipControls", "X-Amz-Expires", "X-Amz-Date", "Expires", "Signature",
    "accelerate", "inventory", "analytics", "requestPayment", "max-buckets", "part-number-marker", "max-uploads",
]  # fmt: skip
_BODIES = [
    b"", b"<", b"{}", b"<a/>", b"\xff\xfe<\0a\0/\0>\0", b'<?xml version="1.0" encoding="utf-7"?><a/>',
    b'<?xml version="1.0" encoding="nonsense"?><Delete/>', b'<?xml version="1.0" encoding="shift_jis"?><Delete/>',
    b"<AccessControlPolicy/>", b"<Tagging><TagSet><Tag/></TagSet></Tagging>", b"<Delete><Object/></Delete>",
    b"<CORSConfiguration/>", b"<LifecycleConfiguration><Rule/></LifecycleConfiguration>", b"x" * 5000,
    b"<VersioningConfiguration><Status>?</Status></VersioningConfiguration>",
    b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
    b"<WebsiteConfiguration/>", b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>",
    b"<ReplicationConfiguration/>", b"<ServerSideEncryptionConfiguration/>",
    b"<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>",
]  # fmt: skip


def test_random_requests_get_an_answer_and_never_500(server):
    """500 of them, the same ones each time; SDKs send what was answered by 500 again and again."""
    draw = random.Random(20261121)
    client(server.url).create_bucket(Bucket="fuzzed")
    client(server.url).put_object(Bucket="fuzzed", Key="key", Body=b"text")
    for number in range(500):
        method = draw.choice(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"])
        path = draw.choice(
            ["/", "/fuzzed", "/fuzzed", "/fuzzed/key", "/fuzzed/key", "/nowhere", "/fuzzed/..", "/%00", "/fuzzed/%ff"]
        )
        query = "&".join(
            f"{draw.choice(_QUERIES)}={urllib.request.quote(draw.choice(_ODD))}" for _ in range(draw.randrange(3))
        )
        if draw.random() < 0.5:
            query = draw.choice(_QUERIES)
        headers = {draw.choice(_NAMES): draw.choice(_ODD).encode() for _ in range(draw.randrange(4))}
        headers.pop("Expect", None) if draw.random() < 0.9 else None
        connection = http.client.HTTPConnection(server.address, server.port, timeout=60)
        body = draw.choice(_BODIES)
        connection.request(method, f"{path}?{query}", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 500 or answer.status == 501, (number, method, path, query, headers, body, text)


@pytest.mark.parametrize(
    "text",
    [
        b'<!DOCTYPE Delete [<!ENTITY a "aaaa">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b"<!DOCTYPE Delete><Delete><Object><Key>key</Key></Object></Delete>",
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE Delete><Delete/>'.encode("utf-16"),
    ],
)
@pytest.mark.parametrize("query", ["delete", "tagging"])
def test_a_doctype_is_refused(server, text, query):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    connection.request("POST" if query == "delete" else "PUT", f"/bucket?{query}", text)
    answer = connection.getresponse()
    assert (answer.status, b"MalformedXML" in answer.read()) == (400, True)
    connection.close()


def test_a_digest_of_other_letters_is_invalid(server):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
    connection.request("PUT", "/bucket/digest", b"x", {"Content-MD5": base64.b64encode(bytes(16)) + "ü".encode()})
    answer = connection.getresponse()
    assert (answer.status, b"InvalidDigest" in answer.read()) == (400, True)
    connection.close()
