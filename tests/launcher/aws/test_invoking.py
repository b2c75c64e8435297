"""SageMaker Runtime on the port of the local AWS: requests go to the endpoint's process and its answers come back."""

import json
import threading
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.aws.server import OnDemand
from launcher.endpoints import service
from launcher.s3_server.listening import listen
from launcher.s3_server.server import S3Server
from launcher.s3_server.store import ObjectStore
from tests.launcher.endpoints.test_endpoints import BODY, endpoint, world  # noqa: F401 - fixtures

STREAM = """
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in (b"first", b"second"):
            self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(word), word))
            self.wfile.flush()
            time.sleep(1)
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *_): pass
address = "127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])
ThreadingHTTPServer(address, Handler).serve_forever(0.02)
"""


@pytest.fixture
def runtime(home):
    """Return boto3's client of a local AWS in this process."""
    listener = listen("127.0.0.1")
    with ObjectStore(home / "s3") as store:
        server = S3Server(listener, store, "token", others=OnDemand(home))
        port = listener.getsockname()[1]
        threading.Thread(target=server.acceptor.run, daemon=True).start()
        yield boto3.client(
            "sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id="any", aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )  # fmt: skip
        server.acceptor.close()
        server.acceptor.drop_all()


def test_an_invocation_is_answered_by_the_endpoint(endpoint, runtime):  # noqa: F811
    for _ in range(3):
        answer = runtime.invoke_endpoint(EndpointName="e", Body=BODY, ContentType="application/json")
        assert json.loads(answer["Body"].read())["who"] == "first"
        assert (answer["InvokedProductionVariant"], answer["ContentType"]) == ("v0", "application/json")


def test_a_variant_of_the_callers_choice_and_its_errors_come_through(endpoint, runtime):  # noqa: F811
    answer = runtime.invoke_endpoint(EndpointName="e", Body=BODY, TargetVariant="v0", InferenceId="mine")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="e", Body=BODY, TargetVariant="none")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint_async(EndpointName="e", InputLocation="s3://bucket/key")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_an_endpoint_whose_process_was_exchanged_is_found_again(endpoint, runtime):  # noqa: F811
    runtime.invoke_endpoint(EndpointName="e", Body=BODY)
    process, thread = endpoint.processes[-1]
    process.stop()
    thread.join(10)
    answer = runtime.invoke_endpoint(EndpointName="e", Body=BODY)
    assert json.loads(answer["Body"].read())["who"] == "first"


def test_a_stream_comes_as_it_is_made(world, runtime):  # noqa: F811
    world.config("c", world.model("first", STREAM))
    service.create_endpoint({"EndpointName": "e", "EndpointConfigName": "c"}, world.home, world.runtime)
    service.wait_in_service(world.store, "e")
    answer = runtime.invoke_endpoint_with_response_stream(EndpointName="e", Body=BODY)
    parts = [(event["PayloadPart"]["Bytes"], time.monotonic()) for event in answer["Body"]]
    assert b"".join(part for part, _ in parts) == b"firstsecond"
    assert parts[-1][1] - parts[0][1] > 0.5, "the first part did not wait for the last"
