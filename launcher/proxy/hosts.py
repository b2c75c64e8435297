"""Names of AWS's hosts: which service each is, and which of them are served here."""

from __future__ import annotations

import ipaddress
import re

from launcher.settings import AWS_DOMAINS

SERVED = {
    "api.ecr": "ECR",
    "batch": "Batch",
    "iam": "IAM",
    "logs": "CloudWatch Logs",
    "monitoring": "CloudWatch",
    "s3": "S3",
    "api.sagemaker": "SageMaker",
    "runtime.sagemaker": "SageMaker Runtime",
    "sts": "STS",
}
"""Services that the local endpoint answers for, by the first part of their host names."""

_SAME = {"ecr": "api.ecr", "sagemaker": "api.sagemaker", "s3-accelerate": "s3", "s3-external-1": "s3"}
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]+")
_IN_ONE_WORD = re.compile(rf"(s3)-({_REGION.pattern})")
# Where instances of EC2, containers of ECS and pods of EKS get their credentials.
_METADATA = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/64")))


def service_of(host: str) -> str:
    """Return a name for the service that a host of AWS is: a key of ``SERVED``, or the first part of the host's name.

    ``bucket.s3.eu-west-1.amazonaws.com`` is ``s3``, ``dynamodb.us-east-1.amazonaws.com`` is ``dynamodb``.
    """
    name = host.rstrip(".").lower()
    domain = max((domain for domain in (*AWS_DOMAINS, "api.aws") if f".{name}".endswith(f".{domain}")), key=len)
    labels = [label for label in name.removesuffix(domain).split(".") if label and label != "dualstack"]
    labels = [_IN_ONE_WORD.sub(r"\1", label.removesuffix("-fips")) for label in labels]
    labels = [label for label in labels if not _REGION.fullmatch(label)]
    if labels and _SAME.get(labels[-1], labels[-1]) == "s3":  # a bucket stands before it, which may have dots
        return "s3"
    service = ".".join(labels)
    return _SAME.get(service, service) or name


def is_metadata_address(host: str) -> bool:
    """Return whether a host is where a machine of AWS asks for its credentials."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in _METADATA if network.version == address.version)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by a name or an address that nobody else has."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
