"""The engine that the environment names, by docker-py, and what it says when it does not do what it is asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.utils
import requests

from launcher.errors import RuntimeUnavailableError
from launcher.runtimes.probe import engine_address

# An engine that does not answer a question in this time counts as hung. Work gets longer: under load it is slow.
ANSWER_SECONDS = 10
_WORK_SECONDS = 120
BROKEN = (requests.exceptions.RequestException, docker.errors.APIError, OSError)
_NO_ENGINE_HINT = 'Start it (launcher doctor says how), or run as a local process: Estimator(..., runtime="process").'


@contextlib.contextmanager
def engine_errors(problem: str, hint: str = "") -> Iterator[None]:
    """Raise what the engine refuses as ``problem``, with its own words; and say so when it does not answer."""
    try:
        yield
    except docker.errors.APIError as error:
        raise RuntimeUnavailableError(f"{problem}: {words_of(error)}", hint) from error
    except BROKEN as error:
        raise silent(error) from error


def silent(error: Exception) -> RuntimeUnavailableError:
    """Return the error of an engine that does not answer."""
    return RuntimeUnavailableError(
        f"the engine at {engine_address()} does not answer ({type(error).__name__}).", _NO_ENGINE_HINT
    )


def describe_engine() -> tuple[str, str, set[str]]:
    """Return the engine's version, its API's version, and the names of the images it has.

    Raises:
        RuntimeUnavailableError: no engine answers.
    """
    client = quick_client()
    version = client.version()
    names = {name for image in client.images() for name in image["RepoTags"] or ()}
    return version["Version"], version["ApiVersion"], names


@lru_cache(maxsize=2)
def _connected(_address: str, timeout_seconds: int = ANSWER_SECONDS) -> docker.APIClient:
    version = "auto" if timeout_seconds == ANSWER_SECONDS else _connected(_address).api_version
    return docker.APIClient(**docker.utils.kwargs_from_env(), version=version, timeout=timeout_seconds)


@lru_cache(maxsize=1)
def is_podman(address: str) -> bool:
    """Return whether podman answers at an address; asked once."""
    components = _connected(address).version().get("Components") or ()
    return any("Podman" in component.get("Name", "") for component in components)


def quick_client() -> docker.APIClient:
    """Return a client for questions of the engine that the environment names, one for each address.

    Raises:
        RuntimeUnavailableError: none answers, or not in time.
    """
    try:
        return _connected(engine_address())
    except (docker.errors.DockerException, requests.exceptions.RequestException, ValueError) as error:
        reason = "no Docker engine answers"
        if "Permission denied" in str(error):
            raise RuntimeUnavailableError(
                f"you may not use the socket of the Docker engine, {engine_address()}.",
                "Join its group (sudo usermod -aG docker $USER) and log in again, or run as a local process: "
                'runtime="process", -r process.',
            ) from None  # five tracebacks of the client's inside say no more
        if isinstance(error, ValueError):
            reason = f"DOCKER_HOST names no address ({error}): nothing answers"
        raise RuntimeUnavailableError(f"{reason} at {engine_address()}.", _NO_ENGINE_HINT) from None


def patient_client() -> docker.APIClient:
    """Return a client that waits longer for an answer, for work that may take its time.

    Raises:
        RuntimeUnavailableError: no engine answers.
    """
    quick_client()
    return _connected(engine_address(), _WORK_SECONDS)


def is_rootless() -> bool:
    """Return whether the engine is the caller's own, without root's rights."""
    address = urlsplit(engine_address())
    if address.scheme != "unix" or os.getuid() == 0:
        return False
    try:
        return Path(address.path).stat().st_uid == os.getuid()
    except OSError:
        return False


def own_user() -> str:
    """Return the user whose files are the caller's; a rootless engine calls the caller root."""
    return "0:0" if is_rootless() else f"{os.getuid()}:{os.getgid()}"


def words_of(error: Exception) -> str:
    """Return what the engine says in an error."""
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip()
