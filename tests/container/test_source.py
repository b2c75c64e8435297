"""On AWS nobody lays out the source: the toolkit fetches it from S3, with the credentials that the platform lends."""

import http.server
import io
import json
import tarfile
import threading

import boto3
import pytest

from launcher.storage.own_s3 import ensure_server, server_credentials, stop_servers


@pytest.fixture
def s3(home, monkeypatch):
    """The address of an S3 that checks signatures, and its key."""
    monkeypatch.setenv("LAUNCHER_ACCESS", "key")
    url = ensure_server(home)
    yield url, server_credentials(home)
    stop_servers(home)


@pytest.fixture
def lender(s3):
    """The address at which a platform lends a container its credentials."""
    answer = {"AccessKeyId": s3[1]["AWS_ACCESS_KEY_ID"], "SecretAccessKey": s3[1]["AWS_SECRET_ACCESS_KEY"]}

    class Lender(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(answer).encode()
            self.send_response(200 if self.headers["Authorization"] == "the-token" else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lender)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/credentials"
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(s3):
    """The URI of a source archive in a key that has to be encoded."""
    url, keys = s3
    packed = io.BytesIO()
    script = b"""import os, pathlib
pathlib.Path(os.environ["SM_OUTPUT_INTERMEDIATE_DIR"], "m.csv").write_text("1")
print("ran")
"""
    with tarfile.open(fileobj=packed, mode="w:gz") as members:
        member = tarfile.TarInfo("learn.py")
        member.size = len(script)
        members.addfile(member, io.BytesIO(script))
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        **{name.lower(): text for name, text in keys.items()},
    )
    client.create_bucket(Bucket="code")
    client.put_object(Bucket="code", Key="my job+1/sourcedir.tar.gz", Body=packed.getvalue())
    return "s3://code/my job+1/sourcedir.tar.gz"


def run(tree, s3, archive, **variables):
    tree.write_hyperparameters({
        "sagemaker_program": '"learn.py"',
        "sagemaker_submit_directory": json.dumps(archive),
        "sagemaker_region": '"us-east-1"',
    })  # fmt: skip
    own = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
    command = ["env", *(f"--unset={name}" for name in own), *tree.command("train")]
    return tree.run_command(command, AWS_ENDPOINT_URL_S3=s3[0], **variables)


def test_the_source_is_fetched_and_what_aws_would_lose_is_kept(tree, s3, lender, archive):
    result = run(
        tree, s3, archive, AWS_CONTAINER_CREDENTIALS_FULL_URI=lender, AWS_CONTAINER_AUTHORIZATION_TOKEN="the-token"
    )
    assert (result.returncode, result.stdout) == (0, "ran\n"), result.stderr
    assert (tree.base / "output/data/intermediate/m.csv").read_text() == "1"


def test_a_source_that_is_not_there_fails_the_job_with_s3s_words(tree, s3, lender, archive):
    lent = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": lender, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token"}
    assert run(tree, s3, f"{archive}.old", **lent).returncode == 1
    assert "cannot be fetched: HTTP 404" in tree.failure
    assert "NoSuchKey" in tree.failure
    assert run(tree, s3, archive).returncode == 1
    assert "no credentials" in tree.failure


def test_a_source_that_is_laid_out_is_not_fetched(tree, s3):
    tree.write("code/learn.py", "print('laid out')")
    assert run(tree, s3, "s3://nowhere/sourcedir.tar.gz").stdout == "laid out\n"
    assert not (tree.base / "output/data/intermediate").exists()
