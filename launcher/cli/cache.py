"""``launcher cache``: what is kept of inputs that were fetched from S3, and how to be rid of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from launcher.storage.cache import Cache


app = typer.Typer(help="Show or clear the inputs that were fetched from S3 and kept.", no_args_is_help=True)


@app.command("ls")
def list_entries(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False) -> None:
    """List the kept objects, the least recently used first: these go when room is needed."""
    from launcher.settings import cache_bytes, cache_folder

    entries = _cache().entries()
    if as_json:
        rows = [{**asdict(entry.version), "used": _time_of(entry.used).isoformat()} for entry in entries]
        print(json.dumps(rows, indent=2))
        return
    for entry in entries:
        version = entry.version
        used = _time_of(entry.used).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        print(f"{used}  {version.size:>14,}  s3://{version.bucket}/{version.key}  {version.endpoint}")
    total = sum(entry.version.size for entry in entries)
    print(f"{len(entries)} objects, {total:,} of {cache_bytes():,} bytes, in {cache_folder()}")


@app.command()
def clear() -> None:
    """Remove all of it, installed packages as well; a job that uses a file keeps it."""
    from launcher.jobs.store import JobStore
    from launcher.running.requirements import requirements_cache
    from launcher.settings import cache_folder, home_path

    removed = _cache().prune(0) + requirements_cache(JobStore(home_path()).jobs_path).prune(0)
    print(f"{removed:,} bytes removed from {cache_folder()}")


def _cache() -> Cache:
    from launcher.settings import cache_bytes, cache_folder
    from launcher.storage.cache import Cache

    return Cache(cache_folder(), cache_bytes())


def _time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
