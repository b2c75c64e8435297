"""The modules of the SDK that have a counterpart: launcher.session is what sagemaker.session is there.

Each lies in this folder, and is found as a module of ``launcher`` whatever was imported before it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from launcher.sdk.missing import refuse_name

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the modules, without those inside them."""
    return sorted(path.stem for path in _FOLDER.iterdir() if not path.name.startswith("_"))


def find(name: str) -> ModuleSpec | None:
    """Return what loads ``launcher.<name>``; None where the SDK has no such module, as far as we know.

    Raises:
        UnsupportedImportError: the SDK has it, and it has no counterpart.
    """
    path = _path(name)
    if path is None:
        refuse_name(name)
        return None
    full_name = f"launcher.{name}"
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    loader = _Loader(full_name, str(path))
    return spec_from_file_location(full_name, path, loader=loader, submodule_search_locations=folders)


class _Loader(SourceFileLoader):
    """Loads one of the modules; what the SDK's has besides is refused with a word on what to use."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module)["__getattr__"] = partial(_missing_member, module.__name__)


def _missing_member(module: str, name: str) -> Any:
    full_name = f"{module}.{name}"
    if _path(full_name.removeprefix("launcher.")):
        return import_module(full_name)
    if not name.startswith("_"):
        refuse_name(name, module)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def _path(name: str) -> Path | None:
    place = _FOLDER.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in candidates if path.is_file()), None)
