"""``launcher storage`` as a person uses it at a shell."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from launcher.object_store import service
from launcher.object_store.store import ObjectStore
from tests.shell import launcher_environment, run_launcher

NO_OTHER_S3 = {"LAUNCHER_S3_ENDPOINT": "", "AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": ""}


@pytest.fixture
def storage(home, tmp_path):
    """A function that runs ``launcher storage ...`` in a folder and returns what it printed; it has to succeed."""

    def run(*arguments, exit_code=0, **variables):
        done = run_launcher("storage", *arguments, cwd=tmp_path, **(NO_OTHER_S3 | variables))
        assert done.returncode == exit_code, done.stderr
        return done.stderr if exit_code else done.stdout

    yield run
    service.stop(home)


@pytest.fixture
def bucket(home):
    store = ObjectStore(home / "s3")
    store.create_bucket("logs")
    with store.content() as content:
        content.write(b"a,b\n")
        store.put("logs", "cartpole/train.csv", content)
    store.copy(("logs", "cartpole/train.csv"), "logs", "cartpole/deep/er.csv", replace=lambda _: {})
    store.copy(("logs", "cartpole/train.csv"), "logs", "readme", replace=lambda _: {})
    return store


def keys(store, bucket="logs"):
    return [one.key for one in store.list(bucket)]


def test_up_prints_what_a_shell_needs(storage, home):
    script = 'eval "$(python -m launcher storage up)" && env | grep ^AWS_'
    done = subprocess.run(
        ["sh", "-ec", script.replace("python", sys.executable)], capture_output=True, text=True, check=True,
        env=launcher_environment(**NO_OTHER_S3), cwd=Path(home).parent,
    )  # fmt: skip
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    client = boto3.client(
        "s3", endpoint_url=told["AWS_ENDPOINT_URL_S3"], region_name=told["AWS_DEFAULT_REGION"],
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"], aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    client.create_bucket(Bucket="logs")
    shown = json.loads(storage("status", "--json", AWS_ENDPOINT_URL_S3=told["AWS_ENDPOINT_URL_S3"]))
    assert [server["url"] for server in shown["servers"]] == [told["AWS_ENDPOINT_URL_S3"]]
    assert shown["buckets"] == {"logs": {"objects": 0, "bytes": 0}}
    assert storage("down") == f"stopped: {told['AWS_ENDPOINT_URL_S3']}\n"
    assert storage("down") == "no server was up\n"


def test_the_status_of_nothing_makes_nothing(storage, home):
    assert "server: none" in storage("status")
    assert not home.exists()


def test_listing(storage, bucket):
    assert "s3://logs" in storage("ls")
    assert [line.split()[-1] for line in storage("ls", "s3://logs").splitlines()] == ["cartpole/", "readme"]
    assert [line.split()[-1] for line in storage("ls", "-r", "s3://logs/cart").splitlines()] == [
        "cartpole/deep/er.csv",
        "cartpole/train.csv",
    ]
    [found] = json.loads(storage("ls", "--json", "s3://logs/readme"))
    assert (found["Key"], found["Size"]) == ("readme", 4)


def test_copying_up_down_and_between(storage, bucket, tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.json").write_text("{}")
    (tmp_path / "data" / "sub" / "b b.csv").write_text("b")
    storage("mb", "s3://other")
    storage("cp", "data/a.json", "s3://other")
    storage("cp", "data/a.json", "s3://other/renamed")
    storage("cp", "--recursive", "data", "s3://other/all")
    assert keys(bucket, "other") == ["a.json", "all/a.json", "all/sub/b b.csv", "renamed"]
    assert bucket.get("other", "a.json").content_type == "application/json"
    storage("cp", "--recursive", "s3://other/all", "s3://logs/new/")
    assert keys(bucket)[-3:] == ["new/a.json", "new/sub/b b.csv", "readme"]
    storage("cp", "--recursive", "s3://logs/new", "back")
    assert (tmp_path / "back" / "sub" / "b b.csv").read_text() == "b"
    storage("cp", "s3://logs/readme", ".")
    storage("cp", "s3://logs/readme", "other-name")
    assert (tmp_path / "readme").read_text() == (tmp_path / "other-name").read_text() == "a,b\n"


def test_removing(storage, bucket):
    storage("rm", "s3://logs/readme")
    assert keys(bucket) == ["cartpole/deep/er.csv", "cartpole/train.csv"]
    assert storage("rm", "--recursive", "s3://logs/cartpole/") == "deleted: 2\n"
    assert keys(bucket) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ls", "s3://log"), "The specified bucket does not exist (NoSuchBucket)\n  Did you mean s3://logs?"),
        (("ls", "logs/x"), "'logs/x' is no s3:// URI"),
        (("ls", "s3://logs/cartpol3/"), "Did you mean s3://logs/cartpole/?"),
        (("rm", "s3://logs/readm"), "The specified key does not exist. (NoSuchKey)\n  Did you mean s3://logs/readme?"),
        (("rm", "s3://logs"), "NoSuchKey"),
        (("cp", "s3://logs/cartpole", "."), "Did you mean s3://logs/cartpole/?"),
        (("cp", "nothing", "s3://logs/x"), "nothing does not exist"),
        (("cp", ".", "s3://logs/x"), "is a folder"),
        (("cp", "a", "b"), "neither of the two is an s3:// URI"),
        (("cp", "-r", "s3://logs/none/", "x"), "NoSuchKey"),
        (("mb", "s3://Logs"), "InvalidBucketName"),
        (("mb", "s3://logs/key"), "more than a bucket"),
    ],
)
def test_what_cannot_be_is_said_in_awss_words_and_changes_nothing(storage, bucket, arguments, words, tmp_path):
    before = keys(bucket)
    assert words in storage(*arguments, exit_code=2)
    assert keys(bucket) == before
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_key_that_would_leave_the_folder_is_not_copied(storage, bucket, tmp_path):
    bucket.copy(("logs", "readme"), "logs", "cartpole/a/../b", replace=lambda _: {})
    assert "can be no file below" in storage("cp", "-r", "s3://logs/cartpole", "out", exit_code=2)
    assert not (tmp_path / "out").exists()


def test_another_s3_is_not_confused_with_ours(storage, bucket):
    text = storage("ls", exit_code=2, LAUNCHER_S3_ENDPOINT="http://127.0.0.1:1")
    assert "http://127.0.0.1:1" in text
    assert "LAUNCHER_S3_ENDPOINT=embedded" in text
