"""The local AWS as a process on one port, asked by boto3, to which nothing but AWS_ENDPOINT_URL was said."""

import concurrent.futures
import datetime
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from launcher.aws.identity import ROLE_NAME
from launcher.jobs.store import JobStore
from launcher.s3_server import service
from launcher.settings import ACCOUNT_ID, LOCAL_ROLE_ARN
from launcher.storage.own_s3 import ensure_server, server_credentials, stop_servers
from tests.launcher.aws.clients import training_job
from tests.shell import launcher_environment

ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)


@pytest.fixture(scope="module")
def aws_home(tmp_path_factory):
    path = tmp_path_factory.mktemp("aws") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_RUNTIME", "process")
        ensure_server(path)
    yield path
    stop_servers(path)


@pytest.fixture
def url(aws_home, monkeypatch):
    url = ensure_server(aws_home)
    variables = {"AWS_ENDPOINT_URL": url, **server_credentials(aws_home), "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return url


@pytest.fixture
def client(url):
    session = boto3.Session()
    return lambda name: session.client(name, config=ONCE)


def code_of(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]["Code"]


def post(url, body, headers, path="/", method="POST"):
    """Send a request as it stands; return status, headers and body of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers.items()), answer.read()
    finally:
        connection.close()


def ask_sagemaker(url, operation, body, **headers):
    target = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1", **headers}
    status, answered, text = post(url, body, target)
    values = json.loads(text)
    assert status == 200 or answered["x-amzn-ErrorType"] == values["__type"]
    assert answered["x-amzn-RequestId"]
    return status, values


def test_who_one_is_and_which_role_jobs_run_as(client):
    """What ``sagemaker.get_execution_role()`` asks for."""
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == ACCOUNT_ID
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE_NAME}/launcher"
    role = client("iam").get_role(RoleName=ROLE_NAME)["Role"]
    assert role["Arn"] == LOCAL_ROLE_ARN
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_a_policy_is_simulated_as_allowed(client):
    """By SDK v3, before it does anything."""
    answer = client("iam").simulate_principal_policy(
        PolicySourceArn=LOCAL_ROLE_ARN, ActionNames=["s3:GetObject", "sts:AssumeRole"], ResourceArns=["*"]
    )
    decisions = {result["EvalActionName"]: result["EvalDecision"] for result in answer["EvaluationResults"]}
    assert decisions == {"s3:GetObject": "allowed", "sts:AssumeRole": "allowed"}


def test_moto_answers_for_the_rest_of_iam_and_sts_with_the_default_role_in_it(client):
    iam = client("iam")
    iam.create_role(RoleName="another", AssumeRolePolicyDocument="{}")
    assert {role["RoleName"] for role in iam.list_roles()["Roles"]} == {ROLE_NAME, "another"}
    assert iam.get_role(RoleName=ROLE_NAME)["Role"]["Arn"] == LOCAL_ROLE_ARN
    assert code_of(iam.get_role, RoleName="nobody") == "NoSuchEntity"
    assumed = client("sts").assume_role(RoleArn=LOCAL_ROLE_ARN, RoleSessionName="session")
    assert assumed["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE_NAME}/session"


def test_log_groups_of_ones_own_are_kept(client):
    logs = client("logs")
    logs.create_log_group(logGroupName="/own")
    logs.create_log_stream(logGroupName="/own", logStreamName="stream")
    event = {"timestamp": int(time.time() * 1000), "message": "hello"}
    logs.put_log_events(logGroupName="/own", logStreamName="stream", logEvents=[event])
    assert [event["message"] for event in logs.filter_log_events(logGroupName="/own")["events"]] == ["hello"]
    assert "/own" in {group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]}
    assert code_of(logs.get_log_events, logGroupName="/none", logStreamName="s") == "ResourceNotFoundException"


def test_metrics_of_ones_own_are_kept_whatever_their_size(client):
    """CloudWatch's clients speak CBOR, and pack what is large with gzip; moto reads neither."""
    cloudwatch, now = client("cloudwatch"), datetime.datetime.now(datetime.UTC)
    point = {"MetricName": "loss", "Value": 1.5, "Timestamp": now, "Dimensions": [{"Name": "Job", "Value": "é"}]}
    cloudwatch.put_metric_data(Namespace="own", MetricData=[point])
    cloudwatch.put_metric_data(Namespace="own", MetricData=[{**point, "MetricName": "l" * 200}] * 200)
    listed = cloudwatch.list_metrics(Namespace="own")["Metrics"]
    assert {metric["MetricName"] for metric in listed} == {"loss", "l" * 200}
    hour = datetime.timedelta(hours=1)
    answer = cloudwatch.get_metric_statistics(
        Namespace="own", MetricName="loss", Dimensions=point["Dimensions"], StartTime=now - hour, EndTime=now + hour,
        Period=60, Statistics=["Average", "SampleCount"],
    )  # fmt: skip
    [datapoint] = answer["Datapoints"]
    assert (datapoint["Average"], datapoint["SampleCount"]) == (1.5, 1.0)
    assert abs(datapoint["Timestamp"] - now) < datetime.timedelta(minutes=2)
    refusal = {"Namespace": "own", "MetricName": "loss", "StartTime": now, "EndTime": now, "Period": 7}
    assert code_of(cloudwatch.get_metric_statistics, **refusal, Statistics=["Average"]) == "InvalidParameterValue"


def test_repositories_of_images_are_kept(client):
    ecr = client("ecr")
    ecr.create_repository(repositoryName="trainer")
    [repository] = ecr.describe_repositories()["repositories"]
    assert repository["repositoryUri"] == f"{ACCOUNT_ID}.dkr.ecr.us-east-1.amazonaws.com/trainer"
    assert code_of(ecr.describe_repositories, repositoryNames=["none"]) == "RepositoryNotFoundException"


@pytest.mark.parametrize(
    ("name", "operation", "request_"),
    [
        ("dynamodb", "list_tables", {}),  # JSON
        ("sqs", "list_queues", {}),  # JSON 1.0
        ("ec2", "describe_instances", {}),  # a form
        ("lambda", "list_functions", {}),  # REST
        ("route53", "list_hosted_zones", {}),  # REST in XML
        ("batch", "submit_job", {"jobName": "n", "jobQueue": "q", "jobDefinition": "d"}),
        ("iam", "get_account_authorization_details_of_nobody", {}),
    ],
)
def test_a_service_that_is_not_served_is_refused_by_its_name(client, name, operation, request_):
    if not hasattr(client(name), operation):  # what moto does not have either
        operation, request_ = "generate_service_last_accessed_details", {"Arn": LOCAL_ROLE_ARN}
    with pytest.raises(ClientError, match=f"(?i){name}") as caught:
        getattr(client(name), operation)(**request_)
    assert caught.value.response["Error"]["Code"] == "NotEmulated"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_s3_is_on_the_same_port(client):
    s3 = client("s3")
    s3.create_bucket(Bucket="endpoints")
    s3.put_object(Bucket="endpoints", Key="name/invocations", Body=b"an object's key may read like an endpoint's path")
    assert s3.get_object(Bucket="endpoints", Key="name/invocations")["Body"].read().startswith(b"an object")
    upload = s3.create_multipart_upload(Bucket="endpoints", Key="name/invocations")
    s3.abort_multipart_upload(Bucket="endpoints", Key="name/invocations", UploadId=upload["UploadId"])


@pytest.mark.slow
def test_a_job_outlives_the_server_that_started_it_and_is_known_to_the_next(aws_home, client):
    client("s3").create_bucket(Bucket="results")
    sagemaker = client("sagemaker")
    script = (
        "import os, time, boto3; time.sleep(2); print('asked', os.environ['AWS_ENDPOINT_URL']);"
        "print('jobs', [j['TrainingJobName'] for j in boto3.client('sagemaker').list_training_jobs()"
        "['TrainingJobSummaries']]); open('/opt/ml/model/weights', 'w').write('w')"
    )
    sagemaker.create_training_job(**training_job("survivor", script))
    [server] = service.status(aws_home)
    os.kill(server.pid, signal.SIGKILL)
    while service.status(aws_home):
        time.sleep(0.02)
    assert ensure_server(aws_home) == os.environ["AWS_ENDPOINT_URL"], "clients go on as before"
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="survivor", WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
    described = sagemaker.describe_training_job(TrainingJobName="survivor")
    assert described["TrainingJobStatus"] == "Completed", described
    assert client("s3").list_objects_v2(Bucket="results")["KeyCount"] >= 1
    assert JobStore(aws_home).load("survivor").status == "Completed"
    group = "/aws/sagemaker/TrainingJobs"
    events = client("logs").filter_log_events(logGroupName=group, logStreamNamePrefix="survivor/")["events"]
    log = "\n".join(event["message"] for event in events)
    assert "asked http://" in log, "code inside a job reaches the local AWS"
    assert "jobs ['survivor']" in log
    assert group in {entry["logGroupName"] for entry in client("logs").describe_log_groups()["logGroups"]}


def test_an_endpoint_that_is_not_there(client):
    with pytest.raises(ClientError, match=f"Endpoint none of account {ACCOUNT_ID} not found") as caught:
        client("sagemaker-runtime").invoke_endpoint(EndpointName="none", Body=b"{}")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "a%00b", "%ff", "a%2Fb", "." * 64, "%C3%A9", "a" * 64])
