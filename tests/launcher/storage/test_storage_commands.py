"""``launcher storage`` as a person uses it at a shell, on the embedded S3 and on another one."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from launcher.s3_server import service
from launcher.settings import s3_settings
from launcher.storage import bucket_storage
from tests.shell import launcher_environment, run_launcher

NO_OTHER_S3 = {"LAUNCHER_S3_ENDPOINT": "", "AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": ""}
both = pytest.mark.parametrize("s3_kind", ["embedded", "endpoint"], indirect=True)


@pytest.fixture
def s3_kind(request):
    """Which S3 the commands mean; tests that say nothing mean the embedded one."""
    return getattr(request, "param", "embedded")


@pytest.fixture
def endpoint(s3_kind, request):
    return "embedded" if s3_kind == "embedded" else request.getfixturevalue("moto_url")


@pytest.fixture
def storage(home, tmp_path, endpoint):
    """A function that runs ``launcher storage ...`` in a folder and returns what it printed; it has to succeed."""

    def run(*arguments, exit_code=0, **variables):
        told = NO_OTHER_S3 | ({} if endpoint == "embedded" else {"LAUNCHER_S3_ENDPOINT": endpoint}) | variables
        done = run_launcher("storage", *arguments, cwd=tmp_path, **told)
        assert exit_code is None or done.returncode == exit_code, done.stderr
        return done.stderr if exit_code else done.stdout

    yield run
    service.stop(home)


@pytest.fixture
def buckets(home, tmp_path, endpoint):
    """The S3 itself, with a bucket ``logs`` of three objects, and ``other``, which is empty."""
    storage = bucket_storage(s3_settings(endpoint))
    for name in ("logs", "other"):
        storage.make_bucket(f"s3://{name}")
        storage.delete(name, list(storage.keys(f"s3://{name}", "")))
    content = tmp_path / "content"
    content.write_text("a,b\n")
    for key in ("cartpole/train.csv", "cartpole/deep/er.csv", "readme"):
        storage.upload_all({content: f"s3://logs/{key}"})
    content.unlink()
    return storage


def keys(buckets, bucket="logs"):
    return list(buckets.keys(f"s3://{bucket}", ""))


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
    assert "s3://logs" in storage("ls", AWS_ENDPOINT_URL_S3=told["AWS_ENDPOINT_URL_S3"]), "what the shell still says"


def test_the_status_of_nothing_makes_nothing(storage, home):
    assert "server: none" in storage("status")
    assert not home.exists()


@both
def test_listing(storage, buckets):
    assert "s3://logs" in storage("ls")
    assert [line.split()[-1] for line in storage("ls", "s3://logs").splitlines()] == ["cartpole/", "readme"]
    assert [line.split()[-1] for line in storage("ls", "-r", "s3://logs/cart").splitlines()] == [
        "cartpole/deep/er.csv",
        "cartpole/train.csv",
    ]
    [result] = json.loads(storage("ls", "--json", "s3://logs/readme"))
    assert (result["Key"], result["Size"]) == ("readme", 4)


@both
def test_copying_up_down_and_between(storage, buckets, tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.json").write_text("{}")
    (tmp_path / "data" / "sub" / "b b.csv").write_text("b")
    storage("mb", "s3://other")  # it is there already
    storage("cp", "data/a.json", "s3://other")
    storage("cp", "data/a.json", "s3://other/renamed")
    storage("cp", "--recursive", "data", "s3://other/all")
    assert keys(buckets, "other") == ["a.json", "all/a.json", "all/sub/b b.csv", "renamed"]
    storage("cp", "--recursive", "s3://other/all", "s3://logs/new/")
    assert keys(buckets)[-3:] == ["new/a.json", "new/sub/b b.csv", "readme"]
    storage("cp", "--recursive", "s3://logs/new", "back")
    assert (tmp_path / "back" / "sub" / "b b.csv").read_text() == "b"
    storage("cp", "s3://logs/readme", ".")
    storage("cp", "s3://logs/readme", "other-name")
    assert (tmp_path / "readme").read_text() == (tmp_path / "other-name").read_text() == "a,b\n"


@both
def test_a_new_bucket_gets_objects_of_the_type_that_their_names_say(storage, home, tmp_path, endpoint):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.what").write_text("?")
    storage("mb", "s3://types")
    storage("cp", "a.json", "s3://types")
    storage("cp", "b.what", "s3://types")
    url = service.ensure(home) if endpoint == "embedded" else endpoint
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    types = [client.head_object(Bucket="types", Key=key)["ContentType"] for key in ("a.json", "b.what")]
    assert types == ["application/json", "binary/octet-stream"]


@both
def test_removing(storage, buckets):
    storage("rm", "s3://logs/readme")
    assert keys(buckets) == ["cartpole/deep/er.csv", "cartpole/train.csv"]
    assert storage("rm", "--recursive", "s3://logs/cartpole/") == "deleted: 2 objects below s3://logs/cartpole/\n"
    assert keys(buckets) == []


@both
@pytest.mark.parametrize("uri", ["s3://logs/docs", "s3://logs/docs/"])
def test_removing_a_folder_leaves_its_neighbours(storage, buckets, tmp_path, uri):
    """As ``aws s3 rm --recursive`` does; in a listing ``docs`` would be a prefix of ``docs2/b`` as well."""
    (tmp_path / "file").write_text("x")
    buckets.upload_all({tmp_path / "file": "s3://logs/docs/a"})
    buckets.upload_all({tmp_path / "file": "s3://logs/docs2/b"})
    buckets.upload_all({tmp_path / "file": "s3://logs/docs"})
    assert storage("rm", "-r", uri) == "deleted: 1 object below s3://logs/docs/\n"
    assert keys(buckets)[2:-1] == ["docs", "docs2/b"]
    assert storage("rm", "-r", "s3://logs") == "deleted: 5 objects below s3://logs/\n"
    assert storage("rm", "-r", "s3://logs/") == "deleted: 0 objects below s3://logs/\n"


@both
def test_making_and_copying_say_what_they_did(storage, buckets, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).write_text("x")
    assert storage("mb", "s3://other") == "is there already: s3://other\n"
    assert storage("cp", "data/a", "s3://logs/x/") == "copied: s3://logs/x/a\n"
    assert storage("cp", "-r", "data", "s3://logs/all") == "copied: 2 files to s3://logs/all\n"
    assert storage("cp", "s3://logs/x/a", "here") == "copied: here\n"
    assert storage("cp", "s3://logs/x/a", "s3://other/b") == "copied: s3://other/b\n"


def test_a_new_bucket_is_announced(storage):
    assert storage("mb", "s3://never-before") == "made: s3://never-before\n"


def test_verify_names_what_is_damaged(storage, buckets, home, tmp_path):
    """A byte that changed, a file that is gone, one that is cut off; and what came in parts."""
    from launcher.s3_server.multipart import Uploads, WantedPart
    from launcher.s3_server.store import ObjectStore

    store = ObjectStore(home / "s3")
    uploads = Uploads(store)
    details = {"content_type": "", "checksum_algorithm": "", "checksum_type": ""}
    upload = uploads.find("other", "large", uploads.create("other", "large", details))
    wanted = []
    for number, data in enumerate((b"a" * (5 << 20), b"b"), 1):
        with store.content() as content:
            content.write(data)
            wanted.append(WantedPart(number, uploads.put_part(upload, number, content, {}).etag, {}))
    large = uploads.complete(upload, wanted)
    assert "verified: 4 objects, 5.0 MiB; all as they were put" in storage("verify")

    def rewrite(path, data):
        path.chmod(0o644)
        path.write_bytes(data)

    rewrite(store.get("logs", "readme").path, b"a,B\n")
    rewrite(store.get("logs", "cartpole/train.csv").path, b"a")
    store.get("logs", "cartpole/deep/er.csv").path.unlink()
    rewrite(large.path, b"a" * (5 << 20) + b"c")
    report = json.loads(storage("verify", "--json", exit_code=None))
    assert {(item["uri"], item["reason"]) for item in report["damaged"]} == {
        ("s3://logs/readme", "its content no longer has the MD5 that it was stored with"),
        ("s3://logs/cartpole/train.csv", "its content has 1 bytes instead of 4"),
        ("s3://logs/cartpole/deep/er.csv", "its content is missing"),
        ("s3://other/large", "its content no longer has the MD5 that it was stored with"),
    }


def test_the_key_is_handed_out_where_it_is_asked_for(storage, home):
    from launcher.s3_server.access import home_key

    def exported(text):
        return dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines() if "=" in line)

    anybody = exported(storage("up"))
    assert anybody["AWS_SECRET_ACCESS_KEY"] == "launcher"
    owner = exported(storage("up", LAUNCHER_ACCESS="key"))
    assert owner["AWS_ENDPOINT_URL_S3"] == anybody["AWS_ENDPOINT_URL_S3"]
    assert owner["AWS_SECRET_ACCESS_KEY"] == home_key(home / "s3").secret_key
    assert "LAUNCHER_ACCESS is 'maybe'" in storage("up", LAUNCHER_ACCESS="maybe", exit_code=2)


@both
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rm", "s3://logs/cartpole/"), "It is a folder: -r deletes what lies below it."),
        (("rm", "s3://logs/cartpole"), "Did you mean s3://logs/cartpole/? -r deletes what lies below it."),
        (("rm", "-r", "s3://logs/readme"), "s3://logs/readme is an object: leave -r out."),
        (("rm", "-r", "s3://logs/cart"), "Did you mean s3://logs/cartpole/?"),
        (("ls", "logs/x"), "'logs/x' is not an s3:// URI"),
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
def test_what_cannot_be_is_said_in_awss_words_and_changes_nothing(storage, buckets, arguments, words, tmp_path):
    before = keys(buckets)
    assert words in storage(*arguments, exit_code=2)
    assert keys(buckets) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"home"}


def test_a_missing_bucket_is_named_with_the_nearest_that_is_there(storage, buckets):
    words = "The specified bucket does not exist (NoSuchBucket)\n  Did you mean s3://logs?"
    assert words in storage("ls", "s3://log", exit_code=2)


@pytest.mark.parametrize("s3_kind", ["endpoint"], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [("ls", "s3://log/x"), ("rm", "s3://log/x"), ("rm", "-r", "s3://log/x"), ("cp", "-r", "s3://log/x", ".")],
)
def test_a_missing_bucket_of_another_s3_is_named_with_its_address(storage, buckets, endpoint, arguments):
    text = storage(*arguments, exit_code=1)
    assert "ListObjectsV2 of s3://log/" in text
    assert f" at {endpoint} failed after 1 try: NoSuchBucket (404)" in text


def test_a_key_that_would_leave_the_folder_is_not_copied(storage, buckets, tmp_path):
    buckets.copy_all({"s3://logs/readme": "s3://logs/cartpole/a/../b"})
    assert "can be no file below" in storage("cp", "-r", "s3://logs/cartpole", "out", exit_code=2)
    assert not (tmp_path / "out").exists()


def test_an_s3_that_does_not_answer_is_named(storage):
    text = storage("ls", exit_code=1, LAUNCHER_S3_ENDPOINT="http://127.0.0.1:1")
    assert "ListBuckets at http://127.0.0.1:1 failed after 3 tries" in text


@pytest.mark.parametrize("s3_kind", ["endpoint"], indirect=True)
def test_the_commands_of_the_server_mean_the_embedded_s3_whatever_s3_is_meant(storage, buckets, home):
    assert str(home / "s3") in storage("status")
    assert storage("down") == "no server was up\n"


@pytest.fixture
def aws(moto_url):
    """Variables with which AWS is meant, and moto gets what is sent to it."""
    return {
        "LAUNCHER_S3_ENDPOINT": "aws", "AWS_ENDPOINT_URL_S3": "http://s3.us-east-1.amazonaws.com",
        "HTTP_PROXY": moto_url, "http_proxy": moto_url, "NO_PROXY": "", "no_proxy": "",
    }  # fmt: skip


@pytest.mark.parametrize("s3_kind", ["endpoint"], indirect=True)
def test_aws_loses_nothing_that_nobody_has_confirmed(storage, buckets, aws, tmp_path):
    before = keys(buckets)
    text = storage("rm", "-r", "s3://logs/cartpole/", exit_code=2, **aws)
    assert "Delete 2 objects of http://s3.us-east-1.amazonaws.com below s3://logs/cartpole/?" in text
    assert "add --yes" in text
    assert keys(buckets) == before
    assert storage("rm", "--yes", "s3://logs/readme", **aws) == "deleted: 1 object at s3://logs/readme\n"
    for answer, left in (("n", 2), ("y", 0)):
        terminal, standard_input = pty.openpty()
        try:
            os.write(terminal, f"{answer}\n".encode())
            subprocess.run(
                [sys.executable, "-m", "launcher", "storage", "rm", "-r", "s3://logs/cartpole/"],
                stdin=standard_input, capture_output=True, check=answer == "y", cwd=tmp_path,
                env=launcher_environment(**aws),
            )  # fmt: skip
        finally:
            os.close(terminal)
            os.close(standard_input)
        assert len(keys(buckets)) == left
