"""A model's container answers requests of this machine, whichever runtime runs it, and leaves nothing behind."""

import json
import tarfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import ArtifactError, ModelHostError
from launcher.jobs.folder import JobFolder
from launcher.jobs.model_spec import ModelSpec
from launcher.runtimes import get_runtime
from launcher.serving.model_host import ModelHost, check_model_data, lay_out_model, plan_host
from tests.fakes import FakeRuntime

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ping" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"got": body.decode(), "arguments": sys.argv[1:], "colour": os.environ["COLOUR"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
print("serving", flush=True)
address = os.environ.get("LAUNCHER_SERVE_HOST", "0.0.0.0"), int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
HTTPServer(address, Handler).serve_forever()
"""
PYTHON = ("sh", "-c", 'exec python3 "${SAGEMAKER_BASE_DIR:-/opt/ml}/model/server.py" "$@"', "sh")
RUNTIMES = ["fake", "process", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return FakeRuntime() if request.param == "fake" else get_runtime(request.param)


@pytest.fixture
def host_of(tmp_path, runtime):
    """Return hosts of a model that is a script; each call is another process's view of the same container."""
    hosts = []

    def make(script=SERVER, *, limit_seconds=60, host="algo-1", hosts_of_job=(), **members):
        model_path = tmp_path / "model"
        model_path.mkdir(exist_ok=True)
        (model_path / "server.py").write_text(script)
        folder = JobFolder(tmp_path / "home" / "transform-jobs" / "job-1")
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.make_work_path()
        model = ModelSpec("model-1", model_uri=f"file://{model_path}", model_form="folder", **members)
        plan = plan_host(
            model,
            folder,
            home=tmp_path / "home",
            kind="transform-jobs",
            environment={"COLOUR": "red"},
            limit_seconds=limit_seconds,
            host=host,
            hosts=hosts_of_job,
        )
        container = replace(plan.container, entry_point=PYTHON)
        runtime.check(container)
        runtime.prepare(container)
        hosts.append(ModelHost(runtime, replace(plan, container=container), tmp_path / "home"))
        return hosts[-1]

    yield make
    for host in hosts:
        host.kill()


def ask(address, body):
    url = f"http://{address[0]}:{address[1]}/invocations"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=10) as answer:
        return json.load(answer)


def test_a_container_that_serves_is_reached_and_found_again_and_leaves_nothing(host_of, runtime):
    host = host_of()
    host.start()
    address = host.wait_until_healthy()
    assert ask(address, "hello") == {"got": "hello", "arguments": ["serve"], "colour": "red"}
    other = host_of()  # as another process sees it
    assert other.find()
    assert other.wait_until_healthy() == address
    other.stop(grace_seconds=5)
    with pytest.raises((urllib.error.URLError, OSError)):
        ask(address, "again")
    if not isinstance(runtime, FakeRuntime):
        assert runtime.leftovers(host.container.labels["launcher.home"]) == []


def test_a_container_that_ends_before_it_serves_is_told_with_its_last_lines(host_of):
    host = host_of("print('no such layer: dense_7'); raise SystemExit(3)")
    host.start()
    with pytest.raises(ModelHostError, match="ended by itself with exit code 3") as caught:
        host.wait_until_healthy()
    assert caught.value.log_lines == ("no such layer: dense_7",)


def test_a_container_that_never_answers_its_health_check_fails_when_its_time_is_up(host_of):
    host = host_of("import time; print('loading', flush=True); time.sleep(600)", limit_seconds=1)
    host.start()
    deadline, log = time.monotonic() + 60, Path(host.container.log_path)
    while not log.exists() or not log.read_text():
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.05)
    with pytest.raises(ModelHostError, match="did not pass the ping health check within 1 s") as caught:
        host.wait_until_healthy()
    assert caught.value.log_lines == ("loading",)


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["docker"], indirect=True)
def test_a_model_without_a_network_still_answers_this_machine(host_of):
    looks_out = SERVER.replace('print("serving"', 'import socket\nprint(socket.gethostname(), "serving"')
    host = host_of(looks_out, enable_network_isolation=True)
    host.start()
    assert ask(host.wait_until_healthy(), "hello")["got"] == "hello"


def test_an_archive_with_a_link_is_no_model(tmp_path):
    archive = tmp_path / "model.tar.gz"
    link = tarfile.TarInfo("latest")
    link.type, link.linkname = tarfile.SYMTYPE, "weights"
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(tarfile.TarInfo("weights"))
        file.addfile(link)
    folder = JobFolder(tmp_path / "home" / "transform-jobs" / "job-1")
    model = ModelSpec("model-1", model_uri=f"file://{archive}", model_form="archive")
    plan = plan_host(model, folder, home=tmp_path / "home", kind="transform-jobs")
    with pytest.raises(ArtifactError, match="symbolic link 'latest'"):
        lay_out_model(plan)


def test_model_data_that_are_not_there_are_refused_in_the_words_of_aws(tmp_path):
    uri = f"file://{tmp_path}/model.tar.gz"
    with pytest.raises(ArtifactError, match=f"Could not find model data at {uri}"):
        check_model_data(ModelSpec("model-1", model_uri=uri, model_form="archive"))


@pytest.mark.docker
@pytest.mark.parametrize("runtime", ["docker"], indirect=True)
def test_hosts_without_a_way_out_share_a_network_that_goes_after_the_last(host_of, runtime):
    names = ("algo-1", "algo-2")
    hosts = [host_of(host=name, hosts_of_job=names, enable_network_isolation=True) for name in names]
    for host in hosts:
        host.start()
    for host in hosts:
        assert ask(host.wait_until_healthy(), "hello")["got"] == "hello"
    for host in hosts:
        host.stop(grace_seconds=5)
    hosts[0].close()
    assert runtime.leftovers(hosts[0].container.labels["launcher.home"]) == []
