"""The runtimes by name, and the choice between them."""

from __future__ import annotations

from importlib import import_module

from launcher.errors import SettingsError, UnsupportedOptionError
from launcher.runtimes.addresses import MachineAddress
from launcher.runtimes.base import EndCause, Ending, Execution, HostState, Runtime, open_log
from launcher.settings import RUNTIME_ENTRY_POINTS, launcher_host

__all__ = [
    "TRAINING_JOB",
    "EndCause",
    "Ending",
    "Execution",
    "HostState",
    "Runtime",
    "choose_runtime",
    "get_runtime",
    "open_log",
    "runtime_names",
]

TRAINING_JOB = "a training job"
_OWN = {
    "process": "launcher.runtimes.process:ProcessRuntime",
    "docker": "launcher.runtimes.docker_engine.runtime:DockerRuntime",
    "slurm": "launcher.runtimes.slurm:SlurmRuntime",
}


def get_runtime(name: str) -> Runtime:
    """Return the runtime of that name: one of the launcher's own, or one that an installed package provides.

    Args:
        name: as records have it; ``docker+ssh://user@box`` is the runtime ``docker`` of another machine.
    Raises:
        SettingsError: there is no such runtime, or it cannot be loaded.
    """
    if "://" in name:
        return _elsewhere(MachineAddress.of_runtime(name))
    place = _OWN.get(name) or _offered().get(name)
    if place is None:
        raise SettingsError(f"'{name}' is no runtime.", f"Use one of: {', '.join(runtime_names())}.")
    module, _, attribute = place.partition(":")
    try:
        runtime_class = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"the runtime '{name}' is {place}, which cannot be loaded: {error}.", "Install its package again."
        ) from error
    if not (isinstance(runtime_class, type) and issubclass(runtime_class, Runtime)):
        raise SettingsError(
            f"the runtime '{name}' is {place}, which is no subclass of launcher.runtimes.Runtime.",
            "See docs/adding-a-runtime.md.",
        )
    return runtime_class()


def _elsewhere(address: MachineAddress, image_uri: str | None = None) -> Runtime:
    # By name, because it is of a room below this one.
    runtime: Runtime = import_module("launcher.elsewhere.runtime").AnotherMachine(address, image_uri)
    return runtime


def runtime_names() -> list[str]:
    """Return ``auto`` and the names of all runtimes."""
    return ["auto", *sorted({*_OWN, *_offered()})]


def _offered() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to load, and only needed for names that are not our own

    return {entry.name: entry.value for entry in entry_points(group=RUNTIME_ENTRY_POINTS)}


def choose_runtime(name: str, *, image_uri: str | None, subject: str = "this") -> Runtime:
    """Return the runtime of that name; ``auto`` is Docker if an engine answers, else a local process.

    With ``LAUNCHER_HOST`` it is that runtime of another machine.

    Args:
        name: ``auto``, or a runtime's.
        image_uri: the user's own image, which only Docker can run.
        subject: what is to run, as a person says it. Another machine runs training jobs alone.
    Raises:
        SettingsError: there is no such runtime, or ``LAUNCHER_HOST`` names no machine.
        UnsupportedOptionError: another machine is named, and does not run such things.
    """
    place = launcher_host()
    if "://" in name or place:
        address = MachineAddress.of_runtime(name) if "://" in name else MachineAddress.of_host(place, name)
        if subject != TRAINING_JOB:
            raise UnsupportedOptionError(
                f"{subject} cannot run on another machine, and {address} is one.",
                f"Training jobs can. For the rest unset LAUNCHER_HOST, or log in there: {address.login}",
            )
        return _elsewhere(address, image_uri)
    if name != "auto":
        return get_runtime(name)
    from launcher.runtimes.images import is_bundled, local_image
    from launcher.runtimes.probe import engine_answers

    return get_runtime("docker" if not is_bundled(local_image(image_uri)) or engine_answers() else "process")
