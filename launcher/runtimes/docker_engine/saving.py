"""An image of this machine's engine as an archive, which other engines can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from launcher.errors import ImageError, RuntimeUnavailableError
from launcher.runtimes.docker_engine.connection import BROKEN, patient_client, quick_client, words_of


def saved_image(name: str, folder: Path) -> tuple[str, Path] | None:
    """Write an image to an archive, unless that is there.

    Args:
        name: of the image.
        folder: for the archive, which is named by the image's id.
    Returns:
        The id and the archive; None where no engine answers, or it has no such image.
    Raises:
        ImageError: it cannot be written.
    """
    try:
        image_id = str(quick_client().inspect_image(name)["Id"])
    except (RuntimeUnavailableError, *BROKEN):
        return None
    path = folder / f"{image_id.removeprefix('sha256:')}.tar"
    if path.exists():
        return image_id, path
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".image.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in patient_client().get_image(image_id):
                file.write(chunk)
        Path(part).replace(path)
    except BROKEN as error:
        Path(part).unlink(missing_ok=True)
        text = words_of(error)
        raise ImageError(f"the image {name} cannot be written to {path}: {text}", "Make room there.") from error
    return image_id, path
