"""The runtimes by name, and the choice between them."""

from __future__ import annotations

from launcher.errors import SettingsError
from launcher.runtimes.base import Execution, Runtime
from launcher.settings import RUNTIME_NAMES

__all__ = ["Execution", "Runtime", "choose_runtime", "get_runtime"]


def get_runtime(name: str) -> Runtime:
    """Return the runtime ``docker`` or ``process``.

    Raises:
        SettingsError: there is no such runtime.
    """
    if name == "process":
        from launcher.runtimes.process import ProcessRuntime

        return ProcessRuntime()
    if name == "docker":
        from launcher.runtimes.docker_engine import DockerRuntime

        return DockerRuntime()
    raise SettingsError(f"'{name}' is no runtime.", f"Use one of: {', '.join(RUNTIME_NAMES)}.")


def choose_runtime(name: str, *, image_uri: str | None) -> Runtime:
    """Return the runtime of that name; ``auto`` is Docker if an engine answers, else a local process.

    Args:
        name: ``auto``, ``docker`` or ``process``.
        image_uri: the user's own image, which only Docker can run.
    """
    if name != "auto":
        return get_runtime(name)
    from launcher.runtimes.probe import engine_answers

    return get_runtime("docker" if image_uri or engine_answers() else "process")
