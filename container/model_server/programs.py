"""Where the file with the user's functions is."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from model_server.errors import ServingError
from model_server.settings import ServerSettings

DEFAULT_PROGRAM = "inference.py"


def find_program(settings: ServerSettings, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file with the user's functions; None where there is none, and none is asked for by name.

    Raises:
        ServingError: ``SAGEMAKER_PROGRAM`` names a file that is nowhere.
    """
    named = environment.get("SAGEMAKER_PROGRAM", "")
    program = named or DEFAULT_PROGRAM
    if not program.endswith(".py"):
        program += ".py"
    folders = code_folders(settings, environment)
    for folder in folders:
        if (folder / program).is_file():
            return folder / program
    if named:
        raise ServingError(
            f"SAGEMAKER_PROGRAM is {named!r}, and {program} is in none of: {', '.join(map(str, folders))}."
        )
    return None


def code_folders(settings: ServerSettings, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where the user's code may be, the place that counts first at the beginning."""
    folders = [settings.model / "code", settings.model, settings.code]
    submitted = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if submitted.startswith("file://"):
        submitted = unquote(urlsplit(submitted).path)
    if submitted.startswith("/") and Path(submitted).is_dir():  # an archive is unpacked to the code folder
        folders.insert(0, Path(submitted))
    return folders
