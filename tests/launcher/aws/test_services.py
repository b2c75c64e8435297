"""Whose request it is: by target, path, signature and host."""

import pytest

from launcher.aws.services import RUNTIME, runtime_call, service_of
from launcher.s3_server.wire import Head, Headers

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def head(method, target, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(method, target, Headers({"Host": "127.0.0.1:1", **named}), True, 0, False, False)


def signed(service, region="us-east-1"):
    return f"AWS4-HMAC-SHA256 Credential=AKIA/20261121/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("request_", "service"),
    [
        (head("POST", "/", X_Amz_Target="SageMaker.ListModels", Authorization=signed("sagemaker")), "sagemaker"),
        (head("POST", "/", X_Amz_Target="SageMaker.ListModels"), "sagemaker"),
        (head("POST", "/", X_Amz_Target="Logs_20140328.GetLogEvents", Authorization=signed("logs")), "logs"),
        (head("POST", "/", X_Amz_Target="DynamoDB_20120810.ListTables", Authorization=signed("dynamodb")), "dynamodb"),
        (head("POST", "/", X_Amz_Target="DynamoDB_20120810.ListTables"), "DynamoDB_20120810"),
        (head("POST", "/", X_Amz_Target="."), "unnamed"),
        (head("POST", "/endpoints/e/invocations", Authorization=signed("sagemaker")), RUNTIME),
        (head("POST", "/endpoints/e/async-invocations"), RUNTIME),
        (head("POST", "/endpoints/e/invocations-response-stream"), RUNTIME),
        (head("POST", "/endpoints/e/invocations", Authorization=signed("s3")), ""),
        (head("GET", "/endpoints/e/invocations"), ""),
        (head("POST", "/endpoints/e/f/invocations?uploads", Authorization=signed("s3")), ""),
        (head("POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics"), "cloudwatch"),
        (head("GET", "/service/GraniteServiceVersion20100801/operation/ListMetrics"), ""),
        (head("POST", "/", Authorization=signed("monitoring"), **FORM), "cloudwatch"),
        (head("POST", "/", Authorization=signed("sts", "eu-west-1"), **FORM), "sts"),
        (head("POST", "/", Authorization=signed("iam"), **FORM), "iam"),
        (head("POST", "/", **FORM), "sts"),
        (head("POST", "/v1/submitservicejob", Authorization=signed("batch")), "batch"),
        (head("GET", "/2015-03-31/functions", Authorization=signed("lambda")), "lambda"),
        (head("GET", "/?X-Amz-Credential=A%2F20261121%2Fus-east-1%2Fsts%2Faws4_request"), "sts"),
        (head("GET", "/b/k?X-Amz-Credential=A%2F20261121%2Fus-east-1%2Fs3%2Faws4_request"), ""),
        (head("GET", "/", Host="sts.amazonaws.com"), "sts"),
        (head("GET", "/", Host="monitoring.eu-central-1.amazonaws.com"), "cloudwatch"),
        (head("GET", "/", Host="bucket.s3.us-east-1.amazonaws.com"), ""),
        (head("GET", "/", Host="s3.amazonaws.com:443"), ""),
        (head("GET", "/", Host="bucket.s3.cn-north-1.amazonaws.com.cn"), ""),
        (head("GET", "/", Host="sts.cn-north-1.amazonaws.com.cn:443"), "sts"),
        (head("GET", "/", Host="monitoring.us-isof-south-1.csp.hci.ic.gov"), "cloudwatch"),
        (head("GET", "/bucket/key"), ""),
        (head("GET", "/bucket/key", Authorization="AWS AKIA:signature"), ""),
        (head("POST", "/bucket", Content_Type="multipart/form-data; boundary=x"), ""),
        (head("PUT", "/bucket/key", Authorization=signed("s3")), ""),
    ],
)  # fmt: skip
def test_a_request_is_for_a_service(request_, service):
    assert service_of(request_) == service


def test_an_invocation_names_its_endpoint_as_it_came():
    assert runtime_call(head("POST", "/endpoints/a%2Fb/async-invocations?x=y")) == ("a%2Fb", "async-invocations")
    assert runtime_call(head("POST", "/endpoints/a/other")) == ("", "")
