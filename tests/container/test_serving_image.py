"""``docker run IMAGE serve``: the bundled image, and others that keep SageMaker's contract without knowing of us."""

import contextlib
import http.client
import json
import subprocess
import time

import pytest
import torch

from batch_rl.learning.export import export_policy
from batch_rl.networks import PolicyNetwork, initial_parameters, seeded_generator
from launcher.runtimes.image import build_image, image_tag
from tests import foreign_images
from tests.container.serving import ask
from tests.container.test_image import HARDENED

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torch.jit.*")]

TIGHT = [argument for argument in HARDENED if argument not in ("--network", "none", "--init")]


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def bundled_image(tmp_path_factory):
    tag = image_tag()
    if docker("image", "inspect", tag).returncode != 0:
        build_image(tag, tmp_path_factory.mktemp("build") / "build.log")
    return tag


@contextlib.contextmanager
def served(image, model, *options):
    """Run an image as SageMaker does, and yield its port on this machine and its name; 503 counts as an answer."""
    mount = ("--volume", f"{model}:/opt/ml/model:ro", "--publish", "127.0.0.1::8080")
    result = docker("run", "--detach", *options, *mount, image, "serve")
    assert result.returncode == 0, result.stderr
    name = result.stdout.strip()
    try:
        port = int(docker("port", name, "8080").stdout.partition("\n")[0].rpartition(":")[2])
        end = time.monotonic() + 120
        while True:
            assert time.monotonic() < end, docker("logs", name).stderr
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(port, "GET", "/ping").status == 200:
                    break
            time.sleep(0.05)
        yield port, name
    finally:
        docker("rm", "--force", name)


def test_the_bundled_image_serves_a_trained_policy_as_any_user_and_drains_as_process_1(bundled_image, tmp_path):
    parameters = initial_parameters((4, 16, 2), 1, seeded_generator(0, 0))
    network = PolicyNetwork(parameters, torch.zeros(4), torch.ones(4), 0.5)
    export_policy(network, tmp_path / "model")
    options = [option for option in TIGHT if option != "--rm"]
    with served(bundled_image, tmp_path / "model", *options, "--user", "4242:4242") as (port, name):
        body = json.dumps([[0.1, 0.2, 0.3, 0.4]]).encode()
        reply = ask(port, "POST", "/invocations", body, content_type="application/json")
        expected = torch.softmax(network.logits(torch.tensor([[0.1, 0.2, 0.3, 0.4]])), dim=1)
        assert reply.json()["predictions"][0] == pytest.approx(expected[0].tolist(), abs=1e-6)
        assert ask(port, "GET", "/execution-parameters").json()["BatchStrategy"] == "MULTI_RECORD"
        docker("stop", "--time", "60", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"


def test_the_bundled_image_says_what_is_missing_in_the_model(bundled_image, tmp_path):
    result = docker(
        "run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/opt/ml/model:ro", bundled_image, "serve"
    )
    assert result.returncode == 1
    assert "/opt/ml/model holds nothing: neither model.json" in result.stderr


def test_a_plain_app_is_served_by_the_same_command(tmp_path):
    (tmp_path / "factor").write_text("3")
    with served(foreign_images.plain_app(), tmp_path) as (port, _):
        reply = ask(port, "POST", "/invocations", b"[1, [2]]", content_type="application/json")
        assert reply.json() == [3.0, [6.0]]
        assert ask(port, "POST", "/invocations", b"fail").status == 500


TRIPLE = """
import json
def model_fn(model_dir): return 3
def input_fn(request_body, content_type): return json.loads(request_body)
def predict_fn(input_object, model): return [number * model for number in input_object]
def output_fn(prediction, accept): return json.dumps(prediction)
"""


@pytest.mark.parametrize("whose", ["ours", "aws"])
def test_a_users_functions_answer_alike_in_our_image_and_in_one_of_awss_toolkit(whose, request, tmp_path):
    image = request.getfixturevalue("bundled_image") if whose == "ours" else foreign_images.inference_toolkit()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(TRIPLE)
    with served(image, tmp_path) as (port, _):
        reply = ask(port, "POST", "/invocations", b"[1, 2]", content_type="application/json", accept="application/json")
        assert (reply.status, reply.json(), reply.headers["content-type"]) == (200, [3, 6], "application/json")
