"""An endpoint from its creation to its end: containers end, models are exchanged, processes go away."""

import contextlib
import json
import os
import signal
import threading
import time
from dataclasses import replace

import boto3
import pytest

from launcher.endpoints import service
from launcher.endpoints.dataset import captured_lines
from launcher.endpoints.fleet import MOST_RESTARTS
from launcher.endpoints.process import EndpointProcess
from launcher.errors import BadInputError, EndpointFailedError, InvocationError, NotFoundError, TakenError
from launcher.jobs.store import EndpointConfigStore, EndpointStore, ModelStore
from launcher.requests.endpoints import describe_endpoint
from launcher.s3_server import service as s3_service
from launcher.s3_server.listening import listen
from launcher.sdk.runtime_client import RuntimeClient
from launcher.sdk.session import Session
from launcher.serving.models import create_model
from tests.fakes import FakeRuntime

SERVER = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"crash":
            os._exit(7)
        answer = json.dumps({"predictions": [[0.25, 0.75]], "actions": [1], "who": "WHO", "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
print("serving", flush=True)
address = "127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])
ThreadingHTTPServer(address, Handler).serve_forever(0.02)
"""
ENDS = "print('no model here', flush=True); raise SystemExit(3)"
BODY = json.dumps({"instances": [[1.0, 2.0]]})
PYTHON = ("sh", "-c", 'exec python3 "$SAGEMAKER_BASE_DIR/model/server.py"')


class ScriptRuntime(FakeRuntime):
    """Runs the ``server.py`` of a model in place of its image."""

    def start(self, container):
        return super().start(replace(container, entry_point=PYTHON, arguments=()))

    def close(self, containers):
        for container in containers:
            execution = self.executions.pop((container.job_name, container.host), None)
            assert execution is None or execution.removed

    @property
    def running(self):
        return [execution for execution in list(self.executions.values()) if execution.child.poll() is None]


class World:
    """A home in which endpoints are carried by threads of the test, on a fake runtime."""

    def __init__(self, home, folder):
        self.home, self._folder = home, folder
        self.store = EndpointStore(home)
        self.client = RuntimeClient(home)
        self.runtime = ScriptRuntime()
        self.processes = []

    def model(self, name, script=SERVER):
        path = self._folder / name
        path.mkdir()
        (path / "server.py").write_text(script.replace("WHO", name))
        source = {"S3Uri": f"file://{path}", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"ModelDataSource": {"S3DataSource": source}}
        create_model({"ModelName": name, "PrimaryContainer": container}, ModelStore(self.home))
        return name

    def config(self, name, *models, count=1, **members):
        variants = [
            {"VariantName": f"v{n}", "ModelName": model, "InstanceType": "local", "InitialInstanceCount": count}
            for n, model in enumerate(models)
        ]
        service.create_config({"EndpointConfigName": name, "ProductionVariants": variants, **members}, self.home)
        return name

    def carry(self, name):
        """Be the endpoint's process, as ``service`` would start one."""
        listener = listen("127.0.0.1", self.store.load(name).port)
        process = EndpointProcess(self.store, name, listener, self.runtime)

        def run():
            with self.store.folder(name).driving(wait=True):
                process.run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.processes.append((process, thread))
        return process

    def ask(self, name="e", body=BODY, **options):
        return json.loads(self.client.invoke_endpoint(EndpointName=name, Body=body, **options)["Body"].read())


@pytest.fixture
def world(home, tmp_path, monkeypatch):
    world = World(home, tmp_path / "models")
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(service, "_start", lambda _store, name: world.carry(name))
    yield world
    for process, thread in world.processes:
        process.stop()
        thread.join(10)
    for execution in world.runtime.executions.values():
        execution.kill()


@pytest.fixture
def endpoint(world):
    """Return an endpoint 'e' that answers, by the model 'first'."""
    world.config("c", world.model("first"))
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    return world


@contextlib.contextmanager
def load(world, threads=3):
    """Ask without a pause meanwhile; yield what was answered, or raised."""
    answers, over = [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                answers.append(world.ask())
            except Exception as error:  # noqa: BLE001 - any of them is a lost request
                answers.append(error)

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield answers
    finally:
        over.set()
        for worker in workers:
            worker.join()


def lost(answers):
    return [answer for answer in answers if isinstance(answer, Exception)]


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_endpoint_answers_when_it_is_in_service(endpoint):
    assert endpoint.ask()["who"] == "first"
    assert endpoint.store.load("e").status == "InService"


def test_nothing_of_a_deleted_endpoint_is_left(endpoint):
    service.delete_endpoint("e", endpoint.home)
    assert list(endpoint.store.path.iterdir()) == []
    assert endpoint.runtime.running == []
    with pytest.raises(InvocationError, match="Endpoint e of account 000000000000 not found"):
        endpoint.ask()


def test_names_are_used_once_and_missing_ones_are_named_in_awss_words(endpoint):
    with pytest.raises(TakenError, match=r'Cannot create already existing endpoint "arn:aws:sagemaker:.*endpoint/e"'):
        service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, endpoint.home, endpoint.runtime)
    with pytest.raises(NotFoundError, match='Could not find endpoint "arn'):
        service.delete_endpoint("other", endpoint.home)
    with pytest.raises(NotFoundError, match="Could not find model"):
        endpoint.config("d", "no-model")


def test_its_model_and_configuration_may_be_deleted_meanwhile(endpoint):
    ModelStore(endpoint.home).remove("first")
    EndpointConfigStore(endpoint.home).remove("c")
    assert endpoint.ask()["who"] == "first"


def test_a_container_that_ends_is_started_again_and_no_request_is_lost(endpoint):
    with load(endpoint) as answers:

        def has_answered(pid):
            return lost(answers) or any(answer["pid"] == pid for answer in list(answers))

        for _ in range(2):
            before = endpoint.ask()["pid"]
            wait_until(lambda before=before: has_answered(before))
            os.kill(before, signal.SIGKILL)
            wait_until(lambda before=before: endpoint.ask()["pid"] != before)
        last = endpoint.ask()["pid"]
        wait_until(lambda: has_answered(last))
    assert lost(answers) == []
    assert len({answer["pid"] for answer in answers}) == 3


def test_a_container_that_goes_on_ending_fails_the_endpoint_with_its_last_lines(world):
    """It answers health checks, so that it is in service, and ends soon after."""
    ends_soon = SERVER.replace(
        "ThreadingHTTPServer(address", "signal.setitimer(signal.ITIMER_REAL, 0.3); ThreadingHTTPServer(address"
    )
    world.config("c", world.model("first", ends_soon))
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    wait_until(lambda: world.store.load("e").status == "Failed")
    assert len(world.runtime.started) == 1 + MOST_RESTARTS
    assert "Its last lines: serving" in world.store.load("e").failure_reason
    assert world.runtime.running == []
    with pytest.raises(EndpointFailedError, match="ended by itself with exit code 142"):
        world.ask()


def test_a_container_that_never_answers_fails_the_endpoint_at_once(world):
    world.config("c", world.model("first", ENDS))
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    with pytest.raises(EndpointFailedError, match="did not pass the ping health check") as raised:
        service.wait_in_service(world.store, "e")
    assert "exit code 3" in raised.value.message
    assert "no model here" in raised.value.message
    assert len(world.runtime.started) == 1
    service.delete_endpoint("e", world.home)
    assert list(world.store.path.iterdir()) == []


def test_an_update_under_load_loses_no_request(endpoint):
    endpoint.config("d", endpoint.model("second"), count=2)
    with load(endpoint) as answers:
        identity = service.update_endpoint({"EndpointName": "e", "EndpointConfigName": "d"}, endpoint.home)
        service.wait_in_service(endpoint.store, "e", identity)
        assert endpoint.ask()["who"] == "second"
    assert lost(answers) == []
    assert {answer["who"] for answer in answers} == {"first", "second"}
    wait_until(lambda: len(endpoint.runtime.running) == 2)
    wait_until(lambda: endpoint.store.load("e").leaving == {})


def test_an_update_that_fails_leaves_what_was_there(endpoint):
    endpoint.config("d", endpoint.model("broken", ENDS))
    identity = service.update_endpoint({"EndpointName": "e", "EndpointConfigName": "d"}, endpoint.home)
    with pytest.raises(EndpointFailedError, match="could not be updated, and answers as before"):
        service.wait_in_service(endpoint.store, "e", identity)
    assert endpoint.ask()["who"] == "first"
    record = service.describe(endpoint.store, "e")
    assert record.status == "InService"
    assert "no model here" in record.failure_reason
    assert record.current.config.config_name == "c"


def test_an_endpoint_is_not_updated_twice_at_once(endpoint):
    endpoint.config("d", endpoint.model("slow", f"import time; time.sleep(2)\n{SERVER}"))
    request = {"EndpointName": "e", "EndpointConfigName": "d"}
    identity = service.update_endpoint(request, endpoint.home)
    with pytest.raises(BadInputError, match='Cannot update in-progress endpoint "arn'):
        service.update_endpoint(request, endpoint.home)
    service.wait_in_service(endpoint.store, "e", identity)


@pytest.fixture
def shared(world):
    """Return an endpoint 'e' of two variants with a container each, all of whose requests 'v0' answers."""
    models = [world.model("blue"), world.model("green")]
    variants = [
        {"VariantName": f"v{n}", "ModelName": model, "InstanceType": "local", "InitialInstanceCount": 1,
         "InitialVariantWeight": 1.0 - n}
        for n, model in enumerate(models)
    ]  # fmt: skip
    service.create_config({"EndpointConfigName": "c", "ProductionVariants": variants}, world.home)
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    return world


def weights_request(**weights):
    members = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
    return {"EndpointName": "e", "DesiredWeightsAndCapacities": members}


def test_weights_change_without_a_new_container_and_hold_for_the_next_process(shared):
    assert {shared.ask()["who"] for _ in range(10)} == {"blue"}
    started = len(shared.runtime.started)
    with load(shared) as answers:
        identity = service.update_weights(weights_request(v0=0, v1=3), shared.home)
        record = service.wait_in_service(shared.store, "e", identity)
        assert {shared.ask()["who"] for _ in range(10)} == {"green"}
    assert lost(answers) == []
    described = describe_endpoint(record)["ProductionVariants"]
    assert [(variant["CurrentWeight"], variant["DesiredWeight"]) for variant in described] == [(0, 0), (3, 3)]
    process, thread = shared.processes[0]
    process.stop()
    thread.join()
    assert {shared.ask()["who"] for _ in range(10)} == {"green"}
    assert len(shared.runtime.started) == started


def test_an_update_after_other_weights_replaces_their_containers(shared):
    identity = service.update_weights(weights_request(v1=1), shared.home)
    service.wait_in_service(shared.store, "e", identity)
    shared.config("d", shared.model("next"))
    identity = service.update_endpoint({"EndpointName": "e", "EndpointConfigName": "d"}, shared.home)
    service.wait_in_service(shared.store, "e", identity)
    wait_until(lambda: len(shared.runtime.running) == 1)
    assert shared.ask()["who"] == "next"


def test_another_number_of_containers_comes_without_a_lost_request(shared):
    with load(shared) as answers:
        members = [{"VariantName": "v0", "DesiredInstanceCount": 2}]
        request = {"EndpointName": "e", "DesiredWeightsAndCapacities": members}
        identity = service.update_weights(request, shared.home)
        service.wait_in_service(shared.store, "e", identity)
    assert lost(answers) == []
    assert len({shared.ask()["pid"] for _ in range(40)}) == 2
    wait_until(lambda: len(shared.runtime.running) == 3)


def test_weights_of_variants_that_are_not_there_are_refused(shared):
    with pytest.raises(BadInputError, match=r'The variant name\(s\) "v7" is/are not present within endpoint conf'):
        service.update_weights(weights_request(v7=1), shared.home)
    with pytest.raises(BadInputError, match="no variant would have a weight above 0"):
        service.update_weights(weights_request(v0=0), shared.home)
    assert service.describe(shared.store, "e").status == "InService"


def test_another_process_finds_the_containers_and_the_port(endpoint):
    """The first one leaves as a killed one does: it stops nothing."""
    port, pid = endpoint.store.load("e").port, endpoint.ask()["pid"]
    process, thread = endpoint.processes[0]
    process.stop()
    thread.join()
    assert len(endpoint.runtime.running) == 1
    assert endpoint.ask()["pid"] == pid
    assert endpoint.store.load("e").port == port
    assert len(endpoint.processes) == 2


def test_an_update_that_was_asked_for_is_made_by_the_next_process(endpoint):
    process, thread = endpoint.processes[0]
    endpoint.config("d", endpoint.model("second"))
    process.stop()
    thread.join()
    identity = service.update_endpoint({"EndpointName": "e", "EndpointConfigName": "d"}, endpoint.home)
    service.wait_in_service(endpoint.store, "e", identity)
    assert endpoint.ask()["who"] == "second"


def test_variants_answer_by_name_and_their_containers_are_told_apart(world):
    world.config("c", world.model("blue"), world.model("green"), count=2)
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    assert {world.ask(TargetVariant="v0")["who"], world.ask(TargetVariant="v1")["who"]} == {"blue", "green"}
    assert len({world.ask(TargetVariant="v0")["pid"] for _ in range(40)}) == 2
    assert len(world.runtime.running) == 4


def test_what_is_captured_on_the_way_to_an_s3_survives_the_process(world, tmp_path):
    """Half a line that a killed process left is cut off before the file is sent."""
    from launcher.storage import storage_for

    bucket = Session().default_bucket()
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    world.config("c", world.model("first"), DataCaptureConfig=capture)
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    world.ask(InferenceId="one")
    process, thread = world.processes[0]
    process.stop()
    thread.join()
    [part] = (world.store.folder("e").path / "capture").rglob("*.jsonl")
    with part.open("ab") as file:
        file.write(b'{"captureData": {"endp')
    assert [line["eventMetadata"]["inferenceId"] for _, line in captured_lines(world.store, "e")] == ["one"]
    world.ask(InferenceId="two")
    service.delete_endpoint("e", world.home)
    uris = storage_for(f"s3://{bucket}").files_below(f"s3://{bucket}/capture/e")
    lines = list(captured_lines(world.store, "e", f"s3://{bucket}/capture"))
    assert len(uris) == 2
    assert {line["eventMetadata"]["inferenceId"] for _, line in lines} == {"one", "two"}


def test_requests_are_answered_in_s3_also_by_the_next_process(world):
    from launcher.sdk.async_inference import AsyncPredictor, WaiterConfig
    from launcher.sdk.deserializers import JSONDeserializer
    from launcher.sdk.predictor import Predictor
    from launcher.sdk.serializers import JSONSerializer

    session = Session()
    output = {"S3OutputPath": f"s3://{session.default_bucket()}/answers"}
    world.config("c", world.model("first"), AsyncInferenceConfig={"OutputConfig": output})
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    predictor = AsyncPredictor(Predictor("e", session, JSONSerializer(), JSONDeserializer()))
    assert predictor.predict({"instances": [[1]]})["who"] == "first"
    with pytest.raises(InvocationError, match="is asynchronous"):
        world.ask()
    process, thread = world.processes[0]
    process._queue.close()  # it takes requests, and answers none any more
    response = predictor.predict_async({"instances": [[2]]})
    process.stop()
    thread.join()
    service.ensure(world.store, "e")
    assert response.get_result(WaiterConfig(60, 1))["who"] == "first"


def test_boto3_asks_for_an_answer_in_s3_at_the_endpoints_port(world):
    bucket = Session().default_bucket()
    output = {"S3OutputPath": f"s3://{bucket}/answers", "S3FailurePath": f"s3://{bucket}/failures"}
    world.config("c", world.model("first"), AsyncInferenceConfig={"OutputConfig": output})
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    port = service.wait_in_service(world.store, "e").port
    keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    runtime = boto3.client("sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{port}", **keys)
    s3 = boto3.client("s3", endpoint_url=s3_service.ensure(world.home), **keys)
    s3.put_object(Bucket=bucket, Key="question.json", Body=BODY)
    answer = runtime.invoke_endpoint_async(
        EndpointName="e",
        InputLocation=f"s3://{bucket}/question.json",
        ContentType="application/json",
        InferenceId="q-1",
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "q-1"
    assert answer["FailureLocation"].startswith(f"s3://{bucket}/failures/")
    key = answer["OutputLocation"].removeprefix(f"s3://{bucket}/")
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["who"] == "first"


def test_an_asynchronous_request_that_the_container_refuses_has_its_reason_in_s3(world):
    from launcher.errors import AsyncInferenceError
    from launcher.sdk.async_inference import AsyncPredictor
    from launcher.sdk.predictor import Predictor

    session = Session()
    output = {"S3OutputPath": f"s3://{session.default_bucket()}/answers"}
    refuses = SERVER.replace("send_response(200)\n        self.send_header(\"Content-Type\"",
                             "send_response(400)\n        self.send_header(\"Content-Type\"")  # fmt: skip
    world.config("c", world.model("first", refuses), AsyncInferenceConfig={"OutputConfig": output})
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    with pytest.raises(AsyncInferenceError, match=r"Received client error \(400\) from primary"):
        AsyncPredictor(Predictor("e", session)).predict(b"x")
