"""``launcher storage``: the embedded S3's server, and its objects at the shell."""

from __future__ import annotations

import difflib
import json
import mimetypes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.errors import BadInputError, StorageError

if TYPE_CHECKING:
    from launcher.object_store.store import ObjectStore

app = typer.Typer(help="The embedded S3: its server, and its objects.", no_args_is_help=True)

_Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything whose key begins with the prefix.")]
_Row = dict[str, str | int]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def up(
    address: Annotated[
        str, typer.Option(help="Where to listen; an engine's gateway lets containers in.")
    ] = "127.0.0.1",
) -> None:
    """Start the server if it is not up, and print what a shell needs: eval "$(launcher storage up)"."""
    from launcher.object_store import service
    from launcher.settings import REGION, home_path, s3_idle_seconds

    url = service.ensure(home_path(), address)
    print(f"# The embedded S3 of {home_path()}; it ends after {s3_idle_seconds():g} s without use. Any keys will do.")
    for name, value in {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "launcher",
        "AWS_SECRET_ACCESS_KEY": "launcher",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        print(f"export {name}={value}")


@app.command()
def down() -> None:
    """Stop the server, after the requests it is at; objects stay."""
    from launcher.object_store import service
    from launcher.settings import home_path

    stopped = service.stop(home_path())
    for server in stopped:
        print(f"stopped: {server.url}")
    if not stopped:
        print("no server was up")


@app.command()
def status(as_json: _AsJson = False) -> None:
    """Say which servers are up, and what is in the store."""
    from launcher.object_store import service
    from launcher.settings import home_path
    from launcher.storage import embedded_path

    servers = service.status(home_path())
    with _store() as store:
        usage = store.usage()
    if as_json:
        found = [{"url": server.url, "pid": server.pid} for server in servers]
        buckets = {name: {"objects": count, "bytes": size} for name, count, size in usage}
        print(json.dumps({"folder": str(embedded_path(home_path())), "servers": found, "buckets": buckets}, indent=2))
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
    bucket, key = _split(uri)
    if key:
        raise BadInputError(
            f"'{uri}' is more than a bucket.", f"For the bucket alone: launcher storage mb s3://{bucket}"
        )
    with _store() as store:
        store.create_bucket(bucket)


@app.command("ls")
def list_objects(
    uri: Annotated[str, typer.Argument(metavar="[s3://BUCKET/PREFIX]")] = "",
    recursive: _Recursive = False,
    as_json: _AsJson = False,
) -> None:
    """List buckets, or what lies below a prefix."""
    with _store() as store:
        if not uri:
            rows: list[_Row] = [
                {"Name": name, "CreationDate": _time(created)} for name, created in store.list_buckets()
            ]
            _print_rows(rows, as_json, lambda row: f"{row['CreationDate']}  s3://{row['Name']}")
            return
        bucket, prefix = _split(uri)
        rows = list(_entries(store, bucket, prefix, "" if recursive else "/"))
        if not rows and prefix:
            raise _nothing_there(store, bucket, prefix)
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
    with _store() as store:
        if up:
            _upload(store, Path(source), *_split(target), recursive)
            return
        bucket, key = _split(source)
        if recursive:
            folder = f"{key.rstrip('/')}/" if key else ""
            names = {one.key: one.key[len(folder) :] for one in store.list(bucket, folder) if not one.key.endswith("/")}
            if not names:
                raise _nothing_there(store, bucket, folder)
        else:
            if not key or store.head(bucket, key) is None:
                raise _nothing_there(store, bucket, key)
            names = {key: key.rpartition("/")[2]}
        if down:
            _download(store, bucket, names, Path(target), recursive)
            return
        to_bucket, to_key = _split(target)
        for name, rest in names.items():
            store.copy((bucket, name), to_bucket, _target_key(to_key, rest, recursive), replace=lambda _: {})


@app.command("rm")
def remove(uri: Annotated[str, typer.Argument(metavar="s3://BUCKET/KEY")], recursive: _Recursive = False) -> None:
    """Delete an object, or with --recursive every one whose key begins with the prefix."""
    bucket, key = _split(uri)
    with _store() as store:
        keys = [one.key for one in store.list(bucket, key)] if recursive else [key]
        if not recursive and (not key or store.head(bucket, key) is None):
            raise _nothing_there(store, bucket, key)
        for one in keys:
            store.delete(bucket, one)
    print(f"deleted: {len(keys)}")


def _upload(store: ObjectStore, source: Path, bucket: str, key: str, recursive: bool) -> None:
    from launcher.object_store.store import DEFAULT_CONTENT_TYPE

    if not source.exists():
        raise BadInputError(f"{source} does not exist.", "Give the path of a file or a folder.")
    if source.is_dir() != recursive:
        hint = "Add --recursive to copy what is in it." if source.is_dir() else "Leave --recursive out for one file."
        raise BadInputError(f"{source} is a {'folder' if source.is_dir() else 'file'}.", hint)
    files = sorted(path for path in source.rglob("*") if path.is_file()) if recursive else [source]
    for path in files:
        name = path.relative_to(source).as_posix() if recursive else path.name
        kind = mimetypes.guess_type(path.name)[0] or DEFAULT_CONTENT_TYPE
        store.put_file(bucket, _target_key(key, name, recursive), path, move=False, content_type=kind)


def _download(store: ObjectStore, bucket: str, names: dict[str, str], target: Path, recursive: bool) -> None:
    from launcher.storage.embedded import EmbeddedStorage

    into = recursive or target.is_dir()
    files = {}
    for key, name in names.items():
        if into and any(part in ("", ".", "..") for part in name.split("/")):
            raise BadInputError(f"s3://{bucket}/{key}: '{name}' can be no file below {target}.", "Copy it by itself.")
        files[f"s3://{bucket}/{key}"] = target / name if into else target
    try:
        EmbeddedStorage(store).download_all(files)
    except OSError as error:
        raise BadInputError(f"{error.filename or target} cannot be written: {error.strerror}.", "") from error


def _target_key(key: str, name: str, recursive: bool) -> str:
    """Return the key for what is called ``name``: below the prefix ``key``, or ``key`` itself."""
    if recursive:
        return f"{key.rstrip('/')}/{name}" if key else name
    return key + name if not key or key.endswith("/") else key


def _entries(store: ObjectStore, bucket: str, prefix: str, delimiter: str) -> Iterator[_Row]:
    """Yield objects and common prefixes in the order of their names."""
    after: str | None = ""
    while after is not None:
        page = store.list_page(bucket, prefix, delimiter=delimiter, after=after)
        found: list[tuple[str, _Row]] = [(name, {"Prefix": name}) for name in page.prefixes]
        found += [
            (one.key, {"Key": one.key, "Size": one.size, "LastModified": _time(one.modified), "ETag": one.etag})
            for one in page.objects
        ]
        for _, row in sorted(found, key=lambda pair: pair[0].encode()):
            yield row
        after = page.next_after


def _nothing_there(store: ObjectStore, bucket: str, key: str) -> StorageError:
    """Return NoSuchKey with the nearest name that there is."""
    folder = key.rstrip("/").rpartition("/")[0]
    page = store.list_page(bucket, f"{folder}/" if folder else "", delimiter="/")
    names = [one.key for one in page.objects] + page.prefixes
    near = difflib.get_close_matches(key, names, 1)
    if near:
        hint = f"Did you mean s3://{bucket}/{near[0]}?"
    else:
        shown = ", ".join(f"s3://{bucket}/{name}" for name in names[:5])
        hint = f"There is: {shown}." if shown else f"Nothing lies below s3://{bucket}/{folder}."
    return StorageError("NoSuchKey", "The specified key does not exist.", f"s3://{bucket}/{key}", hint)


def _store() -> ObjectStore:
    """Return the embedded store.

    Raises:
        BadInputError: the environment means another S3, whose objects these commands do not show.
    """
    from launcher.object_store.store import ObjectStore
    from launcher.settings import home_path
    from launcher.storage import embedded_path, which_s3

    settings = which_s3()
    if settings.kind != "embedded":
        raise BadInputError(
            f"s3:// URIs mean {settings.place} here, and 'launcher storage' shows the embedded S3 alone.",
            "Use the AWS CLI for the other one, or ask for ours: LAUNCHER_S3_ENDPOINT=embedded launcher storage ...",
        )
    return ObjectStore(embedded_path(home_path()))


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise BadInputError(f"'{uri}' is no s3:// URI.", "Write s3://BUCKET/KEY; 'launcher storage ls' lists buckets.")
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
