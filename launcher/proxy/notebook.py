"""``%load_ext launcher``: for the kernel of a notebook what ``launcher exec`` is for a program."""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from contextlib import ExitStack, suppress
from typing import Any

from launcher.proxy.environment import SHIM_PATH
from launcher.proxy.running import local_aws
from launcher.settings import home_path
from launcher.terminal import say_error

_loaded: list[tuple[ExitStack, dict[str, str]]] = []


def load() -> None:
    """Lead AWS's names to the local endpoint in this process and all that it starts; a second call changes nothing."""
    if _loaded:
        return
    stack, before = ExitStack(), dict(os.environ)
    variables = stack.enter_context(local_aws(home_path(), before))
    _loaded.append((stack, before))
    atexit.register(unload)  # the proxy's thread does not outlive Python
    _set_environment(variables)
    _shim().install()
    if "boto3" in sys.modules:
        vars(sys.modules["boto3"])["DEFAULT_SESSION"] = None
        say_error("boto3 was imported before: clients and sessions that are there already still ask real AWS.")


def unload() -> None:
    """Take it back: what is asked from here on goes where it went before."""
    atexit.unregister(unload)
    with suppress(IndexError):
        stack, before = _loaded.pop()
        _shim().active = False
        _set_environment(before)
        stack.close()


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _shim() -> Any:
    if str(SHIM_PATH) not in sys.path:
        sys.path.insert(0, str(SHIM_PATH))
    return importlib.import_module("launcher_exec_shim")
