"""Jobs that do nothing: what the launcher adds to a container's cycle or to a script, and what a channel adds."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import Engine, EngineMissingError, caller, engine_for
from measuring import MIB, Aim, Row, disk_usage, interleave, watched_disk_usage

from launcher import Estimator, LauncherError, Session
from launcher.jobs.spec import OPT_ML, ContainerSpec, Mount
from launcher.runtimes.process import ProcessRuntime
from launcher.s3_server import service
from launcher.settings import data_path

_DOCKER_AIMS = (Aim("ratio", 1.2), Aim("difference", 50))
_CHANNEL_AIMS = (Aim("difference", 20),)
_FOREIGN = "do-nothing job, Docker, a foreign image"
_CHANNEL_FILES = 64
_SLEEP_SECONDS = 0.5

_FLOOR_PROGRAM = """
import docker
client = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
config = client.create_host_config(init=True)
container = client.create_container({image!r}, command=["train"], host_config=config)["Id"]
client.start(container)
client.wait(container)
client.remove_container(container, v=True, force=True)
"""
_OUR_PROGRAM = """
from launcher import Estimator
Estimator(image_uri={image!r}, runtime="docker").fit(logs=False)
"""


def docker_rows(scratch: Path, home: Path, runs: int) -> list[Row]:
    """A do-nothing job on the Docker runtime against docker-py alone, with the same image."""
    try:
        with engine_for(home) as engine:
            return [*_foreign_image_rows(engine, runs), _bundled_image_row(engine, scratch, runs)]
    except EngineMissingError as error:
        return [Row("docker", _FOREIGN, skipped=str(error))]


def process_rows(scratch: Path, runs: int) -> list[Row]:
    """A do-nothing job on the process runtime against the script by itself, and where the difference comes from."""
    script = _empty_script(scratch)
    folders = (scratch / f"process-{number}" for number in itertools.count())
    times = interleave(
        {
            "floor": lambda: _run([sys.executable, str(script)]),
            "whole": lambda: _run_job(Estimator(entry_point=str(script), runtime="process")),
            "supervisor": lambda: _supervisor_alone(next(folders), script),
            "toolkit": lambda: _toolkit_alone(next(folders), script),
        },
        runs,
    )
    rest = statistics.median(times["whole"]) + statistics.median(times["floor"])
    rest -= statistics.median(times["supervisor"]) + statistics.median(times["toolkit"])
    floor = times["floor"]
    return [
        Row(
            "process",
            "do-nothing job, process",
            floor=floor,
            ours=times["whole"],
            note=f"The launcher itself, without supervisor and toolkit: {rest:.1f} ms (medians).",
        ),
        Row("process", "... the supervisor's part of it", floor=floor, ours=times["supervisor"]),
        Row("process", "... the toolkit's part of it", floor=floor, ours=times["toolkit"]),
    ]


def channel_rows(scratch: Path, home: Path, runs: int, size_mib: int) -> list[Row]:
    """The same job without and with a large local channel: time, and bytes copied while it runs."""
    data = _channel_data(scratch / "channel", size_mib)
    script = _empty_script(scratch)
    sleeping = scratch / "sleep.py"
    sleeping.write_text(f"import time\ntime.sleep({_SLEEP_SECONDS})\n", encoding="utf-8")
    rows = _channel_pair(
        "process",
        data,
        home,
        runs,
        lambda: Estimator(entry_point=str(script), runtime="process"),
        lambda: Estimator(entry_point=str(sleeping), runtime="process"),
    )
    rows.append(_bucket_row(data, home, runs, script))
    try:
        with engine_for(home) as engine:
            image = engine.tiny_image
            sleep = ["/bin/sh", "-c", f"sleep {_SLEEP_SECONDS}"]
            return rows + _channel_pair(
                "Docker",
                data,
                home,
                runs,
                lambda: Estimator(image_uri=image, runtime="docker"),
                lambda: Estimator(image_uri=image, container_entry_point=sleep, runtime="docker"),
            )
    except EngineMissingError as error:
        return [*rows, Row("channel", "channel, Docker", skipped=str(error))]


def _bucket_row(data: Path, home: Path, runs: int, script: Path) -> Row:
    """The same channel as a prefix of the embedded S3's bucket, against the folder; the server of the S3 is up."""
    uri = Session(mode="s3").upload_data(data, key_prefix="channel")

    def run(inputs: str) -> None:
        _run_job(Estimator(entry_point=str(script), runtime="process"), inputs)

    try:
        times = interleave({"floor": lambda: run(str(data)), "ours": lambda: run(uri)}, runs)
    finally:
        service.stop(home)
    size = f"{disk_usage(data) / MIB:.0f} MiB"
    title = f"{size} s3:// channel of the embedded S3 against a folder, process: time"
    return Row("channel", title, floor=times["floor"], ours=times["ours"], aims=(Aim("difference", 50),))


