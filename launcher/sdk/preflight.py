"""Asks a source folder about presets: whether it accepts one, and what is in it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import PresetError, RuntimeUnavailableError
from launcher.running.source import Source
from launcher.settings import data_path, install_command

_CHECKER = "batch_rl/presets/__main__.py"
LIBRARIES = ("torch", "gymnasium", "numpy", "pandas", "pyarrow", "matplotlib")
_TIMEOUT_SECONDS = 30
_REFUSED = 2


def check_libraries(source: Source) -> None:
    """Refuse a source with the RL library where this interpreter lacks what the library needs.

    Raises:
        RuntimeUnavailableError: it does.
    """
    if source.members or not (source.path / _CHECKER).is_file():
        return
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"the process runtime runs entry points by {sys.executable}, which lacks {', '.join(missing)}.",
            f'{install_command("rl")}\n  Or use runtime="docker".',
        )


def check_preset(source: Source, hyperparameters: Mapping[str, Any]) -> None:
    """Have the source check preset and hyperparameters, if it is one that reads presets.

    The check runs in another process: the launcher never imports a job's code.

    Raises:
        PresetError: in the source's own words.
    """
    if source.members or not (source.path / _CHECKER).is_file():
        return
    folders = [source.path / "presets", (source.path / source.program).parent, source.path]
    folders += [path if path.is_dir() else path.parent for path in source.dependencies]
    question = {
        "folders": [str(folder) for folder in dict.fromkeys(folders)],
        "entry_point": source.program,
        "hyperparameters": dict(hyperparameters),
    }
    _ask(source.path, question)


def describe_preset(name: str) -> dict[str, Any]:
    """Return the path, the entry point and every key of a bundled preset, as ``batch_rl.presets`` describes them.

    Raises:
        PresetError: there is none of that name, or it is not right.
    """
    description: dict[str, Any] = json.loads(
        _ask(data_path("entrypoints"), {"folders": [str(data_path("presets"))], "show": name})
    )
    return description


def _ask(source_path: Path, question: Mapping[str, Any]) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "batch_rl.presets"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        cwd=source_path,
        env={"PYTHONPATH": str(source_path), "PYTHONDONTWRITEBYTECODE": "1", "PATH": str(Path(sys.executable).parent)},
        check=False,
    )
    if answer.returncode == 0:
        return answer.stdout
    message, _, hint = answer.stderr.strip().partition("\n")
    if answer.returncode == _REFUSED:
        raise PresetError(message, hint.strip())
    raise PresetError(f"{source_path / _CHECKER} could not read the preset: {answer.stderr.strip()[-500:]}")
