"""A large model artifact: what it takes of the disk until it is packed, and how fast it is packed."""

from __future__ import annotations

import tarfile
from pathlib import Path

import model_writer
from measuring import MIB, Aim, Row, disk_usage, interleave, watched_disk_usage

from launcher import Estimator
from launcher.running.artifacts import pack_hosts

_STDLIB_SIZE_MIB = 128
_MOST_RUNS = 3


def artifact_rows(scratch: Path, home: Path, runs: int, size_mib: int) -> list[Row]:
    """Disk at its fullest while a job leaves a large model; packing against ``tarfile.open(..., "w:gz")``."""
    return [_disk_row(home, size_mib), *_packing_rows(scratch, min(runs, _MOST_RUNS), size_mib)]


def _disk_row(home: Path, size_mib: int) -> Row:
    estimator = Estimator(
        entry_point=str(Path(model_writer.__file__)), hyperparameters={"size_mib": size_mib}, runtime="process"
    )
    with watched_disk_usage(home) as peak:
        job = estimator.submit()
        job.wait(logs=False)
    archive = Path(job.model_data.removeprefix("file://"))
    packed = archive.stat().st_size / MIB
    left = disk_usage(job.path) / MIB
    archive.unlink()
    return Row(
        "artifact",
        f"{size_mib} MiB model: peak disk against model + model.tar.gz",
        unit="MiB",
        floor=[size_mib + packed],
        ours=[peak.bytes / MIB],
        aims=(Aim("difference", size_mib),),
        note=f"model.tar.gz takes {packed:.0f} MiB; the job's folder holds {left:.0f} MiB in the end; "
        f"{peak.samples} samples.",
    )


def _packing_rows(scratch: Path, runs: int, size_mib: int) -> list[Row]:
    whole = _tree(scratch / "model", size_mib)
    part = _tree(scratch / "model-part", min(size_mib, _STDLIB_SIZE_MIB))
    target = scratch / "packed.tar.gz"
    sizes: dict[str, int] = {}

    def stdlib() -> None:
        with tarfile.open(target, "w:gz") as archive:
            archive.add(part, arcname=".")
        sizes["stdlib"] = target.stat().st_size

    def ours(tree: Path, name: str) -> None:
        pack_hosts([("", tree)], "", target)
        sizes[name] = target.stat().st_size

    times = interleave(
        {"stdlib": stdlib, "part": lambda: ours(part, "part"), "whole": lambda: ours(whole, "whole")}, runs
    )
    target.unlink()
    part_mib, whole_mib = (sum(path.stat().st_size for path in tree.iterdir()) / MIB for tree in (part, whole))
    floor = [part_mib * 1000 / seconds for seconds in times["stdlib"]]
    percent = {name: size / MIB / (whole_mib if name == "whole" else part_mib) for name, size in sizes.items()}
    note = f"The archive has {percent['part']:.1%} of the tree's size, tarfile's {percent['stdlib']:.1%}."
    return [
        Row(
            "artifact",
            f"packing {part_mib:.0f} MiB against tarfile w:gz on the same",
            unit="MiB/s",
            floor=floor,
            ours=[part_mib * 1000 / seconds for seconds in times["part"]],
            aims=(Aim("ratio", 15, at_least=True),),
            note=note,
        ),
        Row(
            "artifact",
            f"packing {whole_mib:.0f} MiB against tarfile w:gz on {part_mib:.0f} MiB",
            unit="MiB/s",
            floor=floor,
            ours=[whole_mib * 1000 / seconds for seconds in times["whole"]],
            aims=(Aim("ratio", 15, at_least=True),),
        ),
    ]


def _tree(folder: Path, size_mib: int) -> Path:
    folder.mkdir()
    model_writer.write_model(folder, size_mib)
    return folder