def _foreign_image_rows(engine: Engine, runs: int) -> list[Row]:
    image = engine.tiny_image
    warm = interleave(
        {
            "floor": lambda: engine.cycle(image, ["train"]),
            "ours": lambda: _run_job(Estimator(image_uri=image, runtime="docker")),
        },
        runs,
    )
    cold = interleave(
        {
            "floor": lambda: _run([sys.executable, "-c", _FLOOR_PROGRAM.format(image=image)]),
            "ours": lambda: _run([sys.executable, "-c", _OUR_PROGRAM.format(image=image)]),
        },
        runs,
    )
    return [
        Row("docker", _FOREIGN, floor=warm["floor"], ours=warm["ours"], aims=_DOCKER_AIMS),
        Row("docker", "... as a whole program, imports included", floor=cold["floor"], ours=cold["ours"]),
    ]


def _bundled_image_row(engine: Engine, scratch: Path, runs: int) -> Row:
    """Run the same script in the same image; the job has the toolkit's interpreter around the script's."""
    title = "do-nothing job, Docker, bundled image"
    script = _empty_script(scratch)
    try:
        image = engine.bundled_image(scratch)
    except LauncherError as error:
        return Row("docker", title, skipped=error.message.splitlines()[0])
    options: dict[str, Any] = {
        "entrypoint": ["python", "-u", "/code/train.py"],
        "user": caller(),
        "binds": [f"{script.parent}:/code:ro"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }
    times = interleave(
        {
            "floor": lambda: engine.cycle(image, [], **options),
            "ours": lambda: _run_job(Estimator(entry_point=str(script), runtime="docker")),
        },
        runs,
    )
    return Row("docker", title, floor=times["floor"], ours=times["ours"], aims=_DOCKER_AIMS)


def _channel_pair(
    runtime: str,
    data: Path,
    home: Path,
    runs: int,
    make: Callable[[], Estimator],
    make_sleeping: Callable[[], Estimator],
) -> list[Row]:
    times = interleave({"floor": lambda: _run_job(make()), "ours": lambda: _run_job(make(), str(data))}, runs)
    # Jobs that sleep, so that whatever was copied for them is seen; timed ones would be disturbed by the looking.
    peaks = []
    for inputs in (None, str(data)):
        with watched_disk_usage(home) as peak:
            _run_job(make_sleeping(), inputs)
        peaks.append(peak.bytes / MIB)
    size = f"{disk_usage(data) / MIB:.0f} MiB"
    return [
        Row(
            "channel",
            f"{size} channel against none, {runtime}: time",
            floor=times["floor"],
            ours=times["ours"],
            aims=_CHANNEL_AIMS,
        ),
        Row(
            "channel",
            f"{size} channel against none, {runtime}: disk",
            unit="MiB",
            floor=peaks[:1],
            ours=peaks[1:],
            aims=(Aim("difference", 1),),
        ),
    ]


def _run_job(estimator: Estimator, inputs: str | None = None) -> None:
    estimator.submit(inputs).wait(logs=False)


def _run(command: list[str], **variables: str) -> None:
    environment = {**os.environ, **variables}
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _empty_script(scratch: Path) -> Path:
    script = scratch / "code" / "train.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text("", encoding="utf-8")
    return script


def _supervisor_alone(folder: Path, script: Path) -> None:
    """Run the script as the process runtime runs a job, but with no job and no toolkit around it."""
    opt_ml = folder / "opt_ml"
    opt_ml.mkdir(parents=True)
    container = ContainerSpec(
        job_name="benchmark",
        host="algo-1",
        image="",
        entry_point=(sys.executable, str(script)),
        arguments=(),
        environment={},
        mounts=(Mount(str(opt_ml), OPT_ML, read_only=False),),
        state_path=str(folder / "state"),
        log_path=str(folder / "log"),
    )
    execution = ProcessRuntime().start(container)
    code = execution.wait(60)
    execution.remove()
    if code != 0:
        raise RuntimeError(f"the supervisor's script ended with {code}: {(folder / 'log').read_text()}")


def _toolkit_alone(folder: Path, script: Path) -> None:
    """Run the script as the toolkit runs it, in a tree of its own, with nothing of the launcher."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "train.py").write_bytes(script.read_bytes())
    config = folder / "input" / "config"
    config.mkdir(parents=True)
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
    for name, value in (("hyperparameters", {}), ("inputdataconfig", {}), ("resourceconfig", hosts)):
        (config / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    _run(
        [sys.executable, "-m", "job_toolkit", "train"],
        PYTHONPATH=str(data_path("container")),
        SAGEMAKER_BASE_DIR=str(folder),
    )


def _channel_data(folder: Path, size_mib: int) -> Path:
    folder.mkdir()
    block = os.urandom(MIB)
    for number in range(_CHANNEL_FILES):
        with (folder / f"part-{number:03}").open("wb") as file:
            for _ in range(max(1, size_mib // _CHANNEL_FILES)):
                file.write(block)
    return folder
