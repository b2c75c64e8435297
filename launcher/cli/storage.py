"""``launcher storage``: the embedded S3's server, and the objects of any S3 at the shell."""

from __future__ import annotations

import difflib
import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.aws import down
from launcher.errors import BadInputError, StorageError
from launcher.paths import checked_path

if TYPE_CHECKING:
    from launcher.settings import S3Settings
    from launcher.storage import BucketStorage
    from launcher.storage.buckets import S3Object

app = typer.Typer(help="The embedded S3's server, and the objects of any S3.", no_args_is_help=True)

_Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything whose key begins with the prefix.")]
_Row = dict[str, str | int]
_NEAR_NAMES = 1000  # that a wrong one is compared with
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def up(
    address: Annotated[
        str, typer.Option(help="Where to listen; an engine's gateway lets containers in.")
    ] = "127.0.0.1",
) -> None:
    """Start the server if it is not up, and print what a shell needs: eval "$(launcher storage up)"."""
    from launcher.settings import LOCAL_CREDENTIALS, REGION, home_path, s3_idle_seconds
    from launcher.storage.own_s3 import ensure_server, server_credentials

    url = ensure_server(home_path(), address)
    credentials = server_credentials(home_path(), address)
    taken = "It takes any key." if credentials == LOCAL_CREDENTIALS else "It asks for this key; keep it to yourself."
    print(f"# The embedded S3 of {home_path()}; it ends after {s3_idle_seconds():g} s without use. {taken}")
    for name, value in {"AWS_ENDPOINT_URL_S3": url, **credentials, "AWS_DEFAULT_REGION": REGION}.items():
        print(f"export {name}={value}")


app.command(help="Stop the server, once the requests under way are answered; objects stay.")(down)


@app.command()
def status(as_json: _AsJson = False) -> None:
    """Say which servers are up, and what is in the store."""
    from launcher.s3_server import service
    from launcher.s3_server.store import ObjectStore
    from launcher.settings import home_path
    from launcher.storage import embedded_path
    from launcher.storage.own_s3 import s3_errors

    servers = service.status(home_path())
    with s3_errors(), ObjectStore(embedded_path(home_path())) as store:
        usage = store.usage()
    if as_json:
        listed = [{"url": server.url, "pid": server.pid} for server in servers]
        buckets = {name: {"objects": count, "bytes": size} for name, count, size in usage}
        print(json.dumps({"folder": str(embedded_path(home_path())), "servers": listed, "buckets": buckets}, indent=2))
        return
    print(f"folder: {embedded_path(home_path())}")
    for server in servers:
        print(f"server: {server.url}, pid {server.pid}")
    if not servers:
        print("server: none; it is started when it is needed, or by: launcher storage up")
    for name, count, size in usage:
        print(f"s3://{name}: {count} objects, {_size(size)}")


@app.command("mb")
def make_bucket(uri: Annotated[str, typer.Argument(metavar="s3://BUCKET")]) -> None:
    """Make a bucket."""
    from launcher.storage.own_s3 import check_bucket_name

    bucket, key = _split(uri)
    if key:
        raise BadInputError(
            f"'{uri}' is more than a bucket.", f"For the bucket alone: launcher storage mb s3://{bucket}"
        )
    check_bucket_name(bucket)
    storage = _storage()
    is_there = bucket in (name for name, _ in storage.buckets())
    storage.make_bucket(f"s3://{bucket}")
    print(f"{'is there already' if is_there else 'made'}: s3://{bucket}")


@app.command("ls")
def list_objects(
    uri: Annotated[str, typer.Argument(metavar="[s3://BUCKET/PREFIX]")] = "",
    recursive: _Recursive = False,
    as_json: _AsJson = False,
) -> None:
    """List buckets, or what lies below a prefix."""
    if not uri:
        rows: list[_Row] = [{"Name": name, "CreationDate": _time(created)} for name, created in _storage().buckets()]
        _print_rows(rows, as_json, lambda row: f"{row['CreationDate']}  s3://{row['Name']}")
        return
    bucket, prefix = _split(uri)
    storage = _storage()
    rows = [_row(entry) for entry in storage.entries(f"s3://{bucket}/{prefix}", "" if recursive else "/")]
    if not rows and prefix:
        raise _nothing_there(storage, bucket, prefix)
    _print_rows(
        rows,
        as_json,
        lambda row: (
            f"{row['LastModified']}  {row['Size']:>12}  {row['Key']}"
            if "Key" in row
            else f"{'PRE':>33}  {row['Prefix']}"
        ),
    )


