"""Which image of this machine runs in the place of one of AWS's: a table, and lines of the user's own before it.

``images.toml`` beside this file is the table; ``LAUNCHER_HOME/images.toml`` holds the user's.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from launcher.errors import ImageError
from launcher.settings import home_path

BUNDLED = "bundled"
_OF_AWS = re.compile(r"(?:[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.[a-z0-9.-]+|public\.ecr\.aws)/.+")
_EXTENDED = re.compile(r"bundled\s*\+\s*(\S.*)")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9,._-]+\])?(?:[=<>!~]=?[A-Za-z0-9.*,<>=!~+-]+)?")
_KEY = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*._/:@-]*")


def local_image(image_uri: str | None) -> str:
    """Return what runs for an image that a request names.

    Returns:
        Nothing for the bundled image; ``bundled + PACKAGE ...`` for the bundled one with more in it; else the name of
        an image, as it was given where no line of the table fits.
    Raises:
        ImageError: a line of the user's table cannot be read.
    """
    if not image_uri:
        return ""
    names = _names(image_uri)
    for key, image in own_lines().items():
        if any(fnmatchcase(name, key) for name in names):
            return _checked(key, image)
    if is_of_aws(image_uri):
        for key, image in shipped_lines().items():
            if any(fnmatchcase(name, key) for name in names):
                return _checked(key, image)
    return image_uri


def is_of_aws(image_uri: str) -> bool:
    """Return whether an image's name leads to a registry of AWS, which nothing here asks."""
    return _OF_AWS.fullmatch(image_uri) is not None


def is_bundled(image: str) -> bool:
    """Return whether what ``local_image`` returned is the launcher's own image, with packages or without."""
    return not image or _EXTENDED.fullmatch(image) is not None


def image_note(image_uri: str | None) -> str:
    """Return which image runs in the place of one that a request names; nothing where it is that one itself."""
    image = local_image(image_uri)
    return f"the image {image_uri} stands for: {image or BUNDLED}" if image_uri and image != image_uri else ""


def line_to_add(image_uri: str) -> str:
    """Return the command that gives an image a counterpart."""
    repository = _names(image_uri)[-1]
    return f"launcher images set {repository} {BUNDLED}"


def shipped_lines() -> dict[str, str]:
    """Return the table that the launcher comes with."""
    return _read(Path(__file__).with_suffix(".toml"))


def own_lines() -> dict[str, str]:
    """Return the user's own lines, which go before the shipped ones.

    Raises:
        ImageError: the file is no table of texts.
    """
    return _read(_own_path())


def set_line(key: str, image: str) -> None:
    """Add a line to the user's table, before all others, or replace it.

    Raises:
        ImageError: the key is none, or the image cannot be one.
    """
    if not _KEY.fullmatch(key):
        raise ImageError(f"{key!r} is no name of an image.", "Give a repository, such as sagemaker-scikit-learn.")
    _checked(key, image)
    _write({key: image, **{other: value for other, value in own_lines().items() if other != key}})


def remove_line(key: str) -> None:
    """Take a line out of the user's table.

    Raises:
        ImageError: it has none with that key.
    """
    lines = own_lines()
    if key not in lines:
        own = ", ".join(lines) or "none"
        raise ImageError(f"there is no line of yours for '{key}'.", f"Yours: {own}. The shipped ones stay.")
    _write({other: value for other, value in lines.items() if other != key})


def _names(image_uri: str) -> list[str]:
    """Return all names that a line may have for an image, the repository last."""
    registry, slash, rest = image_uri.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, rest = "", image_uri
    path = rest.partition("@")[0].partition(":")[0]
    repository = path.rpartition("/")[2] if is_of_aws(image_uri) else path
    tag = rest.removeprefix(path)
    return list(dict.fromkeys([image_uri, image_uri.removesuffix(tag), f"{repository}{tag}", repository]))


def _checked(key: str, image: str) -> str:
    """Return what a line stands for, as ``local_image`` does."""
    if image == BUNDLED:
        return ""
    match = _EXTENDED.fullmatch(image)
    if match is not None:
        wrong = [name for name in match[1].split() if not _PACKAGE.fullmatch(name)]
        if wrong:
            raise ImageError(f"the line for '{key}': {wrong[0]!r} is no package.", "Write: bundled + scikit-learn")
        return f"bundled + {' '.join(sorted(match[1].split()))}"
    if not image.strip() or any(character.isspace() for character in image):
        raise ImageError(f"the line for '{key}': {image!r} is no image.", "Write bundled, or the name of an image.")
    return image


def _own_path() -> Path:
    return home_path() / "images.toml"


def _read(path: Path) -> dict[str, str]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ImageError(f"the table of images {path} cannot be read: {error}.", "Correct it, or delete it.") from error
    for key, value in values.items():
        if not isinstance(value, str):
            raise ImageError(f"the table of images {path}: '{key}' is no text.", 'Write: "NAME" = "bundled"')
    return values


def _write(lines: Mapping[str, str]) -> None:
    path = _own_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=".images.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in lines.items())
    Path(new).replace(path)
