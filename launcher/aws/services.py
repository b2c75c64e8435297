"""The services of the local AWS: how a request says which it is for, and who answers it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from launcher.aws.hosts import service_of_host
from launcher.aws_domains import is_aws_host
from launcher.s3_server.wire import Head

RUNTIME = "sagemaker-runtime"


class Service(NamedTuple):
    """A service that is served here.

    Attributes:
        protocol: ``json``, ``query`` or ``rest-json``: how it is spoken where the request does not say otherwise.
        signed_as: the service of a signature's scope.
        target: what ``X-Amz-Target`` begins with; empty where there is none.
        version: of its query API; empty where there is none.
        host: what moto knows it by, below ``amazonaws.com``; empty where moto does not answer for it.
    """

    protocol: str
    signed_as: str
    target: str = ""
    version: str = ""
    host: str = ""


SERVICES: Mapping[str, Service] = {
    "sagemaker": Service("json", "sagemaker", "SageMaker"),
    RUNTIME: Service("rest-json", "sagemaker"),
    "sts": Service("query", "sts", version="2011-06-15", host="sts"),
    "iam": Service("query", "iam", version="2010-05-08", host="iam"),
    "logs": Service("json", "logs", "Logs_20140328", host="logs"),
    "cloudwatch": Service("query", "monitoring", "GraniteServiceVersion20100801", "2010-08-01", "monitoring"),
    "ecr": Service("json", "ecr", "AmazonEC2ContainerRegistry_V20150921", host="api.ecr"),
    "batch": Service("rest-json", "batch"),
}

OWN_OPERATIONS: Mapping[tuple[str, str], str] = {
    ("sts", "GetCallerIdentity"): "launcher.aws.identity:get_caller_identity",
    ("iam", "GetRole"): "launcher.aws.identity:get_role",
    ("iam", "SimulatePrincipalPolicy"): "launcher.aws.identity:simulate_principal_policy",
    ("logs", "DescribeLogGroups"): "launcher.aws.logs:describe_log_groups",
    ("logs", "DescribeLogStreams"): "launcher.aws.logs:describe_log_streams",
    ("logs", "FilterLogEvents"): "launcher.aws.logs:filter_log_events",
    ("logs", "GetLogEvents"): "launcher.aws.logs:get_log_events",
    ("cloudwatch", "GetMetricData"): "launcher.aws.metrics:get_metric_data",
    ("cloudwatch", "GetMetricStatistics"): "launcher.aws.metrics:get_metric_statistics",
    ("cloudwatch", "ListMetrics"): "launcher.aws.metrics:list_metrics",
    ("batch", "CreateJobQueue"): "launcher.aws.batch:create_job_queue",
    ("batch", "CreateSchedulingPolicy"): "launcher.aws.batch:create_scheduling_policy",
    ("batch", "CreateServiceEnvironment"): "launcher.aws.batch:create_service_environment",
    ("batch", "DeleteJobQueue"): "launcher.aws.batch:delete_job_queue",
    ("batch", "DeleteSchedulingPolicy"): "launcher.aws.batch:delete_scheduling_policy",
    ("batch", "DeleteServiceEnvironment"): "launcher.aws.batch:delete_service_environment",
    ("batch", "DescribeJobQueues"): "launcher.aws.batch:describe_job_queues",
    ("batch", "DescribeSchedulingPolicies"): "launcher.aws.batch:describe_scheduling_policies",
    ("batch", "DescribeServiceEnvironments"): "launcher.aws.batch:describe_service_environments",
    ("batch", "DescribeServiceJob"): "launcher.aws.batch:describe_service_job",
    ("batch", "ListSchedulingPolicies"): "launcher.aws.batch:list_scheduling_policies",
    ("batch", "ListServiceJobs"): "launcher.aws.batch:list_service_jobs",
    ("batch", "ListTagsForResource"): "launcher.aws.batch:list_tags",
    ("batch", "SubmitServiceJob"): "launcher.aws.batch:submit_service_job",
    ("batch", "TagResource"): "launcher.aws.batch:add_tags",
    ("batch", "TerminateServiceJob"): "launcher.aws.batch:terminate_service_job",
    ("batch", "UntagResource"): "launcher.aws.batch:remove_tags",
    ("batch", "UpdateJobQueue"): "launcher.aws.batch:update_job_queue",
    ("batch", "UpdateSchedulingPolicy"): "launcher.aws.batch:update_scheduling_policy",
    ("batch", "UpdateServiceEnvironment"): "launcher.aws.batch:update_service_environment",
    ("batch", "UpdateServiceJob"): "launcher.aws.batch:update_service_job",
}
"""(service, operation) -> ``module:function``, asked before moto is.

