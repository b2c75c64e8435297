"""Asks a source folder that understands presets whether it accepts one, before a job is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import PresetError
from launcher.source import Source

_CHECKER = "batch_rl/preset.py"
_TIMEOUT_SECONDS = 30
_REFUSED = 2


def check_preset(source: Source, hyperparameters: Mapping[str, Any]) -> None:
    """Have the source check preset and hyperparameters, if it is one that reads presets.

    The check runs in a process of its own: what runs in a job is never imported by the launcher.

    Raises:
        PresetError: in the words of the one who reads presets.
    """
    if source.members or not (source.path / _CHECKER).is_file():
        return
    folders = [str(source.path / "presets"), str((source.path / source.program).parent), str(source.path)]
    for dependency in source.dependencies:
        folders.append(str(dependency if dependency.is_dir() else dependency.parent))
    question = {"folders": folders, "entry_point": source.program, "hyperparameters": dict(hyperparameters)}
    answer = subprocess.run(
        [sys.executable, "-m", "batch_rl.preset"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        cwd=source.path,
        env={"PYTHONPATH": str(source.path), "PYTHONDONTWRITEBYTECODE": "1", "PATH": str(Path(sys.executable).parent)},
        check=False,
    )
    if answer.returncode == 0:
        return
    message, _, hint = answer.stderr.strip().partition("\n")
    if answer.returncode == _REFUSED:
        raise PresetError(message, hint.strip())
    raise PresetError(f"{source.path / _CHECKER} could not check the preset: {answer.stderr.strip()[-500:]}")
