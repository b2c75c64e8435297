"""Transform jobs from the command line: documents, dry runs, and what is said of a bad command."""

import json

import pytest

from tests.shell import run_launcher


@pytest.fixture
def documents(tmp_path):
    (tmp_path / "data.txt").write_text("a\nb\n")
    model = {"ModelName": "model-1", "PrimaryContainer": {"Image": "my-server"}}
    transform = {
        "TransformJobName": "job-1",
        "ModelName": "model-1",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"file://{tmp_path}/data.txt"}}
        },
        "TransformOutput": {"S3OutputPath": f"file://{tmp_path}/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    (tmp_path / "model.json").write_text(json.dumps(model))
    (tmp_path / "transform.json").write_text(json.dumps(transform))
    return tmp_path


def test_documents_of_a_model_and_of_a_job_are_run_as_boto3_would_send_them(documents):
    """The process runtime has no containers, so the job is refused by name before anything is recorded."""
    made = run_launcher("run", "model.json", cwd=documents)
    assert made.returncode == 0, made.stderr
    again = run_launcher("run", "model.json", cwd=documents)
    assert again.returncode == 2
    assert "Cannot create already existing model" in again.stderr
    refused = run_launcher("run", "transform.json", "--runtime", "process", cwd=documents)
    assert refused.returncode == 2
    assert "cannot run the image my-server" in refused.stderr
    listed = json.loads(run_launcher("ls", "--kind", "model", "--json", cwd=documents).stdout)
    assert [entry["ModelName"] for entry in listed] == ["model-1"]
    assert json.loads(run_launcher("ls", "--kind", "transform", "--json", cwd=documents).stdout) == []


def test_a_command_without_a_model_says_what_to_name(documents):
    answer = run_launcher("transform", "data.txt", cwd=documents)
    assert answer.returncode == 2
    assert "--job NAME, --model-data PATH or --image-uri IMAGE" in answer.stderr


def test_a_dry_run_prints_the_document_and_leaves_no_model(documents, home):
    answer = run_launcher(
        *("transform", "data.txt", "--image-uri", "my-server", "--dry-run", "--json", "--split", "Line"),
        cwd=documents,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["TransformInput"]["SplitType"] == "Line"
    assert not list((home / "models").iterdir())


def test_a_kind_that_is_none_is_named(documents):
    answer = run_launcher("ls", "--kind", "endpoints-of-mars", cwd=documents)
    assert answer.returncode == 2
    assert "training, processing, transform, tuning, model" in answer.stderr