A function takes ``(document, home)`` and returns the answer as a dict, with ``datetime`` for a time; or None, which
leaves the request to moto. It raises ``AwsError`` or a ``LauncherError``. A document has the values that JSON would
have, whichever protocol carried it; times are seconds since 1970.
"""

JOINED_LISTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("logs", "DescribeLogGroups"): ("logGroups", "nextToken"),
    ("cloudwatch", "ListMetrics"): ("Metrics", "NextToken"),
}
"""The lists of ``OWN_OPERATIONS`` that name only what is the launcher's; what moto keeps is put behind the last page.

The member that holds the list, and the one that says that there are more pages.
"""

_BY_TARGET = {service.target: name for name, service in SERVICES.items() if service.target}
_BY_SCOPE = {service.signed_as: name for name, service in SERVICES.items() if name != RUNTIME}
BY_VERSION = {service.version: name for name, service in SERVICES.items() if service.version}
# Hosts that are not named as their services are.
_BY_HOST = {"monitoring": "cloudwatch", "api.ecr": "ecr", "api.sagemaker": "sagemaker", "runtime.sagemaker": RUNTIME}
_RUNTIME_PATH = re.compile(r"/endpoints/([^/?]+)/(invocations|async-invocations|invocations-response-stream)")
_RPC_PATH = re.compile(r"/service/([A-Za-z0-9_.]+)/operation/([A-Za-z0-9]+)")
_SCOPE = re.compile(r"[^/\s]+/[0-9]{8}/[^/\s]+/([A-Za-z0-9-]{1,60})/aws4_request")


def service_of(head: Head) -> str:
    """Return the service that a request is for: a name of ``SERVICES``, another one of AWS, or nothing for S3."""
    headers = head.headers.as_dict()
    path = head.target.partition("?")[0]
    scope = _scope(head, headers.get("authorization", ""))
    if scope == "s3":
        return ""
    if target := headers.get("x-amz-target"):
        prefix = target.partition(".")[0]
        return _BY_TARGET.get(prefix) or _BY_SCOPE.get(scope) or scope or prefix[:60] or "unnamed"
    if head.method == "POST" and _RUNTIME_PATH.fullmatch(path):
        return RUNTIME
    if head.method == "POST" and (match := _RPC_PATH.fullmatch(path)):
        return _BY_TARGET.get(match[1], match[1][:60])
    if scope:
        return _BY_SCOPE.get(scope, scope)
    if host := _host_service(headers.get("host", "")):
        return "" if host == "s3" else host
    if head.method == "POST" and path == "/" and "form-urlencoded" in headers.get("content-type", ""):
        return "sts"  # what it is for stands in the body; STS alone takes requests that are not signed
    return ""


def served_services() -> list[str]:
    """Return the services beside S3 of which an operation is answered."""
    answered = {"sagemaker", RUNTIME, *(service for service, _ in OWN_OPERATIONS)}
    return [name for name, service in SERVICES.items() if name in answered or service.host]


def runtime_call(head: Head) -> tuple[str, str]:
    """Return the endpoint that a request invokes, encoded as it came, and the last part of the path."""
    match = _RUNTIME_PATH.fullmatch(head.target.partition("?")[0])
    return (match[1], match[2]) if match else ("", "")


def rpc_operation(head: Head) -> str:
    """Return the operation that the path names, as CBOR's protocol has it; empty where it names none."""
    match = _RPC_PATH.fullmatch(head.target.partition("?")[0]) if head.method == "POST" else None
    return match[2] if match else ""


def signed_service(name: str) -> str:
    """Return the service that a request for ``name`` is signed for."""
    return SERVICES[name].signed_as if name in SERVICES else name


def _scope(head: Head, authorization: str) -> str:
    if authorization.startswith("AWS4-HMAC-SHA256"):
        match = _SCOPE.search(authorization)
    elif "X-Amz-Credential=" in head.target:
        credential = parse_qs(head.target.partition("?")[2]).get("X-Amz-Credential", [""])[0]
        match = _SCOPE.search(credential)
    else:
        return "s3" if authorization.startswith("AWS ") else ""
    return match[1].lower() if match else ""


def _host_service(host: str) -> str:
    name = host.partition(":")[0]
    service = service_of_host(name) if is_aws_host(name) else ""
    return _BY_HOST.get(service, service)
