"""What an endpoint answers over HTTP, as SageMaker Runtime does; boto3's own client asks where it can."""

import http.client
import json
import threading
import time

import boto3
import botocore.config
import botocore.exceptions
import pytest

from launcher.endpoints.capture import Capture, CaptureSettings
from launcher.endpoints.dataset import read_lines
from launcher.endpoints.invocations import MAX_PAYLOAD_BYTES, Invocations
from launcher.endpoints.replies import RefusedError
from launcher.endpoints.router import Router
from launcher.endpoints.routing import Instance, Routes, Variant
from launcher.s3_server.listening import listen
from launcher.storage import FileStorage
from tests.model_server import FakeModel, policy_answer

BODY = json.dumps({"instances": [[1.0, 2.0]]})


class NoSurroundings:
    def state(self):
        return {}

    def wake(self):
        raise AssertionError

    def accept_later(self, headers, body):
        raise AssertionError


@pytest.fixture
def models():
    """Return a function that starts a server in place of a container."""
    started = []

    def start(answer=policy_answer, port=0):
        started.append(FakeModel(answer, port))
        return started[-1]

    yield start
    for model in started:
        model.kill()


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a router for containers, by variant and weight."""
    routers = []

    def start(*variants, settings=None):
        routes = Routes(
            [
                Variant(
                    name, weight, tuple(Instance(f"{name}-{n}", name, m.address, up=True) for n, m in enumerate(ms))
                )
                for name, weight, ms in variants
            ]
        )
        capture = settings and Capture("e", settings, tmp_path / "spool", FileStorage())
        listener = listen("127.0.0.1")
        invocations = Invocations("e", routes, capture)
        router = Router("e", listener, "token", invocations, NoSurroundings())
        router.invocations = invocations
        router.port = listener.getsockname()[1]
        router.routes = routes
        router.start()
        routers.append(router)
        return router

    yield start
    for router in routers:
        router.end(1)


def runtime_client(router, retries=0):
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{router.port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=botocore.config.Config(retries={"total_max_attempts": retries + 1}),
    )


def raw(router, method="POST", path="/endpoints/e/invocations", body=BODY, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_boto3_invokes_an_endpoint(serve, models):
    model = models()
    answer = runtime_client(serve(("AllTraffic", 1, [model]))).invoke_endpoint(
        EndpointName="e", Body=BODY, ContentType="application/json", Accept="application/json"
    )
    assert json.loads(answer["Body"].read())["predictions"] == [[0.25, 0.75]]
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")


def test_the_container_gets_sagemakers_headers_and_no_others(serve, models):
    model = models()
    raw(
        serve(("AllTraffic", 1, [model])),
        Content_Type="application/json",
        Accept="text/csv",
        Authorization="AWS4-HMAC-SHA256 secret",
        X_Other="1",
        X_Amzn_SageMaker_Custom_Attributes="a=b",
        X_Amzn_SageMaker_Inference_Id="id-1",
        X_Amzn_SageMaker_Session_Id="s-1",
    )
    headers = {name.lower() for name in model.requests[0][0]}
    assert headers == {
        *("host", "content-type", "accept", "content-length"),
        *(f"x-amzn-sagemaker-{name}" for name in ("custom-attributes", "inference-id", "session-id")),
    }


def test_the_containers_custom_attributes_come_back_and_its_other_headers_do_not(serve, models):
    def answer(_headers, _body):
        return 200, {"X-Amzn-SageMaker-Custom-Attributes": "trace=7", "Set-Cookie": "a=b"}, b"{}"

    answer = runtime_client(serve(("AllTraffic", 1, [models(answer)]))).invoke_endpoint(EndpointName="e", Body=BODY)
    assert answer["CustomAttributes"] == "trace=7"
    assert "set-cookie" not in answer["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize(("status", "whose"), [(400, "client"), (500, "server")])
def test_an_error_of_the_container_is_a_model_error_with_its_status_and_words(serve, models, status, whose):
    router = serve(("AllTraffic", 1, [models(lambda *_: (status, {}, b"record 1 is odd"))]))
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        runtime_client(router).invoke_endpoint(EndpointName="e", Body=BODY)
    answer = raised.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (status, "record 1 is odd")
    assert (
        f'Received {whose} error ({status}) from primary with message "record 1 is odd"' in answer["Error"]["Message"]
    )


def test_an_unknown_endpoint_and_variant_are_named(serve, models):
    client = runtime_client(serve(("AllTraffic", 1, [models()])))
    with pytest.raises(client.exceptions.ValidationError, match="Endpoint other of account 000000000000 not found"):
        client.invoke_endpoint(EndpointName="other", Body=BODY)
    with pytest.raises(client.exceptions.ValidationError, match="Variant blue not found"):
        client.invoke_endpoint(EndpointName="e", Body=BODY, TargetVariant="blue")
    with pytest.raises(client.exceptions.ValidationError, match="multi-model"):
        client.invoke_endpoint(EndpointName="e", Body=BODY, TargetModel="a.tar.gz")


def test_a_body_over_sagemakers_limit_is_refused_before_it_is_read(serve, models):
    model = models()
    router = serve(("AllTraffic", 1, [model]))
    status, _, text = raw(router, body=b"x" * (MAX_PAYLOAD_BYTES + 1))
    assert (status, model.requests) == (413, [])
    assert b"HTTP content length exceeded 6291456 bytes" in text
    assert raw(router, body=b'{"instances": [[1]]}')[0] == 200


def test_a_web_page_gets_nothing(serve, models):
    """Neither by a request of its own, nor by a name that its owner points at this machine."""
    model = models()
    router = serve(("AllTraffic", 1, [model]))
    assert raw(router, Origin="http://evil.example")[0] == 403
    assert raw(router, Host="evil.example")[0] == 403
    assert model.requests == []


def test_target_variant_and_weights_say_who_answers(serve, models):
    blue, green = models(), models()
    router = serve(("blue", 1, [blue]), ("green", 0, [green]))
    for _ in range(10):
        raw(router)
    assert (len(blue.requests), len(green.requests)) == (10, 0)
    assert raw(router, X_Amzn_SageMaker_Target_Variant="green")[1]["x-Amzn-Invoked-Production-Variant"] == "green"


def test_requests_share_by_weight(serve, models):
    blue, green = models(), models()
    router = serve(("blue", 3, [blue]), ("green", 1, [green]))
    for _ in range(200):
        raw(router)
    assert 110 < len(blue.requests) < 185  # 150 expected; six standard deviations away on both sides


def test_response_streams_are_read_by_boto3(serve, models):
    router = serve(("AllTraffic", 1, [models(lambda *_: (200, {"Content-Type": "text/plain"}, [b"one ", b"two"]))]))
    answer = runtime_client(router).invoke_endpoint_with_response_stream(EndpointName="e", Body=BODY)
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"one two"
    assert answer["ContentType"] == "text/plain"


def test_a_stream_that_breaks_off_says_so(serve, models):
    def parts():
        yield b"one "
        raise ConnectionAbortedError

    def answer(*_):
        return 200, {}, parts()

    model = models(answer)
    model.handle_error = lambda *_: None
    stream = runtime_client(serve(("AllTraffic", 1, [model]))).invoke_endpoint_with_response_stream(
        EndpointName="e", Body=BODY
    )["Body"]
    with pytest.raises(botocore.exceptions.EventStreamError, match="ModelStreamError"):
        list(stream)


def test_an_error_before_a_stream_begins_is_a_model_error(serve, models):
    client = runtime_client(serve(("AllTraffic", 1, [models(lambda *_: (503, {}, b"busy"))])))
    with pytest.raises(client.exceptions.ModelError):
        client.invoke_endpoint_with_response_stream(EndpointName="e", Body=BODY)


def test_a_container_that_goes_away_over_requests_loses_none(serve, models):
    """It is killed under load, and another takes its port: whoever asked in between gets an answer all the same."""
    model = models()
    router = serve(("AllTraffic", 1, [model]))
    statuses, over = [], threading.Event()

    def ask():
        while not over.is_set():
            statuses.append(raw(router)[0])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.1)
        port = model.address[1]
        model.kill()
        model = models(port=port)
    time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}


def test_a_request_that_ends_its_container_each_time_is_given_up(serve, models):
    def end(*_):
        raise ConnectionAbortedError

    model = models(end)
    status, _, text = raw(serve(("AllTraffic", 1, [model])))
    assert (status, len(model.requests)) == (424, 3)
    assert json.loads(text)["OriginalStatusCode"] == 0


def test_an_exchange_of_the_containers_under_load_loses_no_request(serve, models):
    """The old one is closed as soon as nothing is under way on it, as after an update."""
    old = models()
    router = serve(("AllTraffic", 1, [old]))
    statuses, over = [], threading.Event()

    def ask():
        while not over.is_set():
            statuses.append(raw(router)[0])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        new = models()
        before = router.routes.variants[0].instances[0]
        router.routes.exchange([Variant("AllTraffic", 1, (Instance("new", "AllTraffic", new.address, up=True),))])
        while before.in_flight:
            time.sleep(0.001)
        old.kill()
        old = new
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}


def test_an_answer_is_captured_before_it_is_given(serve, models, tmp_path):
    router = serve(
        ("AllTraffic", 1, [models()]),
        settings=CaptureSettings(f"file://{tmp_path}/log"),
    )
    _, headers, text = raw(
        router,
        Content_Type="application/json",
        X_Amzn_SageMaker_Inference_Id="id-1",
        X_Amzn_SageMaker_Custom_Attributes="episode_id=7,step=0",
    )
    [(variant, line)] = read_lines(tmp_path / "log" / "e")
    captured = line["captureData"]
    assert variant == "AllTraffic"
    assert captured["endpointInput"] == {
        "observedContentType": "application/json",
        "mode": "INPUT",
        "data": BODY,
        "encoding": "JSON",
    }
    assert captured["endpointOutput"]["data"] == text.decode()
    assert line["eventMetadata"]["inferenceId"] == headers["X-Amzn-SageMaker-Inference-Id"] == "id-1"
    assert line["eventMetadata"]["customAttributes"] == ["episode_id=7,step=0"]


def test_an_answer_that_cannot_be_captured_is_not_given(serve, models, tmp_path):
    (tmp_path / "log").write_text("in the way")
    router = serve(("AllTraffic", 1, [models()]), settings=CaptureSettings(f"file://{tmp_path}/log"))
    status, _, text = raw(router)
    assert status == 500
    assert b"could not be captured" in text


def test_a_reward_is_written_as_ground_truth(serve, models, tmp_path):
    router = serve(("AllTraffic", 1, [models()]), settings=CaptureSettings(f"file://{tmp_path}/log"))
    reward = {"InferenceId": "id-1", "Reward": 1.5, "Terminated": True}
    assert raw(router, path="/endpoints/e/rewards", body=json.dumps(reward))[0] == 200
    [(_, line)] = read_lines(tmp_path / "log" / "e")
    assert line["eventMetadata"]["eventId"] == "id-1"
    assert json.loads(line["groundTruthData"]["data"]) == {"Reward": 1.5, "Terminated": True}


@pytest.mark.parametrize(
    "reward",
    ["x", "[]", '{"Reward": 1}', '{"InferenceId": "a", "Reward": NaN}', '{"InferenceId": "a", "Reward": true}'],
)
def test_a_reward_that_is_none_is_refused(serve, models, tmp_path, reward):
    router = serve(("AllTraffic", 1, [models()]), settings=CaptureSettings(f"file://{tmp_path}/log"))
    assert raw(router, path="/endpoints/e/rewards", body=reward)[0] == 400
    assert list((tmp_path).rglob("*.jsonl")) == []


def test_a_strangers_question_to_the_process_is_not_answered(serve, models):
    assert raw(serve(("AllTraffic", 1, [models()])), "POST", "/_launcher/wake/nonce/proof")[0] == 404


def test_a_container_that_does_not_answer_in_time_is_a_model_error(serve, models):
    """AWS gives it 60 s, and the status 0, because the container said none."""
    slow = models(lambda *_: time.sleep(2) or (200, {}, b"late"))
    router = serve(("AllTraffic", 1, [slow]))
    with pytest.raises(RefusedError) as raised:
        router.invocations.answer({}, b"", seconds=0.3)
    assert (raised.value.status, raised.value.values["OriginalStatusCode"]) == (424, 0)
    assert "Your invocation timed out" in str(raised.value)
