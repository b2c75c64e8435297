"""What ``s3://`` URIs mean, whichever S3 is behind them: bucket and key, and the files that a prefix stands for."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.errors import ChannelError
from launcher.settings import LOCAL_ROLE_ARN, REGION

_MAX_NAME_BYTES = 255  # of one part of a path, on every common file system


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URI; the key may be empty.

    Raises:
        ChannelError: there is no bucket.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise ChannelError(
            f"'{uri}' names no bucket.", "Write s3://BUCKET/KEY, for example s3://logs/cartpole/train.csv"
        )
    return bucket, key


def channel_files(uri: str, keys: Iterable[str]) -> dict[str, str]:
    """Name the file of every object of a channel, as SageMaker's data type S3Prefix does.

    A channel is every object whose key begins with the URI's key: ``s3://b/tr`` holds ``train/a`` as well as ``tr2``.
    A file is named by what follows the prefix and a ``/``, where the prefix is a whole folder, else by what follows
    the last ``/`` of the prefix. Keys that end in ``/`` mark folders and are no files.

    Args:
        uri: the channel.
        keys: of all objects that begin with the URI's key.
    Returns:
        Relative path by key, in the order of the keys.
    Raises:
        ChannelError: a key can be no file below a folder: it would leave it, has an empty part, is too long, or is
            needed as a file and as a folder.
    """
    bucket, prefix = split_s3_uri(uri)
    folder = prefix.rstrip("/") + "/"
    files: dict[str, str] = {}
    key_of_file: dict[str, str] = {}
    for key in keys:
        if key.endswith("/"):
            continue
        inside = prefix and key.startswith(folder)
        file = key[len(folder) :] if inside else key[prefix.rfind("/") + 1 :]
        check_file_name(f"s3://{bucket}/{key}", file)
        if file in key_of_file:
            raise ChannelError(
                f"s3://{bucket}/{key} and s3://{bucket}/{key_of_file[file]} would be the same file '{file}'.",
                f"Both begin with {uri}; end the prefix in '/' to have only what is in the folder.",
            )
        files[key], key_of_file[file] = file, key
    for file, key in key_of_file.items():
        parent = file
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in key_of_file:
                raise ChannelError(
                    f"s3://{bucket}/{key_of_file[parent]} would be a file and, for s3://{bucket}/{key}, a folder.",
                    "S3 takes both keys, a file system does not: rename one of the objects.",
                )
    return files


def no_objects_error(uri: str, why: str, *, region: str | None = None) -> ChannelError:
    """Return the error for a channel without data, in SageMaker's words.

    Args:
        uri: the channel.
        why: what is known about it, as a sentence that ends the hint.
        region: of the S3; None is the local account's.
    """
    bucket, _ = split_s3_uri(uri)
    return ChannelError(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
        f"in the selected region ({region or REGION}), that objects exist under that S3 prefix, and that the role "
        f'"{LOCAL_ROLE_ARN}" has "s3:ListBucket" permissions on bucket "{bucket}".',
        why,
    )


def check_file_name(uri: str, file: str) -> None:
    """Refuse an object that can be no file of a channel under that name.

    Raises:
        ChannelError: the name leaves the folder, has an empty part, a NUL, or is too long.
    """
    parts = file.split("/")
    problem = ""
    if "\0" in file:
        problem = "has a NUL in its name"
    elif ".." in parts or "." in parts:
        problem = "has '.' or '..' in its path and could leave the channel's folder"
    elif "" in parts:
        problem = "has an empty part ('//') in its path"
    elif any(len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES for part in parts):
        problem = f"has a part of more than {_MAX_NAME_BYTES} bytes in its path"
    if problem:
        raise ChannelError(
            f"{uri} {problem}: it can be an object, but no file of a channel.",
            "Rename the object, or choose a prefix that leaves it out.",
        )
