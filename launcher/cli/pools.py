"""``launcher pool``: what is kept of jobs that asked for it, for the next of their kind."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.jobs import AsJson

if TYPE_CHECKING:
    from launcher.runtimes.warm_pools import Pools, WarmPool

app = typer.Typer(help="Show or end warm pools: KeepAlivePeriodInSeconds makes them.", no_args_is_help=True)


@app.command("ls")
def list_pools(as_json: AsJson = False) -> None:
    """List the warm pools, the least recently used first: that ends when there are too many."""
    pools = _pools().all()
    if as_json:
        print(json.dumps([{**asdict(pool), "path": str(pool.path)} for pool in pools], indent=2))
        return
    for pool in pools:
        used = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pool.used))
        print(f"{pool.name}  pid {pool.pid}  {pool.keep_alive_seconds:.0f} s after a job  {used}  {pool.last_job}")
    if not pools:
        print("no warm pools: a job makes one with keep_alive_period_in_seconds")


@app.command()
def stop(names: Annotated[list[str] | None, typer.Argument(help="Names of pools; by default all.")] = None) -> None:
    """End warm pools; jobs that run go on."""
    from launcher.errors import BadInputError

    pools = _pools()
    chosen: list[WarmPool] = []
    for name in names or [pool.name for pool in pools.all()]:
        pool = next((pool for pool in pools.all() if pool.name == name), None)
        if pool is None:
            raise BadInputError(f"there is no warm pool '{name}'.", "See: launcher pool ls")
        chosen.append(pool)
    for pool in chosen:
        pools.stop(pool)
        print(f"stopped: {pool.name}")


def _pools() -> Pools:
    from launcher.runtimes.warm_pools import Pools
    from launcher.settings import home_path

    return Pools(home_path())
