"""Names of AWS's hosts, in all of its partitions, and which service each is."""

from __future__ import annotations

import re
from contextvars import ContextVar

from launcher.aws_domains import AWS_DOMAINS

ENDINGS = tuple(f".{domain}" for domain in AWS_DOMAINS)
"""What the names of AWS's hosts end with."""

ASKED_BY_NAME: ContextVar[bool] = ContextVar("asked_by_name", default=False)
"""Whether the request that is being answered came to a host of AWS, by its name."""

_SAME = {"ecr": "api.ecr", "sagemaker": "api.sagemaker", "s3-accelerate": "s3", "s3-external-1": "s3"}
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+){1,3}-[0-9]+")
_IN_ONE_WORD = re.compile(rf"(s3)-({_REGION.pattern})")


def service_of_host(host: str) -> str:
    """Return the first part of the name of a host of AWS, in one spelling for all hosts of a service.

    ``bucket.s3.eu-west-1.amazonaws.com`` is ``s3``, ``dynamodb.us-east-1.amazonaws.com`` is ``dynamodb``,
    ``sagemaker.us-east-1.api.aws`` is ``api.sagemaker``.
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
