"""Which of AWS's hosts are served here, and which hosts are never reached."""

from __future__ import annotations

import ipaddress

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

# Where instances of EC2, containers of ECS and pods of EKS get their credentials.
_METADATA = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/64")))


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
