"""Where requests go: AWS itself, or a server that answers in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from launcher.errors import SettingsError
from launcher.settings import S3Settings, aws_endpoint_url, aws_profile, aws_region
from launcher.storage import BucketStorage
from launcher.storage.boto_session import LOOPBACK_HOSTS, configured_region

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

    @property
    def s3(self) -> S3Settings:
        """Which S3 its ``s3://`` URIs mean."""
        return S3Settings("aws", self.endpoint_of("s3"), self.region, self.profile)

    def storage(self) -> BucketStorage:
        """Return the buckets of this place."""
        from launcher.storage.s3 import S3Storage

        return S3Storage(self.s3, keys=(self.access_key, self.secret_key), configured=self.endpoint_url is None)

    @property
    def title(self) -> str:
        """The place in a few words: its name, and its address where that is not AWS's own."""
        url = self.endpoint_of("sagemaker")
        return f"{self.name} in {self.region}" if url is None else f"{self.name} at {url}"

    @property
    def is_near(self) -> bool:
        """Whether it is reached by this machine's own address, so that asking often costs nothing."""
        return (urlsplit(self.endpoint_of("sagemaker") or "").hostname or "") in LOOPBACK_HOSTS


def aws_place() -> Place:
    """Return AWS itself, with the region, the profile and the addresses that boto3's own settings name.

    Raises:
        SettingsError: they name no region, or no such profile.
    """
    profile = aws_profile()
    region = aws_region() or configured_region(profile)
    if region is None:
        raise SettingsError("AWS is asked for, and no region.", "For example: export AWS_DEFAULT_REGION=eu-west-1")
    return Place(AWS, region, profile=profile)
