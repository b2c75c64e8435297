"""What lies in an endpoint's folder beside its record, and asks its process for something."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WANTED = "wanted.json"
"""The deployment that an update asks for."""

DELETION = "delete-requested"
SPOOL = "capture"
"""What is on its way to an S3: a folder for each destination."""


def write_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON so that readers see all of it or the file before."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(dict(values)), encoding="utf-8")
    new.replace(path)


def spool_folder(folder: Path, destination: str, s3: Mapping[str, Any] | None) -> Path:
    """Return the folder for what is on its way to a destination; what leads there is written into it."""
    values = {"destination": destination, "s3": None if s3 is None else dict(s3)}
    spool = folder / SPOOL / hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    spool.mkdir(parents=True, exist_ok=True)
    write_whole(spool / "settings.json", values)
    return spool
