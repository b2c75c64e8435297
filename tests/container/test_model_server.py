"""The model server as a process: getting ready, workers that die, the end, and the policy of a trained model."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from batch_rl.acting.policies import softmax_policy
from batch_rl.learning.export import FORMATS, export_policy
from batch_rl.learning.support import ImitationSupport, NeighborSupport
from batch_rl.networks import PolicyNetwork, initial_parameters, seeded_generator
from model_server.errors import ServingError
from model_server.policy import load_policy
from tests.container.serving import CONTAINER, Load, running_server, starting_server

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

ONE_REQUEST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[1]"
RECORD = b"[0.1, -0.2, 0.3, -0.4]"
SLOW = """
import os, pathlib, time
def model_fn(model_dir): return pathlib.Path(model_dir)
def predict_fn(inputs, model):
    (model / "began").touch()
    while not (model / "may-end").exists():
        time.sleep(0.005)
    return os.getpid()
"""


def open_network(members: int = 2) -> PolicyNetwork:
    """Four values in, three actions, all of which may be played."""
    parameters = [2 * parameter for parameter in initial_parameters((4, 16, 8, 3), members, seeded_generator(0, 0))]
    return PolicyNetwork(parameters, torch.linspace(-1, 1, 4), torch.linspace(1, 2, 4), 0.5)


def masked_network(members: int = 2) -> PolicyNetwork:
    """Four values in, three actions, of which the log supports some; the first one was never logged."""
    parameters = [5 * parameter for parameter in initial_parameters((4, 16, 3), members, seeded_generator(0, 0))]
    behavior = [5 * parameter for parameter in initial_parameters((4, 8, 3), 1, seeded_generator(1, 0))]
    support = ImitationSupport(behavior, torch.tensor([False, True, True]), 0.3, 0.1)
    return PolicyNetwork(parameters, torch.zeros(4), torch.ones(4), 0.5, support=support)


@pytest.fixture(scope="module")
def policy_tree(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("policy")
    export_policy(masked_network(), base / "model")
    return base


@pytest.fixture(scope="module")
def server(policy_tree):
    with running_server(policy_tree, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        yield server


def connected(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def wait_for(condition, server):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, server.log
        time.sleep(0.005)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "torchscript" else []) for name in FORMATS]
)
def test_the_policy_that_is_served_is_the_one_that_is_scored(name, tmp_path):
    """Those of its actions that the log does not support have probability 0."""
    network = masked_network()
    export_policy(network, tmp_path, [name])
    (tmp_path / "model.npz").unlink()  # which would be served in its place
    check_served(network, tmp_path)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("supported", [False, True])
def test_without_torch_the_policy_that_is_served_is_the_one_that_is_scored_too(members, supported, tmp_path):
    network = masked_network(members) if supported else open_network(members)
    export_policy(network, tmp_path)
    check_served(network, tmp_path)
    script = (
        "import sys, pathlib; from model_server.policy import load_policy, preload\n"
        "folder = pathlib.Path(sys.argv[1]); preload(folder); load_policy(folder); print('torch' in sys.modules)"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(CONTAINER)}
    assert subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_policy_that_is_more_than_layers_is_served_by_its_program(tmp_path):
    parameters = initial_parameters((4, 8, 2), 1, seeded_generator(0, 0))
    support = NeighborSupport([torch.zeros(3, 4), torch.ones(2, 4)], 1.0, None)
    network = PolicyNetwork(parameters, torch.zeros(4), torch.ones(4), 0.5, support=support)
    export_policy(network, tmp_path)
    assert not (tmp_path / "model.npz").exists()
    check_served(network, tmp_path)


def test_weights_of_another_version_are_left_alone(tmp_path):
    network = open_network(1)
    export_policy(network, tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["arrays"]["version"] = 2
    (tmp_path / "model.json").write_text(json.dumps(description))
    (tmp_path / "model.npz").write_bytes(b"of a newer library")
    check_served(network, tmp_path)
    description["arrays"]["version"] = 1
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ServingError, match=r"model.npz does not hold a policy's weights"):
        load_policy(tmp_path)


def check_served(network, folder):
    observations = np.random.default_rng(0).normal(size=(5000, 4))
    served = load_policy(folder)(observations)
    scored = softmax_policy(network.q_array, network.temperature)(observations.astype(np.float32))
    np.testing.assert_allclose(served, scored, atol=1e-5)  # of float32, with logits this large
    assert ((served == 0) == (scored == 0)).all()
    assert network.support is None or 0 < (served == 0).mean() < 1
    np.testing.assert_allclose(served.sum(axis=1), 1, atol=1e-8)


def test_a_trained_model_is_served_without_any_code(server):
    observations = np.random.default_rng(1).normal(size=(100, 4))
    reply = server.invoke(json.dumps(observations.tolist()))
    assert reply.status == 200
    scored = softmax_policy(masked_network().q_array, 0.5)(observations.astype(np.float32))
    np.testing.assert_allclose(reply.json()["predictions"], scored, atol=1e-6)
    assert all(scored[row, action] > 0 for row, action in enumerate(reply.json()["actions"]))


def test_its_answers_to_json_lines_are_what_rollouts_are_collected_with(server, tmp_path):
    from batch_rl.acting.environments import read_predictions

    reply = server.invoke(RECORD + b"\n" + RECORD + b"\n", "application/jsonlines", accept="application/jsonlines")
    path = tmp_path / "states.json.out"
    path.write_bytes(reply.body)
    first, second = read_predictions(path)
    assert first == second == server.invoke(RECORD).json()["predictions"][0]


def test_a_worker_that_is_killed_under_load_is_replaced_and_only_what_it_held_is_lost(server):
    """Four clients at a time: a worker holds one request of each at the most."""
    clients, kills = 4, 3
    with Load(server.port, RECORD, clients) as load:
        load.wait_for(50)
        for _ in range(kills):
            before = server.worker_pids()
            os.kill(before[0], signal.SIGKILL)
            wait_for(lambda before=before: len(set(server.worker_pids()) - set(before)) == 1, server)
            load.wait_for(50)
    assert len(load.failures) <= clients * kills
    assert not [failure for failure in load.failures if "status" in failure]
    assert server.ask("GET", "/ping").status == 200


def test_connections_that_are_kept_are_shared_between_the_workers(tree):
    """Each is of one worker from its beginning; of many opened at once, no worker has all."""
    tree.write(
        "model/inference.py",
        "import os, time\ndef model_fn(folder): return None\n"
        "def transform_fn(model, body, content_type, accept):\n    time.sleep(0.05)\n    return str(os.getpid())\n",
    )
    with running_server(tree.base, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:

        def workers_of(_):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            with contextlib.closing(connection):
                pids = []
                for _ in range(3):
                    connection.request("POST", "/invocations", b"1", {"Content-Type": "text/csv"})
                    pids.append(connection.getresponse().read())
                return pids

        workers = set()
        for _ in range(20):  # on a busy machine, a worker may be asleep while the other takes a whole round
            with ThreadPoolExecutor(16) as clients:
                pids = list(clients.map(workers_of, range(16)))
            assert all(len(set(answers)) == 1 for answers in pids), "a connection stays with its worker"
            workers |= {answers[0] for answers in pids}
            if len(workers) == 2:
                break
    assert len(workers) == 2


def test_bad_http_is_refused_and_the_server_goes_on(server):
    with connected(server) as client:
        client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400")
    with connected(server) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n[0.1")
    assert server.invoke(RECORD).status == 200


def test_a_client_that_sends_too_much_still_reads_413(server):
    reply = server.invoke(b"1" * (7 << 20))
    assert reply.status == 413


def test_while_the_model_is_loaded_ping_is_503_and_sigterm_ends_the_server(tree):
    tree.write("model/inference.py", "import time\ndef model_fn(folder): time.sleep(600)\n")
    with starting_server(tree.base) as server:
        wait_for(server.ping, server)
        assert (server.ping().status, server.ping().json()) == (503, {"status": "loading"})
        assert server.invoke(RECORD).status == 503
        assert server.stop() == 0


def test_a_model_that_cannot_be_loaded_is_503_with_the_reason_and_then_the_end(tree):
    tree.write("model/code/inference.py", "def model_fn(folder):\n    raise ValueError('no weights')\n")
    with starting_server(tree.base, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        wait_for(lambda: (reply := server.ping()) and reply.json() != {"status": "loading"}, server)
        reply = server.ping()
        failed = {"status": "failed", "error": "model_fn raised ValueError: no weights"}
        assert (reply.status, reply.json()) == (503, failed)
        assert server.process.wait(60) == 1
        assert server.log.count("raise ValueError('no weights')") == 1
        assert server.log.endswith("serve: the model cannot be served: model_fn raised ValueError: no weights\n")


def test_a_worker_that_dies_while_it_loads_ends_the_server_after_three_tries(tree):
    tree.write("model/inference.py", "import os\ndef model_fn(folder): os._exit(9)\n")
    with starting_server(tree.base) as server:
        wait_for(lambda: (reply := server.ping()) and reply.json()["status"] == "failed", server)
        assert "exit code 9 while it loaded the model, 3 times" in server.ping().json()["error"]


def test_sigterm_lets_requests_in_flight_be_answered(tree):
    tree.write("model/inference.py", SLOW)
    with running_server(tree.base) as server, connected(server) as client:
        client.sendall(ONE_REQUEST)
        wait_for((tree.base / "model/began").exists, server)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.ping() is None, server)  # nobody listens any more
        assert server.process.poll() is None
        tree.write("model/may-end", "")
        answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert server.process.wait(60) == 0


def test_a_request_that_outlasts_the_grace_is_given_up(tree):
    tree.write("model/inference.py", SLOW)
    with running_server(tree.base, LAUNCHER_STOP_GRACE_SECONDS="1") as server:
        with connected(server) as client:
            client.sendall(ONE_REQUEST)
            wait_for((tree.base / "model/began").exists, server)
            assert server.stop() == 1
        assert "some requests were not answered" in server.log


def test_a_worker_with_a_request_over_the_timeout_is_replaced(tree):
    tree.write("model/inference.py", SLOW.replace("while not", "while inputs[0] and not"))
    with running_server(tree.base, SAGEMAKER_MODEL_SERVER_TIMEOUT="0.2") as server:
        first = server.invoke(b"[0]").json()
        assert server.invoke(b"[1]").status == 504
        wait_for(lambda: server.worker_pids() not in ([], [first]), server)
        assert server.invoke(b"[0]").json() not in (first, None)


def test_workers_end_when_their_supervisor_is_killed(tree):
    tree.write("model/inference.py", SLOW.replace("while not", "while inputs[0] and not"))
    with running_server(tree.base) as server:
        (worker,) = server.worker_pids()
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), server)


def test_a_port_that_is_taken_is_named(tree):
    tree.write("model/inference.py", SLOW)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with starting_server(tree.base, SAGEMAKER_BIND_TO_PORT=port) as server:
            assert server.process.wait(60) == 1
            assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in server.log


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "SAGEMAKER_MULTI_MODEL=true asks for a multi-model endpoint"),
        ({"SAGEMAKER_PROGRAM": "missing.py"}, "SAGEMAKER_PROGRAM is 'missing.py'"),
    ],
)
def test_what_cannot_be_served_ends_the_server_with_the_reason(variables, reason, tree):
    with starting_server(tree.base, **variables) as server:
        assert server.process.wait(60) == 1
        assert reason in server.log
        assert "Traceback" not in server.log


@pytest.mark.slow
def test_requirements_beside_the_code_are_installed_for_the_server(tree):
    package = tree.write("package/pyproject.toml", "")
    package.write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    tree.write("package/backend.py", BACKEND)
    tree.write("model/code/requirements.txt", f"{package.parent}\n")
    tree.write(
        "model/code/inference.py",
        "import served_by_this_test\n"
        "def model_fn(folder): return None\n"
        "def predict_fn(inputs, model): return served_by_this_test.ANSWER\n",
    )
    with running_server(tree.base, PIP_NO_BUILD_ISOLATION="0", PIP_NO_INDEX="1") as server:
        assert server.invoke(b"[1]").json() == 42


BACKEND = """
import pathlib, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "served_by_this_test-1-py3-none-any.whl"
    info = "served_by_this_test-1.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.writestr("served_by_this_test.py", "ANSWER = 42\\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: served_by_this_test\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_a_missing_package_of_the_server_is_named(tree):
    """A process may run in an environment that has none of it."""
    tree.write("shadow/uvicorn.py", "raise ModuleNotFoundError('No module', name='uvicorn')")
    shadowed = os.pathsep.join([str(tree.base / "shadow"), str(Path(__file__).parents[2] / "container")])
    with starting_server(tree.base, PYTHONPATH=shadowed) as server:
        assert server.process.wait(60) == 1
        assert f"serving needs the package uvicorn, which {sys.executable} does not have" in server.log
