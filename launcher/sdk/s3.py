"""``S3Uploader``, ``S3Downloader`` and what the SDK has for URIs of S3; results by ``file://`` are read as well."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.sdk.session import Session
from launcher.storage import storage_for, to_uri


class S3Uploader:
    """Copies files and texts to the session's S3."""

    @staticmethod
    def upload(
        local_path: str | os.PathLike[str],
        desired_s3_uri: str,
        kms_key: str | None = None,
        sagemaker_session: Session | None = None,
        callback: Callable[[int], object] | None = None,
    ) -> str:
        """Copy a file, or all files of a folder, below a URI; return the URI of the file, or of the prefix.

        Raises:
            BadInputError: there is nothing at the path, or the URI is none of S3.
            StorageError: there is no such bucket.
        """
        _refuse_key(kms_key)
        bucket, prefix = parse_s3_url(desired_s3_uri)
        session = sagemaker_session or Session()
        return session.upload_data(local_path, bucket=bucket, key_prefix=prefix, callback=callback)

    @staticmethod
    def upload_string_as_file_body(
        body: str,
        desired_s3_uri: str | None = None,
        kms_key: str | None = None,
        sagemaker_session: Session | None = None,
    ) -> str:
        """Write a text to a URI, which is returned.

        Raises:
            BadInputError: the URI is none of S3.
            StorageError: there is no such bucket.
        """
        return S3Uploader.upload_bytes(body.encode(), desired_s3_uri or "", kms_key, sagemaker_session)

    @staticmethod
    def upload_bytes(
        b: bytes | io.BytesIO, s3_uri: str, kms_key: str | None = None, sagemaker_session: Session | None = None
    ) -> str:
        """Write bytes to a URI, which is returned.

        Raises:
            BadInputError: the URI is none of S3.
            StorageError: there is no such bucket.
        """
        _refuse_key(kms_key)
        parse_s3_url(s3_uri)
        session = sagemaker_session or Session()
        with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
            path = Path(folder, "object")
            path.write_bytes(b if isinstance(b, bytes) else b.read())
            storage_for(s3_uri, session.s3).upload_all({path: to_uri(s3_uri)})
        return s3_uri


class S3Downloader:
    """Reads objects of the session's S3, and files by ``file://``, which results have in local mode."""

    @staticmethod
    def download(
        s3_uri: str,
        local_path: str | os.PathLike[str],
        kms_key: str | None = None,
        sagemaker_session: Session | None = None,
    ) -> list[str]:
        """Copy every object whose key begins as the URI says to a folder; return the paths of the files.

        Raises:
            BadInputError: the URI is neither of S3 nor a ``file://``.
            StorageError: there is no such bucket.
        """
        _refuse_key(kms_key)
        session = sagemaker_session or Session()
        if not s3_uri.startswith("file://"):
            bucket, prefix = parse_s3_url(s3_uri)
            return session.download_data(local_path, bucket, prefix)
        folder = Path(local_path).expanduser()
        targets = {uri: folder / name for name, uri in _files(s3_uri).items()}
        storage_for(to_uri(s3_uri)).download_all(targets)
        return [str(target) for target in targets.values()]

    @staticmethod
    def read_file(s3_uri: str, sagemaker_session: Session | None = None) -> str:
        """Return the text of the object at a URI.

        Raises:
            StorageError: there is no such object.
        """
        return S3Downloader.read_bytes(s3_uri, sagemaker_session).decode()

    @staticmethod
    def read_bytes(s3_uri: str, sagemaker_session: Session | None = None) -> bytes:
        """Return the bytes of the object at a URI.

        Raises:
            StorageError: there is no such object.
        """
        if not s3_uri.startswith("file://"):
            parse_s3_url(s3_uri)
        session = sagemaker_session or Session()
        with tempfile.TemporaryDirectory(prefix="launcher-") as folder:
            path = Path(folder, "object")
            storage_for(to_uri(s3_uri), session.s3).download_all({to_uri(s3_uri): path})
            return path.read_bytes()

    @staticmethod
    def list(s3_uri: str, sagemaker_session: Session | None = None) -> list[str]:
        """Return the URIs of all objects whose keys begin as the URI says.

        Raises:
            BadInputError: the URI is neither of S3 nor a ``file://``.
            StorageError: there is no such bucket.
        """
        if s3_uri.startswith("file://"):
            return list(_files(s3_uri).values())
        bucket, prefix = parse_s3_url(s3_uri)
        session = sagemaker_session or Session()
        return [session.uri(bucket, key) for key in session.list_s3_files(bucket, prefix)]


def parse_s3_url(url: str) -> tuple[str, str]:
    """Return bucket and key of a URI of S3.

    Raises:
        BadInputError: it is none.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "s3" or not rest:
        raise BadInputError(f"Expecting 's3' scheme, got: {scheme if rest else ''} in {url}.", "Write s3://BUCKET/KEY.")
    bucket, _, key = rest.partition("/")
    return bucket, key.lstrip("/")


def is_s3_url(url: str) -> bool:
    """Return whether a URI is one of S3."""
    return urlsplit(url).scheme == "s3"


def s3_path_join(*args: str | None, with_end_slash: bool = False) -> str:
    """Return the parts joined by single slashes, as the SDK joins them; empty parts are left out."""
    text = "/".join(part for part in args if part)
    scheme, rest = ("s3://", text[5:]) if text.startswith("s3://") else ("", text)
    joined = re.sub("/+", "/", rest).strip("/")
    return scheme + joined + ("/" if with_end_slash and joined else "")


def _files(uri: str) -> dict[str, str]:
    """Return the URI of each file at or below a ``file://`` URI, by its place there."""
    path = Path(to_uri(uri).removeprefix("file://"))
    if path.is_file():
        return {path.name: to_uri(uri)}
    return storage_for(to_uri(uri)).files_below(to_uri(uri))


def _refuse_key(kms_key: str | None) -> None:
    if kms_key is not None:
        raise UnsupportedOptionError("kms_key is not emulated.", "Leave it out: nothing here is encrypted.")
