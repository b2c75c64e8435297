"""1,000 random requests to each engine: how many each takes, what it refuses, and whether all of them come back.

    python benchmarks/random_requests.py                     all engines, 1,000 requests each
    python benchmarks/random_requests.py --count 200 slurm   fewer, or some engines: process docker slurm ssh aws
    python benchmarks/random_requests.py --seconds 300       as many as each takes in five minutes

The requests are CreateTrainingJob documents made of the service model's shapes, with every member that is taken; the
same ones go to each engine, with inputs that exist there. One that comes back otherwise than it was sent is an error.
The cluster, the other machine and the AWS are those of the tests, on this machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.s3_server import service

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.another_aws import another_aws, client_variables
from tests.random_requests import drawn, members_of
from tests.request_engines import AsAws, OnHeldSlurm, OverSsh, ThisMachine, an_empty_image, send_until
from tests.slurm_cluster import Cluster
from tests.sshd import make_box, remove_box

Engines = Callable[[Path], contextlib.AbstractContextManager[Any]]
_SEED = 2026
_HELD = 20  # of the jobs on Slurm are given to the cluster itself, which holds them


def main() -> int:
    """Send, compare and print; return 1 where something did not come back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", choices=[[], *_ENGINES])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=math.inf)
    options = parser.parse_args()
    requests = drawn(4 * options.count, _SEED)
    seen, missing = members_of(requests)
    print(f"{len(requests)} requests, {len(seen)} members, without: {', '.join(missing) or 'none that is taken'}\n")
    faults = 0
    for name in options.engines or _ENGINES:
        with tempfile.TemporaryDirectory(prefix=f"requests-{name}-") as folder:
            Path(folder).chmod(0o755)
            variables = {"LAUNCHER_HOME": f"{folder}/home", "LAUNCHER_GPUS": "none", "LAUNCHER_STOP_GRACE_SECONDS": "5"}
            with _environment(variables):
                faults += _measure(name, Path(folder), requests, options)
                service.stop(Path(folder, "home"))
    return int(faults > 0)


def _measure(title: str, folder: Path, requests: list[dict[str, Any]], options: argparse.Namespace) -> int:
    begun = time.monotonic()
    with _ENGINES[title](folder) as engine:
        taken, lost, refusals = send_until(engine, requests, options.count, options.seconds)
    seconds = time.monotonic() - begun
    print(f"{title}: {taken} taken, {len(lost)} lines lost, {len(refusals)} refused, {seconds:.0f} s")
    for reason, times in collections.Counter(map(_reason, refusals)).most_common():
        print(f"  {times:5} {reason}")
    for line in lost[:20]:
        print(f"  LOST {line}")
    sys.stdout.flush()
    return len(lost)


def _reason(error: Exception) -> str:
    """Return an error's first sentence without what belongs to one request alone."""
    text = re.sub(r"'[^']*'|\d+|/\S+", "…", str(error).splitlines()[0])
    return f"{type(error).__name__}: {text[:150]}"


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _process(folder: Path) -> Iterator[Any]:
    yield ThisMachine("process", folder / "work", folder / "home")


@contextlib.contextmanager
def _docker(folder: Path) -> Iterator[Any]:
    with an_empty_image() as image:
        yield ThisMachine("docker", folder / "work", folder / "home", images=(image,))


@contextlib.contextmanager
def _slurm(folder: Path) -> Iterator[Any]:
    with Cluster.running() as cluster, _environment({**cluster.environment, "LAUNCHER_SLURM_OPTIONS": "--hold"}):
        yield OnHeldSlurm(folder / "work", folder / "home", _HELD)


@contextlib.contextmanager
def _ssh(folder: Path) -> Iterator[Any]:
    box = make_box()
    variables = {"LAUNCHER_SSH": box.ssh, "LAUNCHER_HOST": box.address, "LAUNCHER_RUNTIME": "process"}
    try:
        with _environment(variables):
            yield OverSsh(box, folder / "work", folder / "home")
    finally:
        remove_box(box)


@contextlib.contextmanager
def _aws(folder: Path) -> Iterator[Any]:
    own = {"LAUNCHER_JOBS_AT_ONCE": "1", "LAUNCHER_GPUS": "none"}
    with another_aws(folder / "aws", **own) as url, _environment(client_variables(url)):
        yield AsAws(folder / "work")


_ENGINES: Mapping[str, Engines] = {"process": _process, "docker": _docker, "slurm": _slurm, "ssh": _ssh, "aws": _aws}


if __name__ == "__main__":
    sys.exit(main())