def test_no_name_of_an_endpoint_becomes_a_path(url, name):
    path = f"/endpoints/{name}/invocations"
    status, headers, text = post(url, b"{}", {"Content-Type": "application/json"}, path)
    assert (status, headers["x-amzn-ErrorType"]) == (400, "ValidationError"), text


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..", "/", "a/b", "\0", "", "x" * 100_000, "\ud800", "‮"])
def test_no_name_of_a_job_becomes_a_path(url, name):
    for operation in ("DescribeTrainingJob", "StopTrainingJob", "DeleteTrainingJob"):
        status, values = ask_sagemaker(url, operation, json.dumps({"TrainingJobName": name}))
        assert (status, values["__type"]) in ((400, "ValidationException"), (400, "SerializationException"))


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"null", b'"text"', b"1", b"\xff\xfe{}", b'{"a": NaN}', b'{"a": 1e999999}x', b"{" * 100_000,
        b'{"a":' * 100_000, b"[" * 1_000_000, b'{"TrainingJobName": "\\ud800"}', b"\0", b"<xml/>", b"A=b&Action=c",
        b"9" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_in_awss_words(url, body):
    status, values = ask_sagemaker(url, "DescribeTrainingJob", body)
    assert (status, values["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("value", [1, None, [], {}, True, 1.5, [["x"]], {"a": {"b": "c"}}])
@pytest.mark.parametrize("operation", ["DescribeTrainingJob", "CreateTrainingJob", "StopTrainingJob"])
def test_a_member_of_the_wrong_type_is_refused_and_nothing_is_made(url, aws_home, operation, value):
    before = JobStore(aws_home).names()
    document = {**training_job("wrong-types"), "TrainingJobName": value}
    status, values = ask_sagemaker(url, operation, json.dumps(document))
    assert status == 400
    assert values["__type"] in ("ValidationException", "SerializationException")
    assert JobStore(aws_home).names() == before


@pytest.mark.parametrize(
    "operation", ["", "No", "Describe TrainingJob", "x" * 5000, "../x", "DescribeTrainingJob.x", "__init__"]
)
def test_an_operation_that_there_is_not(url, operation):
    status, values = ask_sagemaker(url, operation, b"{}")
    assert (status, values["__type"]) in ((400, "UnknownOperationException"), (404, "UnknownOperationException"))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_sagemaker_takes_only_posts(url, method):
    status, _, _ = post(url, b"{}", {"X-Amz-Target": "SageMaker.ListTrainingJobs"}, method=method)
    assert 400 <= status < 500


@pytest.mark.parametrize(
    ("target", "protocol"),
    [("SageMaker.ListTrainingJobs", "json"), ("Logs_20140328.DescribeLogGroups", "json"), ("", "cbor"), ("", "form")],
)
def test_a_body_that_is_too_large_is_refused_unread(url, target, protocol):
    """It says how long it is: nobody waits for it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics" if protocol == "cbor" else "/"
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(1 << 40))
    if target:
        connection.putheader("X-Amz-Target", target)
    if protocol == "form":
        connection.putheader("Content-Type", "application/x-www-form-urlencoded")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"RequestEntityTooLargeException" in answer.read()
    connection.close()


def test_what_gzip_unpacks_to_is_bounded(url):
    import gzip

    headers = {"X-Amz-Target": "SageMaker.ListTrainingJobs", "Content-Encoding": "gzip"}
    status, _, text = post(url, gzip.compress(b" " * (64 << 20)), headers)
    assert status == 413, text
    status, _, text = post(url, b"no gzip", headers)
    assert (status, json.loads(text)["__type"]) == (400, "SerializationException")
    status, _, _ = post(url, gzip.compress(b"{}"), headers)
    assert status == 200


@pytest.mark.parametrize(
    "body", [b"\xbf", b"\x9b" + b"\xff" * 8, b"\x81" * 100_000, b"\xa1\x01\x02", b"\xff", b"\xc1\xc1\xc1", b"[]"]
)
def test_what_is_no_cbor_is_refused_in_cbor(url, body):
    path = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
    status, headers, text = post(url, body, {"smithy-protocol": "rpc-v2-cbor"}, path)
    assert (status, headers["smithy-protocol"]) == (400, "rpc-v2-cbor")
    assert b"SerializationException" in text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Action=",
        b"\xff\xfe",
        b"a=&" * 20_000,
        b"Action=SimulatePrincipalPolicy&Version=2010-05-08&a.b=1&a.b.c=2",
        b"Action=SimulatePrincipalPolicy&Version=2010-05-08&" + b"A.b.c.d" * 50 + b"=1",
    ],
)
def test_a_form_that_makes_no_sense_is_refused_in_xml(url, body):
    status, _, text = post(url, body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert 400 <= status < 500
    assert text.startswith(b"<ErrorResponse"), text


def test_a_web_page_gets_nothing(url):
    for origin in ("http://evil.example", "null", f"{url}.evil.example"):
        status, values = ask_sagemaker(url, "ListTrainingJobs", b"{}", Origin=origin)
        assert (status, values["__type"]) == (403, "AccessDeniedException")
        status, headers, _ = post(
            url, b"", {"Origin": origin, "Access-Control-Request-Method": "POST"}, method="OPTIONS"
        )
        assert status == 403
        assert not [name for name in headers if name.lower().startswith("access-control")]
    simple = {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    status, _, text = post(url, b"Action=GetCallerIdentity&Version=2011-06-15", simple)
    assert status == 403
    assert ACCOUNT_ID.encode() not in text


@pytest.mark.parametrize(
    "host", ["evil.example", "launcher.local:80", "amazonaws.com.evil.example", "xamazonaws.com", "a b"]
)
def test_a_name_that_anybody_could_point_here_is_not_answered_to(url, host):
    status, values = ask_sagemaker(url, "ListTrainingJobs", b"{}", Host=host)
    assert status in (400, 403)
    assert "TrainingJobSummaries" not in values


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:1", "127.0.0.1", "api.sagemaker.us-east-1.amazonaws.com"),
        *(
            "api.sagemaker.cn-north-1.amazonaws.com.cn",
            "sagemaker.us-east-1.api.aws",
            "api.sagemaker.eusc-de-east-1.amazonaws.eu",
        ),
        *("api.sagemaker.us-iso-east-1.c2s.ic.gov", "api.sagemaker.us-isob-east-1.sc2s.sgov.gov:443"),
    ],
)
def test_names_of_aws_and_of_this_machine_are_answered_to(url, host):
    assert ask_sagemaker(url, "ListTrainingJobs", b"{}", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("host", "body"),
    [
        ("sts.amazonaws.com", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("sts.eu-west-1.amazonaws.com", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("sts.cn-north-1.amazonaws.com.cn", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("sts.us-isof-south-1.csp.hci.ic.gov", b"Action=GetCallerIdentity&Version=2011-06-15"),
        ("127.0.0.1", b"Action=GetCallerIdentity&Version=2011-06-15"),
    ],
)
def test_a_request_without_a_signature_is_known_by_its_host_or_its_version(url, host, body):
    status, _, text = post(url, body, {"Host": host, "Content-Type": "application/x-www-form-urlencoded"})
    assert (status, b"assumed-role" in text) == (200, True)


def test_a_client_that_goes_in_the_middle_of_a_request_is_forgotten(url, client):
    head = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.ListTrainingJobs\r\nContent-Length: 50\r\n\r\n"
    )
    address = urlsplit(url)
    for sent in (b"", b"POST", head[:40], head, head + b"{"):
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)  # it still reads
            answer = raw.recv(65536)
        assert not answer or answer.startswith(b"HTTP/1.1 400"), answer
    assert client("sagemaker").list_training_jobs(NameContains="none")["TrainingJobSummaries"] == []


@pytest.mark.slow
def test_a_thousand_connections_starve_nobody(url, client):
    """Half of them say nothing, the others stop in the middle of a request."""
    address, raws = urlsplit(url), []
    sagemaker = client("sagemaker")
    try:
        for number in range(1000):
            raw = socket.create_connection((address.hostname, address.port), timeout=60)
            if number % 2:
                raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: SageMaker.ListTrainingJobs\r\n")
            raws.append(raw)
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: sagemaker.list_training_jobs(NameContains="none"), range(80)))
        assert len(answers) == 80
        assert time.monotonic() - began < 20
    finally:
        for raw in raws:
            raw.close()


def test_the_server_of_s3_alone_loads_nothing_of_the_other_services():
    script = "import sys, launcher.aws.server; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=launcher_environment()
    ).stdout.split()
    heavy = {"moto", "boto3", "botocore", "numpy", "requests", "docker", "rich", "typer", "launcher.aws.sagemaker"}
    heavy |= {"launcher.aws.front", "launcher.settings", "launcher.errors"}
    assert not heavy & set(loaded)