@app.command("cp")
def copy(
    source: Annotated[str, typer.Argument(help="A path, or s3://BUCKET/KEY.")],
    target: Annotated[str, typer.Argument(help="A path, or s3://BUCKET/KEY; with / at its end the name is kept.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="A folder, or all below a prefix.")] = False,
) -> None:
    """Copy between files and objects, in any direction."""
    up, down = not source.startswith("s3://"), not target.startswith("s3://")
    if up and down:
        raise BadInputError("neither of the two is an s3:// URI.", "Write s3://BUCKET/KEY for one of them, or use cp.")
    storage = _storage()
    if up:
        files = _files_of(Path(source), recursive)
        uris = {path: _target(target, recursive, name) for path, name in files.items()}
        storage.upload_all(uris)
        _print_copied(list(uris.values()), target)
        return
    bucket, key = _split(source)
    if recursive:
        folder = f"{key.rstrip('/')}/" if key else ""
        keys = [name for name in storage.keys(f"s3://{bucket}", folder) if not name.endswith("/")]
        names = {f"s3://{bucket}/{name}": name[len(folder) :] for name in keys}
    else:
        folder = key
        names = {f"s3://{bucket}/{key}": key.rpartition("/")[2]} if _is_there(storage, bucket, key) else {}
    if not names:
        raise _nothing_there(storage, bucket, folder)
    if down:
        files_by_uri = _download(storage, names, Path(target), recursive)
        _print_copied([str(path) for path in files_by_uri.values()], target)
        return
    copies = {uri: _target(target, recursive, name) for uri, name in names.items()}
    storage.copy_all(copies)
    _print_copied(list(copies.values()), target)


@app.command("rm")
def remove(
    uri: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All that lies below s3://BUCKET/KEY/.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking; only real AWS asks.")] = False,
) -> None:
    """Delete an object, or with --recursive all that lies below a folder, as 'aws s3 rm' does."""
    from launcher.storage import which_s3

    bucket, key = _split(uri)
    s3 = which_s3()
    storage = _storage(s3)
    folder = f"{key.rstrip('/')}/" if key else ""
    if recursive:
        keys = list(storage.keys(f"s3://{bucket}", folder))
    else:
        keys = [key] if _is_there(storage, bucket, key) else []
    if not keys and (key or not recursive):
        raise _nothing_there(storage, bucket, folder if recursive else key, verb="deletes")
    place = f"below s3://{bucket}/{folder}" if recursive else f"at s3://{bucket}/{key}"
    if s3.kind == "aws" and keys and not yes:
        _confirm(len(keys), place, s3.place)
    storage.delete(bucket, keys)
    print(f"deleted: {_count(len(keys), 'object')} {place}")


@app.command()
def verify(as_json: _AsJson = False) -> None:
    """Read every object of the embedded S3 and compare it with its digest; exit code 1 where one is damaged."""
    from launcher.s3_server.scrub import damaged_contents
    from launcher.s3_server.store import ObjectStore
    from launcher.settings import home_path
    from launcher.storage import embedded_path
    from launcher.storage.own_s3 import s3_errors

    with s3_errors(), ObjectStore(embedded_path(home_path())) as store:
        report = damaged_contents(store)
    if as_json:
        damage = [{"uri": item.uri, "reason": item.reason, "file": str(item.path)} for item in report.damage]
        print(json.dumps({"contents": report.contents, "bytes": report.size, "damaged": damage}, indent=2))
    else:
        for item in report.damage:
            print(f"damaged: {item.uri}: {item.reason}: {item.path}")
        print(
            f"verified: {_count(report.contents, 'object')}, {_size(report.size)}; "
            + (f"{len(report.damage)} damaged: upload them again" if report.damage else "all as they were put")
        )
    if report.damage:
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print_copied(targets: list[str], target: str) -> None:
    """Say on a line where the copies are."""
    print(f"copied: {targets[0]}" if len(targets) == 1 else f"copied: {_count(len(targets), 'file')} to {target}")


def _confirm(count: int, place: str, s3: str) -> None:
    question = f"Delete {_count(count, 'object')} of {s3} {place}"
    if not sys.stdin.isatty():
        raise BadInputError(f"{question}? There is no terminal to ask at.", "If you mean it, add --yes.")
    typer.confirm(f"{question} ?", abort=True)


def _files_of(source: Path, recursive: bool) -> dict[Path, str]:
    """Return the names, relative to ``source``, of the files to send."""
    if not checked_path(source, "SOURCE").exists():
        raise BadInputError(f"{source} does not exist.", "Give the path of a file or a folder.")
    if source.is_dir() != recursive:
        hint = "Add --recursive to copy what is in it." if source.is_dir() else "Leave --recursive out for one file."
        raise BadInputError(f"{source} is a {'folder' if source.is_dir() else 'file'}.", hint)
    if not recursive:
        return {source: source.name}
    return {path: path.relative_to(source).as_posix() for path in sorted(source.rglob("*")) if path.is_file()}


def _download(storage: BucketStorage, names: dict[str, str], target: Path, recursive: bool) -> dict[str, Path]:
    into = recursive or target.is_dir()
    files = {}
    for uri, name in names.items():
        if into and any(part in ("", ".", "..") for part in name.split("/")):
            raise BadInputError(f"{uri}: '{name}' can be no file below {target}.", "Copy it by itself.")
        files[uri] = target / name if into else target
    try:
        storage.download_all(files)
    except OSError as error:
        raise BadInputError(f"{error.filename or target} cannot be written: {error.strerror}.", "") from error
    return files


def _target(uri: str, recursive: bool, name: str) -> str:
    """Return the URI for what is called ``name``: below the prefix ``uri``, or ``uri`` itself."""
    bucket, key = _split(uri)
    if recursive:
        key = f"{key.rstrip('/')}/{name}" if key else name
    elif not key or key.endswith("/"):
        key += name
    return f"s3://{bucket}/{key}"


def _is_there(storage: BucketStorage, bucket: str, key: str) -> bool:
    return bool(key) and storage.head(f"s3://{bucket}/{key}") is not None


def _row(entry: S3Object | str) -> _Row:
    if isinstance(entry, str):
        return {"Prefix": entry}
    return {"Key": entry.key, "Size": entry.size, "LastModified": _time(entry.modified), "ETag": entry.etag}


def _nothing_there(storage: BucketStorage, bucket: str, key: str, verb: str = "copies") -> StorageError:
    """Return NoSuchKey with the nearest existing name, or how to reach the keys below."""
    folder = key.rstrip("/").rpartition("/")[0]
    uri = f"s3://{bucket}/{key}"
    beside = storage.entries(f"s3://{bucket}/{folder}/" if folder else f"s3://{bucket}/", "/")
    names = [entry if isinstance(entry, str) else entry.key for entry in islice(beside, _NEAR_NAMES)]
    near = difflib.get_close_matches(key, names, 1)
    if key and not key.endswith("/") and f"{key}/" in names:
        hint = f"Did you mean s3://{bucket}/{key}/? -r {verb} what lies below it."
    elif key in names:
        hint = f"It is a folder: -r {verb} what lies below it."
    elif key.rstrip("/") in names:
        hint = f"Nothing lies below it; s3://{bucket}/{key.rstrip('/')} is an object: leave -r out."
    elif near:
        hint = f"Did you mean s3://{bucket}/{near[0]}?"
    else:
        shown = ", ".join(f"s3://{bucket}/{name}" for name in names[:5])
        hint = f"There is: {shown}." if shown else f"Nothing lies below s3://{bucket}/{folder}."
    return StorageError("NoSuchKey", "The specified key does not exist.", uri, hint)


def _storage(s3: S3Settings | None = None) -> BucketStorage:
    """Return the S3 that ``s3://`` means, or the one given."""
    from launcher.storage import bucket_storage, which_s3

    return bucket_storage(s3 or which_s3())


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise BadInputError(
            f"'{uri}' is not an s3:// URI.", "Write s3://BUCKET/KEY; 'launcher storage ls' lists buckets."
        )
    return bucket, key


def _print_rows(rows: list[_Row], as_json: bool, shown: Callable[[_Row], str]) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(shown(row))


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
