"""Where requests go: AWS itself, or a server that answers in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from launcher.settings import aws_endpoint_url
from launcher.storage import BucketStorage
from launcher.storage.boto_session import LOOPBACK_HOSTS

AWS = "AWS"


@dataclass(frozen=True)
class Place:
    """An AWS that takes requests.

    Attributes:
        name: for messages, such as ``AWS`` or ``ssh://user@box``.
        endpoint_url: of a server that has every service on one port; None for AWS itself, whose addresses boto3
            knows, with the variables and the files of settings by which it is told others.
        region: of all services.
        profile: of the AWS configuration files; None leaves it to boto3.
        access_key, secret_key: empty leaves them to boto3, which finds credentials where it always does.
    """

    name: str
    region: str
    endpoint_url: str | None = None
    profile: str | None = None
    access_key: str = ""
    secret_key: str = field(default="", repr=False)

    def endpoint_of(self, service: str) -> str | None:
        """Return the address of a service; None leaves it to boto3."""
        return self.endpoint_url or aws_endpoint_url(service)

    def storage(self) -> BucketStorage:
        """Return the buckets of this place."""
        from launcher.settings import S3Settings
        from launcher.storage.s3 import S3Storage

        settings = S3Settings("aws", self.endpoint_of("s3"), self.region, self.profile)
        return S3Storage(settings, keys=(self.access_key, self.secret_key), configured=self.endpoint_url is None)

    @property
    def title(self) -> str:
        """The place in a few words: its name, and its address where that is not AWS's own."""
        url = self.endpoint_of("sagemaker")
        return f"{self.name} in {self.region}" if url is None else f"{self.name} at {url}"

    @property
    def is_near(self) -> bool:
        """Whether it is reached by this machine's own address, so that asking often costs nothing."""
        return (urlsplit(self.endpoint_of("sagemaker") or "").hostname or "") in LOOPBACK_HOSTS
