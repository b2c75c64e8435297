"""What every Python below ``launcher exec`` loads when it starts; the standard library alone.

``PYTHONPATH`` brings it in, so it loads the ``sitecustomize`` that it stands before as well.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import launcher_exec_shim


def _load_next() -> None:
    """Load the module of this name that Python would have loaded without us."""
    here = Path(__file__).resolve().parent
    search_path = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    spec = PathFinder.find_spec("sitecustomize", search_path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


launcher_exec_shim.install()
_load_next()
