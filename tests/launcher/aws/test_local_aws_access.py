"""The local AWS where it asks for the home's key: each service's signatures, right and wrong."""

import io

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.storage.own_s3 import ensure_server, server_credentials, stop_servers

CALLS = {
    "sagemaker": lambda client: client.list_training_jobs(),
    "sts": lambda client: client.get_caller_identity(),
    "iam": lambda client: client.simulate_principal_policy(
        PolicySourceArn="arn:aws:iam::1:role/a", ActionNames=["a:b"]
    ),
    "logs": lambda client: client.describe_log_groups(),
    "cloudwatch": lambda client: client.list_metrics(Namespace="/aws/sagemaker/TrainingJobs"),
    "s3": lambda client: client.list_buckets(),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The URL of a server that asks for its key, and the key."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_ACCESS", "key")
        url = ensure_server(home)
    yield url, server_credentials(home)
    stop_servers(home)


def client(service, url, access_key, secret_key):
    return boto3.client(
        service, endpoint_url=url, region_name="eu-central-1", aws_access_key_id=access_key,
        aws_secret_access_key=secret_key, config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


@pytest.mark.parametrize("service", CALLS)
def test_the_key_opens_every_service(guarded, service):
    url, key = guarded
    answer = CALLS[service](client(service, url, key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"]))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("service", CALLS)
def test_no_other_key_does(guarded, service):
    url, key = guarded
    codes = []
    for pair in (("any", "any"), (key["AWS_ACCESS_KEY_ID"], "wrong")):
        with pytest.raises(ClientError) as caught:
            CALLS[service](client(service, url, *pair))
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        codes.append(caught.value.response["Error"]["Code"])
    own = ["UnrecognizedClientException", "InvalidSignatureException"]
    assert codes == (["InvalidAccessKeyId", "SignatureDoesNotMatch"] if service == "s3" else own)


def test_an_invocation_is_signed_with_its_body_and_its_path(guarded):
    url, key = guarded
    runtime = client("sagemaker-runtime", url, key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"])
    with pytest.raises(ClientError, match="Endpoint none of account"):
        runtime.invoke_endpoint(EndpointName="none", Body=io.BytesIO(b"\x00\xff").read())
    stranger = client("sagemaker-runtime", url, key["AWS_ACCESS_KEY_ID"], "wrong")
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        stranger.invoke_endpoint(EndpointName="none", Body=b"")


def test_a_changed_body_is_refused(guarded):
    """The body is part of what is signed, also where no header says its digest."""
    url, key = guarded
    sagemaker = client("sagemaker", url, key["AWS_ACCESS_KEY_ID"], key["AWS_SECRET_ACCESS_KEY"])
    sagemaker.meta.events.register("before-send.sagemaker", lambda request, **_: setattr(request, "body", b"{ }"))
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        sagemaker.list_training_jobs()


def test_a_request_without_a_signature_is_refused(guarded):
    url, _ = guarded
    options = {"endpoint_url": url, "region_name": "us-east-1", "config": Config(signature_version=UNSIGNED)}
    unsigned = boto3.client("sagemaker", **options)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        unsigned.list_training_jobs()
