"""``launcher exec``: AWS's names lead here, or nowhere."""

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore
import pytest
import requests

from launcher import errors
from launcher.aws.hosts import service_of_host
from launcher.aws.proxy_hosts import SERVED, is_metadata_address
from launcher.aws_domains import AWS_DOMAINS, is_aws_host
from launcher.aws_names.authority import Authority
from launcher.proxy.environment import child_environment
from launcher.proxy.running import local_aws
from launcher.proxy.shim import launcher_exec_shim


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("s3.amazonaws.com", "s3"),
        ("bucket.with.dots.s3.eu-west-1.amazonaws.com", "s3"),
        ("bucket.s3-us-west-2.amazonaws.com", "s3"),
        ("bucket.s3.dualstack.us-east-1.amazonaws.com", "s3"),
        ("s3.cn-north-1.amazonaws.com.cn", "s3"),
        ("123.s3-control.us-east-1.amazonaws.com", "123.s3-control"),
        ("sts.amazonaws.com", "sts"),
        ("sts-fips.us-east-1.amazonaws.com", "sts"),
        ("api.sagemaker.us-gov-west-1.amazonaws.com", "api.sagemaker"),
        ("sagemaker.us-east-1.api.aws", "api.sagemaker"),
        ("runtime.sagemaker.us-east-1.amazonaws.com", "runtime.sagemaker"),
        ("metrics.sagemaker.us-east-1.amazonaws.com", "metrics.sagemaker"),
        ("monitoring.eu-central-1.amazonaws.com.", "monitoring"),
        ("dynamodb.us-east-1.amazonaws.com", "dynamodb"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "123456789012.dkr.ecr"),
    ],
)
def test_a_host_says_which_service_it_is(host, service):
    assert is_aws_host(host)
    assert service_of_host(host) == service


@pytest.mark.parametrize("host", ["example.com", "amazonaws.com.example.org", "notamazonaws.com", "aws.amazon.com"])
def test_other_hosts_are_not_awss(host):
    assert not is_aws_host(host)


def test_the_domains_are_those_of_every_partition_that_botocore_knows():
    path = Path(botocore.__file__).with_name("data") / "partitions.json"
    for partition in json.loads(path.read_text())["partitions"]:
        for name in ("dnsSuffix", "dualStackDnsSuffix"):
            assert is_aws_host(f"sts.region-1.{partition['outputs'][name]}")
    assert launcher_exec_shim.AWS_DOMAINS == AWS_DOMAINS


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "[fd00:ec2::254]", "fe80::1"])
def test_addresses_of_credentials_are_known(address):
    assert is_metadata_address(address)


