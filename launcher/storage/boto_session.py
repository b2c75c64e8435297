"""A ``boto3.Session`` for callers, whose clients reach the S3 that the launcher's ``s3://`` URIs mean, and no other.

With the embedded S3 it reaches the other services of the local AWS as well, which are on the same port. ``make_client``
makes the clients for requests that go to AWS itself, or to another machine, because the user said so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from launcher.errors import SettingsError, UnsupportedOptionError
from launcher.settings import S3Settings
from launcher.storage.own_s3 import ensure_server, server_credentials


class BotoSession(boto3.Session):  # type: ignore[misc]  # boto3 has no types
    """Makes clients and resources of the local AWS; or of another S3, where those of other services are refused."""

    def __init__(self, settings: S3Settings, home: Path) -> None:
        own = server_credentials(home) if settings.kind == "embedded" else {}
        super().__init__(
            profile_name=settings.profile,
            region_name=settings.region,
            **{name.lower(): value for name, value in own.items()},
        )
        self._s3 = settings
        self._home = home

    def client(self, service_name: str, *arguments: Any, **options: Any) -> Any:
        """Return a client; the server of the local AWS is started, also again when it has ended as idle.

        Raises:
            UnsupportedOptionError: another service was asked for beside another S3 than the embedded one.
        """
        if service_name != "s3" and self._s3.kind != "embedded":
            raise UnsupportedOptionError(
                f"boto_session.client('{service_name}') is not emulated: it would talk to AWS.",
                "Ask endpoints by session.sagemaker_runtime_client, or launcher.Predictor."
                if service_name == "sagemaker-runtime"
                else f"Here a session's boto3 reaches S3 alone; to use AWS itself: boto3.client('{service_name}')",
            )
        address = options.pop("endpoint_url", None) or self._address()
        if self._s3.kind == "embedded":  # the server has to run: it says which key it asks for
            own = server_credentials(self._home)
            options = {name.lower(): value for name, value in own.items()} | options
        client = super().client(service_name, *arguments, endpoint_url=address, **options)
        if self._s3.kind == "embedded":
            client.meta.events.register("before-call", self._have_server)
        return client

    def resource(self, service_name: str, *arguments: Any, **options: Any) -> Any:
        """Return a resource.

        Raises:
            UnsupportedOptionError: as for ``client``.
        """
        if service_name != "s3" and self._s3.kind != "embedded":
            self.client(service_name)
        return super().resource(service_name, *arguments, **options)

    def _have_server(self, **_event: Any) -> None:
        self._address()

    def _address(self) -> str | None:
        if self._s3.kind != "embedded":
            return self._s3.endpoint_url
        return ensure_server(self._home)


def make_boto_session(settings: S3Settings, home: Path) -> BotoSession:
    """Return a session of boto3 for an S3.

    Args:
        settings: which S3.
        home: the launcher's home, which the embedded S3 is in.
    """
    return BotoSession(settings, home)


def plain_boto_session(settings: S3Settings) -> Any:
    """Return boto3's own session, which reaches AWS, for the profile and the region of the settings."""
    return boto3.Session(profile_name=settings.profile, region_name=settings.region)


CLIENT_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError, OSError)
"""What a client of boto3 raises when a request is refused, or nothing answers."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_TRIES, _CONNECT_SECONDS, _READ_SECONDS = 5, 10, 60


def make_client(
    service: str, *, endpoint_url: str | None, region: str, profile: str | None, keys: tuple[str, str]
) -> Any:
    """Return boto3's own client of a service of AWS, or of a server in its place.

    Args:
        service: as boto3 names it.
        endpoint_url: None leaves it to boto3.
        keys: the access key and its secret; empty ones leave them to boto3.
    Raises:
        BotoCoreError: the profile or the region is none.
    """
    own = {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]} if keys[0] else {}
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        # A proxy's way to this machine's own address leads to the proxy's machine.
        proxies={} if urlsplit(endpoint_url or "").hostname in LOOPBACK_HOSTS else None,
    )
    session = boto3.Session(profile_name=profile, region_name=region, **own)
    return session.client(service, endpoint_url=endpoint_url, config=config)


def method_name(operation: str) -> str:
    """Return the name of a client's method for an operation, such as ``CreateTrainingJob``."""
    name: str = xform_name(operation)
    return name


def configured_region(profile: str | None) -> str | None:
    """Return the region that boto3's files of settings name; None where they name none."""
    try:
        region: str | None = boto3.Session(profile_name=profile).region_name
    except BotoCoreError as error:
        raise SettingsError(f"boto3 cannot use the profile '{profile}': {error}", "Check AWS_PROFILE.") from error
    return region
