"""What the machine lends a job for installing its own requirements."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import docker.types

from launcher.jobs.spec import ContainerSpec
from launcher.settings import build_settings, pip_settings

_LENT = "/run/launcher"
CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Lent:
    """What the machine lends a job for installing its own requirements; nothing of it is recorded."""

    variables: dict[str, str]
    mounts: list[docker.types.Mount]


def lent_for_installing(container: ContainerSpec) -> Lent:
    """Return the caller's certificates and package indexes as a container can use them: files are mounted."""
    variables: dict[str, str] = {}
    mounts: list[docker.types.Mount] = []

    def lend(path: Path, inside: str) -> str:
        if all(mount["Target"] != inside for mount in mounts):
            mounts.append(docker.types.Mount(inside, str(path.resolve()), type="bind", read_only=True))
        return inside

    given = {name: os.environ[name] for name in container.inherited if os.environ.get(name)}
    wanted = {name: value for name, value in pip_settings().items() if name in container.inherited} | given
    for name in CERTIFICATE_VARIABLES:
        if name in wanted and Path(wanted[name]).is_file():
            variables[name] = lend(Path(wanted[name]), f"{_LENT}/{name.lower()}.pem")
    if "PIP_CERT" in container.inherited and not variables and (bundle := build_settings().ca_bundle):
        variables["PIP_CERT"] = lend(bundle, f"{_LENT}/pip_cert.pem")
    if "PIP_FIND_LINKS" in container.inherited and "PIP_FIND_LINKS" not in wanted:
        wanted["PIP_FIND_LINKS"] = " ".join(str(folder) for folder in build_settings().wheel_folders)
    for name, kind in (
        ("PIP_FIND_LINKS", "wheels"),
        ("PIP_INDEX_URL", "index"),
        ("PIP_EXTRA_INDEX_URL", "extra-index"),
    ):
        places = []
        for number, place in enumerate(wanted.get(name, "").split()):
            path = Path(place.removeprefix("file://"))
            is_folder = (place.startswith(("file:///", "/")) or name == "PIP_FIND_LINKS") and path.is_dir()
            inside = lend(path, f"{_LENT}/{kind}-{number}") if is_folder else place
            places.append(f"file://{inside}" if is_folder and name != "PIP_FIND_LINKS" else inside)
        if places:
            variables[name] = " ".join(places)
    if "PIP_TRUSTED_HOST" in wanted:
        variables["PIP_TRUSTED_HOST"] = wanted["PIP_TRUSTED_HOST"]
    return Lent(variables, mounts)
