"""What instance types mean to engines that ask for machines by what they have."""

from __future__ import annotations

import re
from typing import NamedTuple

from launcher.errors import UnsupportedOptionError
from launcher.jobs.instance_types import instance_type
from launcher.jobs.spec import TrainingJobSpec

# AWS's documents on accelerated instance types: the GPU of a family, and its memory in GB.
_GPUS = {
    "p2": ("K80", 12), "p3": ("V100", 16), "p3dn": ("V100", 32), "p4d": ("A100", 40), "p4de": ("A100", 80),
    "p5": ("H100", 80), "p5e": ("H200", 141), "p5en": ("H200", 141), "g4dn": ("T4", 16), "g5": ("A10G", 24),
    "g6": ("L4", 24), "g6e": ("L40S", 48), "p6-b200": ("B200", 180),
}  # fmt: skip
_TAG = re.compile(r"[A-Za-z0-9_-]{1,60}=[A-Za-z0-9._-]{0,63}")


class Machine(NamedTuple):
    """The least that a host is to have.

    Attributes:
        cpus: virtual CPUs.
        memory_gb: in units of 2**30 bytes.
        gpus: how many.
        gpu: their name; empty where there are none.
        gpu_gb: the memory of each.
    """

    cpus: int
    memory_gb: int
    gpus: int
    gpu: str
    gpu_gb: int

    @property
    def gpu_with_memory(self) -> str:
        """The GPUs' name, with their memory where the name is that of two kinds."""
        return f"{self.gpu}-{self.gpu_gb}GB" if (self.gpu, self.gpu_gb) in (("V100", 32), ("A100", 80)) else self.gpu


def machine_of(spec: TrainingJobSpec) -> Machine | None:
    """Return what each host of a job is to have; None for ``local`` and types that no table has.

    Raises:
        UnsupportedOptionError: hosts differ, or have GPUs whose name is in no table.
    """
    type_name, *others = {group.instance_type for group in spec.groups}
    if others:
        raise UnsupportedOptionError(
            "ResourceConfig.InstanceGroups: all nodes of a task are alike.", "Give all groups one InstanceType."
        )
    kind = instance_type(type_name)
    if kind is None:
        return None
    family = type_name.split(".")[1]
    if kind.gpus and family not in _GPUS:
        raise UnsupportedOptionError(
            f"ResourceConfig.InstanceType={type_name}: GPUs are asked for by name, and no table has that of this type.",
            f"Name a type of {', '.join(_GPUS)}.",
        )
    gpu, gpu_gb = _GPUS[family] if kind.gpus else ("", 0)
    return Machine(kind.cpus, kind.memory_bytes >> 30, kind.gpus, gpu, gpu_gb)


def fitting_tags(spec: TrainingJobSpec) -> tuple[dict[str, str], list[str]]:
    """Return the tags that every cloud takes as labels, and a line for each of the others."""
    fitting = {key: value for key, value in spec.tags if _TAG.fullmatch(f"{key}={value}")}
    others = [key for key, _ in spec.tags if key not in fitting]
    return fitting, [f"Tags: {key!r} is not carried over: not every cloud takes it" for key in others]
