"""Deployed models, each by a process of its own, on the runtimes that there are."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest
import torch
from launcher.deserializers import CSVDeserializer, JSONDeserializer, NumpyDeserializer
from launcher.serializers import CSVSerializer, JSONSerializer, NumpySerializer

from batch_rl.learning.export import export_policy
from batch_rl.networks import PolicyNetwork, initial_parameters, seeded_generator
from launcher import DataCaptureConfig, Model, ModelError, Predictor, Session
from launcher.endpoints import service
from launcher.endpoints.dataset import build_rows, captured_lines
from launcher.jobs.store import EndpointConfigStore, EndpointStore, JobStore, ModelStore
from launcher.running.leftovers import find_leftovers
from tests import foreign_images

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*")

RUNTIMES = ["process", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow])]
OBSERVATION = [0.1, 0.2, 0.3, 0.4]
HANDLERS = """
import os, random
def model_fn(folder):
    return None
def predict_fn(data, model):
    if len(data) > 1:
        raise ValueError("one at a time")
    return {"predictions": [[0.25, 0.75]], "actions": [int(random.random() < 0.75)]}
"""


@pytest.fixture
def deployed(home):
    """Return a function that deploys, and see to it that nothing deployed is left."""
    yield lambda model, **options: model.deploy(1, "local", JSONSerializer(), JSONDeserializer(), **options)
    store = EndpointStore(home)
    for name in store.names():
        service.delete_endpoint(name, home)


@pytest.fixture
def handlers(tmp_path):
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "inference.py").write_text(HANDLERS)
    return str(folder)


def processes_of(name, home):
    """Return the ids of the processes that carry an endpoint of this home."""
    ids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"launcher.endpoints" in words and name.encode() in words and f"LAUNCHER_HOME={home}".encode() in variables:
            ids.append(int(path.name))
    return ids


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_trained_policy_answers_with_the_probabilities_that_its_action_is_drawn_by(deployed, home, tmp_path, runtime):
    """Deploy, predict in three formats, report, make a dataset, delete: the same on both runtimes."""
    network = PolicyNetwork(
        initial_parameters((4, 16, 2), 1, seeded_generator(0, 0)), torch.zeros(4), torch.ones(4), 0.5
    )
    export_policy(network, tmp_path / "model")
    model = Model(model_data=str(tmp_path / "model"), runtime=runtime)
    capture = DataCaptureConfig(True, 100, f"{tmp_path}/log")
    predictor = deployed(model, endpoint_name="cartpole", data_capture_config=capture)
    expected = torch.softmax(network.logits(torch.tensor([OBSERVATION])), dim=1)[0].tolist()

    answer = predictor.predict({"instances": [OBSERVATION]}, episode_id=7, step=0)
    predictor.report_reward(predictor.last_inference_id, 1.0, terminated=True)
    assert answer["predictions"][0] == pytest.approx(expected, abs=1e-6)
    assert Predictor("cartpole", serializer=CSVSerializer(), deserializer=CSVDeserializer()).predict(OBSERVATION)
    arrays = Predictor("cartpole", serializer=NumpySerializer(), deserializer=NumpyDeserializer())
    assert arrays.predict([OBSERVATION]).shape == (1, 2)

    rows, _ = build_rows(captured_lines(EndpointStore(home), "cartpole"))
    assert [(row.episode_id, row.step.action, row.step.probabilities) for row in rows] == [
        ("7", answer["actions"][0], answer["predictions"][0])
    ]
    assert len(processes_of("cartpole", home)) == 1
    predictor.delete_model()
    predictor.delete_endpoint()
    assert processes_of("cartpole", home) == []
    assert [list(store(home).path.iterdir()) for store in (EndpointStore, EndpointConfigStore, ModelStore)] == [[]] * 3


def test_every_answer_is_in_the_log_when_the_process_is_killed_under_load(deployed, home, tmp_path, handlers):
    """SIGKILL at random moments; containers go on, requests are sent again, and no answer is missing."""
    capture = DataCaptureConfig(True, 100, f"{tmp_path}/log")
    predictor = deployed(
        Model(model_data=handlers, runtime="process"), endpoint_name="killed", data_capture_config=capture
    )
    answered, errors, over = {}, [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                answer = predictor.predict({"instances": [OBSERVATION]})
                answered[predictor.last_inference_id] = answer["actions"][0]
            except Exception as error:  # noqa: BLE001 - any of them is a lost request
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    killed, generator = set(), random.Random(11)
    for _ in range(3):
        before = len(answered)
        while len(answered) < before + 20 and not errors:
            time.sleep(0.01)
        time.sleep(generator.random() * 0.1)
        [process] = processes_of("killed", home)
        os.kill(process, signal.SIGKILL)
        killed.add(process)
    before = len(answered)
    while len(answered) < before + 20 and not errors:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(killed) == 3
    logged = {}
    for _, line in captured_lines(EndpointStore(home), "killed"):
        answer = json.loads(line["captureData"]["endpointOutput"]["data"])
        logged[line["eventMetadata"]["inferenceId"]] = answer["actions"][0]
    assert {identity: logged.get(identity) for identity in answered} == answered


def test_an_endpoint_outlives_the_program_that_made_it(deployed, home, handlers):
    """boto3's own client asks it, and gc leaves it alone; a record that it cannot read is the model's error."""
    script = "import launcher; launcher.Model(model_data={!r}, runtime='process').deploy(1, 'local', endpoint_name='e')"
    subprocess.run([sys.executable, "-c", script.format(handlers)], check=True, env={**os.environ}, timeout=120)
    assert Session().wait_for_endpoint("e")["EndpointStatus"] == "InService"
    assert find_leftovers(JobStore(home), with_work=True)[0] == []
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{EndpointStore(home).load('e').port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    answer = client.invoke_endpoint(EndpointName="e", Body=json.dumps([OBSERVATION]), ContentType="application/json")
    assert json.loads(answer["Body"].read())["predictions"] == [[0.25, 0.75]]
    with pytest.raises(ModelError) as raised:
        Predictor("e", serializer=JSONSerializer()).predict([OBSERVATION, OBSERVATION])
    assert (raised.value.original_status_code, raised.value.response["Error"]["Code"]) == (500, "ModelError")


@pytest.mark.docker
@pytest.mark.slow
def test_an_image_that_knows_nothing_of_us_is_deployed(deployed, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor").write_text("3")
    predictor = deployed(Model(foreign_images.plain_app(), str(tmp_path / "model")), endpoint_name="plain")
    assert predictor.predict([1, [2]]) == [3.0, [6.0]]
    with pytest.raises(ModelError):
        Predictor("plain").predict(b"fail")