def test_the_authority_can_speak_for_aws_alone_and_only_its_owner_reads_its_key(tmp_path):
    authority = Authority(tmp_path / "exec")
    authority.context("sts.us-east-1.amazonaws.com")
    assert {path.name for path in (tmp_path / "exec").glob("*.*")} == {
        "ca.key",
        "ca.pem",
        "leaf-any.us-east-1.amazonaws.com.pem",
    }
    for path in (tmp_path / "exec").glob("*.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = authority.certificate_path.read_bytes()
    assert Authority(tmp_path / "exec").certificate_path.read_bytes() == first
    forged = authority.context("www.example.com")
    _handshake(authority.context("sts.amazonaws.com"), authority.certificate_path, "sts.amazonaws.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        _handshake(forged, authority.certificate_path, "www.example.com")


def _handshake(context, certificate, name):
    """Ends of a connection meet; the client trusts the certificate alone."""
    here, there = socket.socketpair()
    here.settimeout(10)
    there.settimeout(10)

    def serve():
        try:
            context.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ssl.create_default_context(cafile=str(certificate)).wrap_socket(here, server_hostname=name):
            pass
    finally:
        here.close()
        thread.join()


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "headers": dict(self.headers)}).encode())

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def outside():
    """A server that stands for a host outside, at an address that only this machine has."""
    server = ThreadingHTTPServer(("127.0.0.2", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(home):
    """The variables of a program under ``launcher exec``."""
    with local_aws(home, {"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY": "of the caller"}) as variables:
        yield variables


def _session(variables):
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": variables["HTTP_PROXY"], "https": variables["HTTPS_PROXY"]}
    session.verify = variables["REQUESTS_CA_BUNDLE"]
    return session


def test_a_service_of_aws_is_answered_here(environment):
    session = _session(environment)
    answer = session.post("https://sts.amazonaws.com/", data={"Action": "GetCallerIdentity", "Version": "2011-06-15"})
    assert "000000000000" in answer.text
    assert session.put("https://some-bucket.s3.eu-west-1.amazonaws.com/").status_code == 200
    assert session.put("https://some-bucket.s3.amazonaws.com/a%20b", data=b"x" * 100_000).status_code == 200
    assert session.get("http://s3.amazonaws.com/some-bucket/a%20b").content == b"x" * 100_000
    for name in (
        "s3.cn-north-1.amazonaws.com.cn",
        "s3.dualstack.us-east-1.amazonaws.com",
        "s3-us-west-2.amazonaws.com",
    ):
        assert session.get(f"https://some-bucket.{name}/a%20b").content == b"x" * 100_000


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("host", "headers", "told"),
    [
        (
            "dynamodb.us-east-1.amazonaws.com",
            {"X-Amz-Target": "DynamoDB_20120810.ListTables"},
            '_type":"NotEmulated"',
        ),
        ("sqs.us-east-1.amazonaws.com", {"Content-Type": "application/x-www-form-urlencoded"}, "<ErrorResponse><Err"),
        ("ec2.us-east-1.amazonaws.com", {"Content-Type": "application/x-www-form-urlencoded"}, "<Response><Errors>"),
        ("route53.amazonaws.com", {}, "<Code>NotEmulated</Code>"),
    ],
)
def test_a_service_that_is_not_served_is_refused_by_name_in_its_own_shape(environment, scheme, host, headers, told):
    answer = _session(environment).post(f"{scheme}://{host}/", headers=headers, data=b"x")
    assert answer.status_code == 400
    assert told in answer.text
    assert host in answer.text
    assert "nothing was sent to AWS" in answer.text


def test_the_address_of_credentials_is_refused(environment):
    answer = _session(environment).get("http://169.254.169.254/latest/meta-data/")
    assert (answer.status_code, "credentials" in answer.text) == (403, True)


def test_other_hosts_are_reached_as_they_are(environment, outside):
    answer = _session(environment).get(f"http://127.0.0.2:{outside}/a?b=c", headers={"X-Own": "1"}).json()
    assert answer["path"] == "/a?b=c"
    assert {name.lower(): value for name, value in answer["headers"].items()}["x-own"] == "1"


def _tunnel(variables, target):
    """Ask for a tunnel; return the connection and the first line of the answer."""
    host, _, port = variables["HTTPS_PROXY"].removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return connection, connection.recv(4096).split(b"\r\n")[0]


def test_a_tunnel_is_blind(environment, outside):
    connection, line = _tunnel(environment, f"127.0.0.2:{outside}")
    with connection:
        assert line.startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        text = b""
        while data := connection.recv(4096):
            text += data
    assert b'"path": "/x"' in text


@pytest.mark.parametrize(("target", "status"), [("127.0.0.2:1", b"502"), ("nonsense", b"400"), ("a:b", b"400")])
def test_a_tunnel_to_nowhere_is_refused(environment, target, status):
    connection, line = _tunnel(environment, target)
    connection.close()
    assert line.split(b" ")[1] == status


def test_offline_refuses_every_other_host(home):
    with local_aws(home, {}, offline=True) as variables:
        connection, line = _tunnel(variables, "example.com:443")
        connection.close()
        assert line.startswith(b"HTTP/1.1 403 ")
        assert _session(variables).get("http://example.com/").status_code == 403
        assert _session(variables).get("https://s3.amazonaws.com/").status_code == 200


def test_the_callers_own_proxy_leads_outside(home, outside, monkeypatch):
    """The stand-in for a proxy answers itself, so its answer shows that it was asked."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{outside}")
    monkeypatch.setenv("no_proxy", "direct.example")
    with local_aws(home, {}) as variables:
        assert _session(variables).get("http://example.com/page").json()["path"] == "http://example.com/page"
        assert _session(variables).get("http://direct.example/page").status_code == 502


def test_a_program_gets_none_of_the_callers_credentials(tmp_path):
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws" / "config").write_text("[profile work]\nregion = eu-west-1\naws_secret_access_key = real\n")
    (tmp_path / "home" / "exec").mkdir(parents=True)
    authority = Authority(tmp_path / "home" / "exec")
    variables = child_environment(
        {
            "PATH": "/bin",
            "AWS_CONFIG_FILE": str(tmp_path / "aws" / "config"),
            "AWS_PROFILE": "other",
            "AWS_SESSION_TOKEN": "real",
            "AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/",
            "NO_PROXY": ".amazonaws.com",
            "PYTHONPATH": "/mine",
        },
        home=tmp_path / "home",
        proxy_url="http://127.0.0.1:1",
        credentials={"AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "local"},
        authority=authority.certificate_path,
    )
    assert "real" not in str(variables)
    assert not any(name.startswith(("AWS_ENDPOINT_URL", "AWS_CONTAINER", "AWS_PROFILE")) for name in variables)
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1,::1,.localhost"
    assert variables["PYTHONPATH"].endswith(":/mine")
    assert "[profile work]" in Path(variables["AWS_CONFIG_FILE"]).read_text()
    keys = Path(variables["AWS_SHARED_CREDENTIALS_FILE"]).read_text()
    assert keys.count("aws_secret_access_key = local") == 3  # default, other, work
    assert "real" not in keys
    bundle = Path(variables["SSL_CERT_FILE"]).read_bytes()
    assert authority.certificate_path.read_bytes().strip() in bundle
    assert bundle.count(b"BEGIN CERTIFICATE") > 10


def _exec(home, *arguments, **options):
    command = [sys.executable, "-m", "launcher", "exec", *arguments]
    environment = {**os.environ, "LAUNCHER_HOME": str(home)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_program_runs_with_its_arguments_and_its_exit_code(home):
    program = _exec(home, "--", sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "--offline", "-x")
    output, _ = program.communicate(timeout=60)
    assert (program.returncode, output.strip()) == (7, "['--offline', '-x']")


def test_a_request_past_the_proxy_is_refused_in_pythons_below(home):
    script = """
import socket, subprocess, sys
for host in ("sts.amazonaws.com", b"api.aws", "169.254.169.254"):
    try:
        socket.create_connection((host, 80), 1)
    except ConnectionRefusedError as error:
        print("launcher exec" in str(error))
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""
    path = home.parent / "program.py"
    path.write_text(script)
    output, _ = _exec(home, "--", sys.executable, str(path)).communicate(timeout=60)
    assert output.split() == ["True"] * 6


def test_a_programs_own_sitecustomize_is_loaded_too(home, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import os; print('AWS_CONFIG_FILE' in os.environ)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    output, _ = _exec(home, "--", sys.executable, "-c", "print('program')").communicate(timeout=60)
    assert output.split() == ["False", "True", "program"]  # the launcher's own Python, and the program's


def test_a_signal_reaches_the_program(home):
    script = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(3))\nprint('up', flush=True)\ntime.sleep(60)"
    )
    program = _exec(home, "--", sys.executable, "-c", script)
    assert program.stdout.readline() == "up\n"
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    assert program.returncode == 3


