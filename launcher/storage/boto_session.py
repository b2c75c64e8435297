"""A ``boto3.Session`` for callers, whose clients reach the S3 that the launcher's ``s3://`` URIs mean, and no other.

With the embedded S3 it reaches the other services of the local AWS as well, which are on the same port.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3

from launcher.errors import UnsupportedOptionError
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
