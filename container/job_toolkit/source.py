"""On AWS: fetches the source that a request names, which the launcher itself lays out before a job begins.

One object is read from S3, with the credentials that the platform gives the container: the standard library is enough.
"""

import datetime
import hashlib
import hmac
import json
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, NamedTuple
from urllib.parse import quote, urlsplit

from job_toolkit.environment import JobEnvironment, JobInputError
from job_toolkit.paths import JobPaths

_CREDENTIALS_HOST = "http://169.254.170.2"
_SECONDS = 60
_COPIES = "intermediate"


class Credentials(NamedTuple):
    """Who asks; ``token`` is empty for a key that does not expire."""

    key: str
    secret: str
    token: str


def fetch_source(environment: JobEnvironment) -> bool:
    """Unpack the source archive that the request names to the code folder; return whether it names one in S3.

    Raises:
        JobInputError: the archive cannot be read, or is none.
    """
    code = environment.paths.code
    uri = str(environment.platform_hyperparameters.get("sagemaker_submit_directory") or "")
    if not uri.startswith("s3://"):
        return False
    region = os.environ.get("AWS_REGION") or str(environment.platform_hyperparameters.get("sagemaker_region") or "")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        with tempfile.TemporaryFile() as archive:
            _download(bucket, key, region or "us-east-1", archive)
            archive.seek(0)
            code.mkdir(parents=True, exist_ok=True)
            with tarfile.open(fileobj=archive, mode="r:*") as members:
                if hasattr(tarfile, "data_filter"):  # Pythons before 3.11.4 may lack it
                    members.extraction_filter = tarfile.data_filter
                members.extractall(code)
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        raise JobInputError(f"the source {uri} cannot be fetched: {_reason(error)}") from error
    return True


def keep_intermediate(paths: JobPaths) -> None:
    """Have what the job wrote to ``output/intermediate`` in its output data too: AWS keeps nothing else of it."""
    if paths.intermediate.is_dir() and any(paths.intermediate.iterdir()):
        target = paths.output_data / _COPIES
        shutil.copytree(paths.intermediate, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _download(bucket: str, key: str, region: str, target: IO[bytes]) -> None:
    url = object_url(bucket, key, region)
    headers = signed_headers(url, region, credentials(), datetime.datetime.now(datetime.UTC))
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        shutil.copyfileobj(answer, target)


def object_url(bucket: str, key: str, region: str) -> str:
    """Return the address of an object: of AWS, or of the S3 that the variables of the AWS SDKs name."""
    path = quote(key, safe="/-._~")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
    domain = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    # A certificate of AWS's covers one level of names.
    return f"https://{domain}/{bucket}/{path}" if "." in bucket else f"https://{bucket}.{domain}/{path}"


def credentials() -> Credentials:
    """Return the credentials of the job: of the variables, or of the address that the platform names.

    Raises:
        KeyError, OSError, ValueError: there are none.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ:
        token = os.environ.get("AWS_SESSION_TOKEN", "")
        return Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], token)
    relative = os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_CREDENTIALS_HOST}{relative}" if relative else os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    authorization = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    # That address is this machine's own: a proxy would not know it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_SECONDS) as answer:
        values = json.load(answer)
    return Credentials(values["AccessKeyId"], values["SecretAccessKey"], values.get("Token") or "")


def signed_headers(url: str, region: str, who: Credentials, now: datetime.datetime) -> Mapping[str, str]:
    """Return the headers of a GET request to S3.

    Source: AWS Signature Version 4, "Authenticating Requests: Using the Authorization Header".
    """
    parts = urlsplit(url)
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": empty, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
    if who.token:
        headers["x-amz-security-token"] = who.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join(("GET", parts.path, parts.query, lines, names, empty))
    scope = f"{now:%Y%m%d}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest))
    signature = f"AWS4{who.secret}".encode()
    for step in (*scope.split("/"), text):
        signature = hmac.digest(signature, step.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={who.key}/{scope}, SignedHeaders={names}, Signature={signature.hex()}"
    )
    del headers["host"]  # urllib sets it
    return headers


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
    if isinstance(error, KeyError):
        return f"no credentials: neither AWS_ACCESS_KEY_ID nor {error.args[0]} is set"
    return str(error)
