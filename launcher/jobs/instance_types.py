"""What SageMaker's instance types have: CPUs, memory and GPUs, as AWS documents them (``instance_types.csv``)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple


class InstanceType(NamedTuple):
    """What a machine of a type has.

    Attributes:
        cpus: virtual CPUs.
        memory_bytes: all of it.
        gpus: NVIDIA devices.
    """

    cpus: int
    memory_bytes: int
    gpus: int


def instance_type(name: str) -> InstanceType | None:
    """Return what a type has; None for ``local`` and for types that the table lacks."""
    return _table().get(name) if name.startswith("ml.") else None


@cache
def _table() -> dict[str, InstanceType]:
    import csv

    with Path(__file__).with_name("instance_types.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["type"]: InstanceType(int(row["cpus"]), int(float(row["memory_gib"]) * 2**30), int(row["gpus"]))
            for row in csv.DictReader(file)
        }
