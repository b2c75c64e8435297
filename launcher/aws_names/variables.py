"""The variables by which a program reaches AWS's names on this machine, and the certificates that it trusts.

The local AWS loads it before anything else: what makes and reads certificates is loaded where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
CA_VARIABLES = (
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("NODE_EXTRA_CA_CERTS", "HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "NIX_SSL_CERT_FILE"),
)
_NOT_PROXIED = ("localhost", "127.0.0.1", "::1", ".localhost")
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


def proxy_variables(url: str, passed: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that name a proxy.

    Args:
        url: of the proxy.
        passed: hosts that are reached without it, besides this machine.
    """
    hosts = ",".join(dict.fromkeys((*_NOT_PROXIED, *passed)))
    return dict.fromkeys(PROXY_VARIABLES, url) | dict.fromkeys(("NO_PROXY", "no_proxy"), hosts)


def url_with_key(url: str, access_key: str, secret_key: str) -> str:
    """Return the URL of a proxy that asks for a key, with the key in it, as clients of proxies read it."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{quote(access_key, safe='')}:{quote(secret_key, safe='')}@{parts.netloc}").geturl()


def certificates_for_jobs(home: Path, surroundings: Mapping[str, str]) -> Path:
    """Return a file with the certificates that jobs of this home trust, which every user of the machine may read.

    Args:
        home: the launcher's home, whose authority speaks for AWS's names.
        surroundings: the variables of whoever starts a job.
    """
    from launcher.aws_names.authority import Authority, write_private

    path = home / "exec" / "job-ca-bundle.pem"
    write_private(path, bundle(surroundings, Authority(home / "exec").certificate_path))
    path.chmod(0o644)
    return path


def bundle(surroundings: Mapping[str, str], authority: Path) -> bytes:
    """Return the certificates that the caller trusts, and an authority's.

    Args:
        surroundings: the variables of the caller.
        authority: its certificate, in PEM.
    """
    import ssl

    system = ssl.get_default_verify_paths()
    bundles = [surroundings.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")]
    bundles += [system.cafile or "", "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    certificates = dict.fromkeys(_split(authority.read_bytes()))
    for path in filter(None, dict.fromkeys(bundles)):
        try:
            certificates |= dict.fromkeys(_split(Path(path).read_bytes()))
        except OSError:  # another machine's place for it, or a folder
            continue
    if len(certificates) == 1:
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        certificates |= dict.fromkeys(_split(Path(DEFAULT_CA_BUNDLE_PATH).read_bytes()))
    return b"".join(certificates)


def _split(text: bytes) -> list[bytes]:
    """Return the certificates of a bundle, without what stands between them."""
    return [_BEGIN + part.partition(_END)[0] + _END + b"\n" for part in text.split(_BEGIN)[1:] if _END in part]
