"""``launcher plan --diff local aws``: said before anything is sent, and nothing is asked."""

import json

import launcher
from launcher.comparing.with_aws import differences_on_aws, refusal_of_aws
from tests.launcher.remote.conftest import BUCKET, ROLE
from tests.shell import run_launcher


def request_of(source, data, **options):
    return launcher.Estimator(entry_point="train.py", source_dir=source, **options).request({"train": data})


def test_a_job_of_this_machine_is_told_everything_that_aws_asks_for(make_source, tmp_path):
    (tmp_path / "rows.csv").write_text("1\n")
    request = request_of(make_source("pass"), str(tmp_path / "rows.csv"), volume_size=100, faults="kill")
    there = {difference.subject: difference.there for difference in differences_on_aws(request)}
    assert there["AlgorithmSpecification.TrainingImage"].endswith("launcher push REGISTRY_URI")
    assert there["ResourceConfig.InstanceType"].startswith("a type has to be named")
    assert there["ResourceConfig.VolumeSizeInGB"] == "100 counts"
    assert there["channel 'train'"].startswith("uploaded by its content")
    assert there["OutputDataConfig.S3OutputPath"] == there["the source archive"] == "has to be in S3: --bucket BUCKET"
    assert {"RoleArn", "Launcher.Faults", "user", "logs", "/opt/ml/output/intermediate"} <= set(there)
    assert "no image is named" in refusal_of_aws(request)


def test_a_document_for_aws_differs_only_in_what_no_document_says(make_source, tmp_path):
    request = request_of(
        make_source("pass"),
        f"s3://{BUCKET}/rows",
        image_uri="any:1",
        role=ROLE,
        instance_type="ml.m5.large",
        output_path=f"s3://{BUCKET}/out",
    )
    subjects = [difference.subject for difference in differences_on_aws(request)]
    assert subjects == ["ResourceConfig.InstanceType", "user", "/opt/ml/output/intermediate", "logs"]
    assert refusal_of_aws(request) == ""
    (tmp_path / "request.json").write_text(json.dumps(request))
    answer = run_launcher("plan", "request.json", "--diff", "local", "aws", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "as much of ml.m5.large as this machine has" in answer.stdout
    assert run_launcher("plan", "request.json", "--diff", "aws", "mars", cwd=tmp_path).returncode == 2
