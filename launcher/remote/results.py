"""What a training job left in a bucket, brought to this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import ArtifactError
from launcher.remote.client import WireClient
from launcher.running import artifacts

PARTS = ("model", "output", "intermediate")


def result_uris(description: Mapping[str, Any]) -> dict[str, str]:
    """Return where each part of a training job's results is, by SageMaker's layout.

    Args:
        description: as DescribeTrainingJob answers.
    """
    prefix = f"{description['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{description['TrainingJobName']}/output"
    model = description.get("ModelArtifacts", {}).get("S3ModelArtifacts") or f"{prefix}/model.tar.gz"
    packed = description["OutputDataConfig"].get("CompressionType", "GZIP") != "NONE"
    return {
        "model": model,
        "output": f"{prefix}/output.tar.gz" if packed else f"{prefix}/data",
        "intermediate": f"{prefix}/intermediate",
    }


def fetch_part(client: WireClient, description: Mapping[str, Any], part: str, folder: Path) -> Path:
    """Return the folder with a part of a job's results, which is downloaded and unpacked when it is first asked for.

    Args:
        part: one of ``PARTS``.
        folder: the job's own, for copies.
    Raises:
        ArtifactError: the job has left nothing of the kind, or its archive must not be unpacked.
    """
    target = folder / part
    # What a running job writes beside its archives is not whole yet.
    if target.is_dir() and part != "intermediate":
        return target
    uri = result_uris(description)[part]
    storage = client.storage
    if not storage.exists(uri):
        raise ArtifactError(
            f"job '{description['TrainingJobName']}' left no {uri.rpartition('/')[2]} at {client.place.title}.",
            f"It is {description['TrainingJobStatus']}. Looked for {uri}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{part}-", dir=folder) as scratch:
        if not uri.endswith(".tar.gz"):
            below = storage.files_below(uri)
            if part == "intermediate":
                storage.download_all({inner: target / name for name, inner in below.items()})
            elif not target.is_dir():
                storage.download_all({inner: Path(scratch, "files", name) for name, inner in below.items()})
                Path(scratch, "files").rename(target)
            return target
        archive = Path(scratch, "archive.tar.gz")
        storage.download_all({uri: archive})
        try:
            artifacts.unpack(archive, target)
        except ArtifactError:
            if not target.exists():  # else another process was the first to unpack it
                raise
    return target
