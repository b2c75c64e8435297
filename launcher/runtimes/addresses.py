"""Where another machine is: ``ssh://user@box:port/path/to/python``, and how a runtime of it is named."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from launcher.errors import SettingsError

_EXAMPLE = "For example: export LAUNCHER_HOST=ssh://user@box, or ssh://user@box:2222/path/to/venv"
_NAME = re.compile(r"[A-Za-z0-9_.%:\[\]-]+")
_PATH = re.compile(r"(/[A-Za-z0-9._@+~:-]+)*")
_RUNTIME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class MachineAddress:
    """A machine that the system's ssh client reaches, and a runtime of it.

    Attributes:
        host: a name, an address, or what ~/.ssh/config calls it.
        user: empty where ssh decides.
        port: 0 where ssh decides.
        python: a Python there, or the folder of a virtual environment, with what the launcher needs; empty to look for
            one, or to make one.
        runtime: of that machine; ``auto`` leaves the choice to it.
    """

    host: str
    user: str = ""
    port: int = 0
    python: str = ""
    runtime: str = "auto"

    @classmethod
    def of_host(cls, text: str, runtime: str = "auto") -> MachineAddress:
        """Read ``LAUNCHER_HOST``.

        Raises:
            SettingsError: it names no machine that is reached by ssh.
        """
        return cls._parsed(text, runtime, "LAUNCHER_HOST")

    @classmethod
    def of_runtime(cls, name: str) -> MachineAddress:
        """Read the name of a runtime of another machine: ``docker+ssh://user@box``, or ``ssh://user@box``.

        Raises:
            SettingsError: it names no machine that is reached by ssh.
        """
        head, separator, rest = name.partition("://")
        runtime, plus, scheme = head.rpartition("+")
        return cls._parsed(f"{scheme}{separator}{rest}", runtime if plus else "auto", "runtime")

    @classmethod
    def _parsed(cls, text: str, runtime: str, subject: str) -> MachineAddress:
        scheme, separator, _ = text.partition("://")
        if scheme in ("http", "https") and separator:
            raise SettingsError(
                f"{subject} is {text!r}: code, inputs and results of a job do not go by the address of a local AWS.",
                "Name the machine itself, ssh://user@box. Or let an AWS client use it: export AWS_ENDPOINT_URL=...",
            )
        if not separator or scheme != "ssh":
            raise SettingsError(
                f"{subject} is {text!r}, which is no machine. A Docker context or another engine's address will not "
                "do: an engine elsewhere does not see the folders of this machine.",
                _EXAMPLE,
            )
        try:
            parts = urlsplit(text)
            port, host, user = parts.port or 0, parts.hostname or "", unquote(parts.username or "")
        except ValueError as error:
            raise SettingsError(f"{subject} is {text!r}: {error}.", _EXAMPLE) from error
        if parts.password is not None:
            raise SettingsError(
                f"{subject} has a password in it.", "Use a key: ssh-copy-id, and ssh-agent for its passphrase."
            )
        # ssh takes what begins with '-' for an option.
        usable = all(_NAME.fullmatch(name) and not name.startswith("-") for name in (host, user or "user"))
        python = unquote(parts.path).rstrip("/")
        whole = _PATH.fullmatch(python) and _RUNTIME.fullmatch(runtime) and not (parts.query or parts.fragment)
        if not usable or not whole:
            raise SettingsError(f"{subject} is {text!r}, which is no machine.", _EXAMPLE)
        return cls(host, user, port, python, runtime)

    @property
    def destination(self) -> str:
        """The machine as ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def login(self) -> str:
        """The command by which a person logs in there."""
        return " ".join(["ssh", *(["-p", str(self.port)] if self.port else []), self.destination])

    def __str__(self) -> str:
        place = f"[{self.host}]" if ":" in self.host else self.host
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{place}{port}{self.python}"

    @property
    def short_name(self) -> str:
        """The runtime and the machine for a table, without the path of its Python."""
        return replace(self, python="").runtime_name

    @property
    def runtime_name(self) -> str:
        """The runtime as records name it; ``of_runtime`` reads it."""
        return f"{self}" if self.runtime == "auto" else f"{self.runtime}+{self}"
