"""The variables and files that a program under ``launcher exec`` gets in place of its own.

Nothing of the caller's credentials is among them: a request that went past the proxy would reach AWS with a key that
AWS does not know.
"""

from __future__ import annotations

import configparser
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from launcher.proxy.authority import write_private
from launcher.settings import REGION

PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
CA_VARIABLES = (
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"),
    *("NODE_EXTRA_CA_CERTS", "HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "NIX_SSL_CERT_FILE"),
)
SHIM_PATH = Path(__file__).parent / "shim"
_NOT_PROXIED = "localhost,127.0.0.1,::1,.localhost"
_DROPPED = ("ALL_PROXY", "all_proxy", "BOTO_CONFIG", "LAUNCHER_S3_ENDPOINT")
_BEGIN = b"-----BEGIN CERTIFICATE-----"


def child_environment(
    caller: Mapping[str, str], *, home: Path, proxy_url: str, credentials: Mapping[str, str], authority: Path
) -> dict[str, str]:
    """Return every variable of the program, and write the files that they name into ``LAUNCHER_HOME/exec``.

    Args:
        caller: the variables of whoever runs it.
        home: the launcher's home.
        proxy_url: of the proxy.
        credentials: variables with which the local endpoint is asked.
        authority: the certificate of the proxy's authority.
    """
    folder = home / "exec"
    environment = {
        name: value for name, value in caller.items() if not name.startswith("AWS_") and name not in _DROPPED
    }
    bundle = folder / "ca-bundle.pem"
    write_private(bundle, _certificates(caller, authority))
    profiles = _profiles(caller)
    write_private(folder / "config", _ini({_section(name): {"region": REGION} for name in profiles}))
    keys = {name.lower(): value for name, value in credentials.items() if name.startswith("AWS_")}
    write_private(folder / "credentials", _ini(dict.fromkeys(profiles, keys)))
    search_path = os.pathsep.join(filter(None, (str(SHIM_PATH), caller.get("PYTHONPATH"))))
    return {
        **environment,
        **dict.fromkeys(PROXY_VARIABLES, proxy_url),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _NOT_PROXIED),
        **dict.fromkeys(CA_VARIABLES, str(bundle)),
        **credentials,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LAUNCHER_HOME": str(home),
        "PYTHONPATH": search_path,
    }


def _certificates(caller: Mapping[str, str], authority: Path) -> bytes:
    """Return the certificates that the caller trusts, and our authority's."""
    system = ssl.get_default_verify_paths()
    bundles = [caller.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")]
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
    ends = b"-----END CERTIFICATE-----"
    return [_BEGIN + part.partition(ends)[0] + ends + b"\n" for part in text.split(_BEGIN)[1:] if ends in part]


def _profiles(caller: Mapping[str, str]) -> list[str]:
    """Return the names of the caller's profiles, which a program may ask for; never what they hold."""
    user_home = caller.get("HOME", "")
    names = ["default", *filter(None, (caller.get("AWS_PROFILE"), caller.get("AWS_DEFAULT_PROFILE")))]
    for variable, file_name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        path = caller.get(variable) or (Path(user_home, ".aws", file_name) if user_home else "")
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
        try:
            parser.read(Path(path).expanduser() if path else [], encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):  # boto3 could not read it either
            continue
        sections = [section.split(None, 1) for section in parser.sections()]
        names += [parts[-1].strip("\"' ") for parts in sections if len(parts) == 1 or parts[0] == "profile"]
    return list(dict.fromkeys(names))


def _section(profile: str) -> str:
    return profile if profile == "default" else f'profile "{profile}"' if " " in profile else f"profile {profile}"


def _ini(sections: Mapping[str, Mapping[str, str]]) -> bytes:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
    return ("\n".join(lines) + "\n").encode()
