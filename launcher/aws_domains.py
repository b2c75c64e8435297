"""The domains of AWS; imports nothing, for servers that are up before anything else is loaded."""

from __future__ import annotations

AWS_DOMAINS = (
    *("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "aws"),
    *("api.amazonwebservices.com.cn", "api.amazonwebservices.eu"),
    *("c2s.ic.gov", "api.aws.ic.gov", "sc2s.sgov.gov", "api.aws.scloud", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    *("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
)
"""Below these are AWS's services, in all of its partitions."""


def is_aws_host(name: str) -> bool:
    """Return whether a host name is one of AWS's services."""
    name = name.rstrip(".").lower()
    return any(name == domain or name.endswith(f".{domain}") for domain in AWS_DOMAINS)