def test_a_program_that_is_not_there_is_named(home):
    program = _exec(home, "--", "no-such-program")
    _, told = program.communicate(timeout=60)
    assert program.returncode == errors.BadInputError.exit_code
    assert "there is no program 'no-such-program'" in told


def test_the_proxy_ends_with_the_program_and_drops_who_is_connected(home, caplog):
    with local_aws(home, {}) as variables:
        connection, _ = _tunnel(variables, "sts.amazonaws.com:443")
    started = time.monotonic()
    with connection:
        connection.settimeout(10)
        assert connection.recv(1) == b""
    assert time.monotonic() - started < 5
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
    with pytest.raises(requests.exceptions.ConnectionError):
        _session(variables).get("https://sts.amazonaws.com/", timeout=5)


def test_every_service_that_is_served_has_a_host():
    assert all(service_of_host(f"{service}.us-east-1.amazonaws.com") == service for service in SERVED)


def test_a_notebook_reaches_the_local_aws_until_the_extension_is_unloaded(home):
    """By a plain Python: the two functions are all that IPython calls."""
    script = """
import os, socket, sys
os.environ["AWS_PROFILE"] = "mine"
before = dict(os.environ)
import launcher
assert "launcher.proxy" not in sys.modules
launcher.load_ipython_extension(None)
launcher.load_ipython_extension(None)
import boto3
print(boto3.client("sts").get_caller_identity()["Account"], os.environ.get("AWS_PROFILE"))
def refused():
    try:
        socket.getaddrinfo("sts.amazonaws.com", 443)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
print(refused())
launcher.unload_ipython_extension(None)
print(dict(os.environ) == before)
launcher.load_ipython_extension(None)
print(boto3.client("sts").get_caller_identity()["Account"])
"""
    output = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "LAUNCHER_HOME": str(home)}, capture_output=True, text=True
    )
    assert output.stdout.split() == ["000000000000", "None", "True", "True", "000000000000"], output.stderr
    assert "boto3 was imported before" in output.stderr
