"""Which file of a channel each object becomes, and which keys can be none."""

import pytest

from launcher.errors import ChannelError
from launcher.storage.s3_uris import channel_files, split_s3_uri

CASES = {
    "a folder": ("s3://b/data/", ["data/", "data/a", "data/x/b"], {"data/a": "a", "data/x/b": "x/b"}),
    "a folder without its slash": ("s3://b/data", ["data/", "data/a"], {"data/a": "a"}),
    "the beginning of names": ("s3://b/p/tr", ["p/train/a", "p/tr2"], {"p/train/a": "train/a", "p/tr2": "tr2"}),
    "a folder and its namesakes": ("s3://b/tr", ["tr/a", "tr2/b"], {"tr/a": "a", "tr2/b": "tr2/b"}),
    "one object": ("s3://b/p/a.csv", ["p/a.csv"], {"p/a.csv": "a.csv"}),
    "an object and its namesake": ("s3://b/p/a", ["p/a", "p/a.csv"], {"p/a": "a", "p/a.csv": "a.csv"}),
    "a bucket": ("s3://b", ["a", "x/b"], {"a": "a", "x/b": "x/b"}),
    "odd names": ("s3://b/p/", ["p/ä ö", "p/..a", "p/b../c"], {"p/ä ö": "ä ö", "p/..a": "..a", "p/b../c": "b../c"}),
    "markers alone": ("s3://b/p/", ["p/", "p/x/"], {}),
}  # fmt: skip
BAD = {
    "leaves the folder": (["p/../../etc/passwd"], r"s3://b/p/\.\./\.\./etc/passwd has '\.' or '\.\.'"),
    "a dot": (["p/./a"], r"has '\.' or '\.\.'"),
    "an empty part": (["p/x//a"], r"empty part \('//'\)"),
    "begins with a slash": (["p//etc/passwd"], r"empty part"),
    "a file and a folder": (["p/a", "p/a/b"], r"s3://b/p/a would be a file and, for s3://b/p/a/b, a folder"),
    "a file and a folder, far apart": (["p/a", "p/a-b", "p/a/b/c"], r"s3://b/p/a would be a file and"),
    "too long": (["p/" + "x" * 256], r"more than 255 bytes"),
    "a NUL": (["p/a\0b"], r"NUL"),
}


@pytest.mark.parametrize(("uri", "keys", "files"), CASES.values(), ids=CASES)
def test_a_file_is_named_by_what_follows_the_prefix(uri, keys, files):
    assert channel_files(uri, keys) == files


@pytest.mark.parametrize(("keys", "message"), BAD.values(), ids=BAD)
def test_a_key_that_can_be_no_file_is_refused_by_its_name(keys, message):
    with pytest.raises(ChannelError, match=message):
        channel_files("s3://b/p/", keys)


def test_two_objects_that_would_be_one_file_are_refused():
    with pytest.raises(ChannelError, match=r"s3://b/p/tr2/a and s3://b/p/tr/tr2/a would be the same file 'tr2/a'"):
        channel_files("s3://b/p/tr", ["p/tr/tr2/a", "p/tr2/a"])


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "bucket/key"])
def test_a_uri_without_a_bucket_is_refused(uri):
    with pytest.raises(ChannelError, match="names no bucket"):
        split_s3_uri(uri)


def test_a_key_may_hold_anything_after_the_bucket():
    assert split_s3_uri("s3://b//x?y#z") == ("b", "/x?y#z")
