"""The variables and files that a program under ``launcher exec`` gets in place of its own.

Nothing of the caller's credentials is among them: a request that went past the proxy would reach AWS with a key that
AWS does not know.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from launcher.aws_names.authority import write_private
from launcher.aws_names.variables import CA_VARIABLES, bundle, proxy_variables
from launcher.settings import REGION

SHIM_PATH = Path(__file__).parent / "shim"
_DROPPED = ("ALL_PROXY", "all_proxy", "BOTO_CONFIG", "LAUNCHER_S3_ENDPOINT")


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
    bundle_path = folder / "ca-bundle.pem"
    write_private(bundle_path, bundle(caller, authority))
    profiles = _profiles(caller)
    write_private(folder / "config", _ini({_section(name): {"region": REGION} for name in profiles}))
    keys = {name.lower(): value for name, value in credentials.items() if name.startswith("AWS_")}
    write_private(folder / "credentials", _ini(dict.fromkeys(profiles, keys)))
    search_path = os.pathsep.join(filter(None, (str(SHIM_PATH), caller.get("PYTHONPATH"))))
    return {
        **environment,
        **proxy_variables(proxy_url),
        **dict.fromkeys(CA_VARIABLES, str(bundle_path)),
        **credentials,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LAUNCHER_AWS_NAMES": "local",
        "LAUNCHER_HOME": str(home),
        "PYTHONPATH": search_path,
    }


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
