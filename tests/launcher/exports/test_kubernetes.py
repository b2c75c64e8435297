"""``launcher export kubernetes``: one JobSet of the published schema, which says all that the request says."""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet as JobSet
from typer.testing import CliRunner

from launcher import Estimator
from launcher.cli.main import app
from launcher.errors import BadInputError
from launcher.exports.kubernetes import Cluster, job_set
from launcher.exports.yaml_text import as_yaml
from launcher.requests.training import check_training_request
from tests.documents import changed
from tests.fault_server import moto_server

REQUEST = {
    "TrainingJobName": "cartpole-07",
    "RoleArn": "arn:aws:iam::000000000000:role/launcher",
    "AlgorithmSpecification": {"TrainingImage": "registry.example/rl:1", "TrainingInputMode": "File"},
    "HyperParameters": {
        "learning_rate": "1e-3",
        "words": "$(HOME) $$",
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "s3://code/sourcedir.tar.gz",
    },
    "Environment": {"WORKERS": "2", "TEMPLATE": "$(HOME) $$"},
    "InputDataConfig": [
        {
            "ChannelName": "train",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://logs/cartpole"}},
        },
        {
            "ChannelName": "Truth_1",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "file:///data/truth"}},
        },
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://results/jobs"},
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "RetryStrategy": {"MaximumRetryAttempts": 3},
    "Tags": [{"Key": "team", "Value": "rl"}],
    "Launcher": {"S3": {"Kind": "aws", "Region": "eu-west-1"}},
}
CLUSTER = Cluster(
    claims={"Truth_1": "data/truth"}, results="results/rl", checkpoints="checkpoints", queue="small",
    s3_image="tools:1", s3_secret="keys", secret="mine",
)  # fmt: skip


def pods(document):
    return [job["template"]["spec"]["template"] for job in document["spec"]["replicatedJobs"]]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Tags", []),
        ("EnableManagedSpotTraining", True),
        ("CheckpointConfig", {"S3Uri": "s3://checkpoints/here", "LocalPath": "/opt/ml/mine"}),
        (
            "ResourceConfig",
            {
                "InstanceGroups": [
                    {"InstanceGroupName": "learners", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
                    {"InstanceGroupName": "actors", "InstanceType": "ml.m5.large", "InstanceCount": 2},
                ],
                "VolumeSizeInGB": 30,
            },
        ),
    ],
)
def test_a_job_is_one_job_set_of_the_published_schema(path, value):
    """The published models drop a member that they do not know, and refuse a value of another type."""
    request = changed(REQUEST, path, value)
    if "Spot" in path:
        request = changed(request, "StoppingCondition.MaxWaitTimeInSeconds", 7200)
    text = as_yaml(job_set(request, CLUSTER).document)
    document = yaml.safe_load(text)
    assert JobSet.from_dict(document).to_dict() == document
    assert [document["apiVersion"], document["kind"]] == ["jobset.x-k8s.io/v1alpha2", "JobSet"]
    assert document["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "small"}
    assert document["spec"]["successPolicy"]["operator"] == "All"
    for job in document["spec"]["replicatedJobs"]:
        assert job["template"]["spec"]["activeDeadlineSeconds"] == 3600
        assert job["template"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 5


def test_hosts_have_their_names_and_read_their_own_configuration():
    """By hand: a pod's DNS name is HOSTNAME.SUBDOMAIN.NAMESPACE.svc.DOMAIN; the subdomain is the set's service."""
    document = job_set(REQUEST, CLUSTER).document
    assert document["spec"]["network"] == {
        "enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": "cartpole-07"
    }  # fmt: skip
    assert [job["name"] for job in document["spec"]["replicatedJobs"]] == ["algo-1", "algo-2"]
    for number, pod in enumerate(pods(document), 1):
        assert pod["spec"]["hostname"] == f"algo-{number}"
        assert pod["spec"]["dnsConfig"]["searches"] == ["cartpole-07.default.svc.cluster.local"]
        annotations = pod["metadata"]["annotations"]
        config = next(entry["downwardAPI"] for entry in pod["spec"]["volumes"] if entry["name"] == "config")
        files = {}
        for item in config["items"]:
            key = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
            files[item["path"]] = yaml.safe_load(annotations[key])
        assert files["hyperparameters.json"] == check_training_request(REQUEST).hyperparameters
        assert sorted(files["inputdataconfig.json"]) == ["Truth_1", "train"]
        assert files["resourceconfig.json"]["current_host"] == f"algo-{number}"
        assert files["resourceconfig.json"]["hosts"] == ["algo-1", "algo-2"]
        (program,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: mount for mount in program["volumeMounts"]}
        assert mounts["/opt/ml/input/config"]["readOnly"]
        assert mounts["/opt/ml/input/data/Truth_1"]["subPath"] == "truth"
        assert mounts["/opt/ml/model"]["subPath"] == f"rl/cartpole-07/algo-{number}/model"
        assert program["terminationMessagePath"] == "/opt/ml/output/failure"
        variables = {entry["name"]: entry.get("value") for entry in program["env"]}
        # Kubernetes makes one dollar of two, and then expands nothing.
        assert variables["TEMPLATE"].replace("$$", "$") == "$(HOME) $$"
        assert variables["TRAINING_JOB_NAME"] == "cartpole-07"
        asked = {"cpu": "4", "memory": "16384Mi", "nvidia.com/gpu": "1", "ephemeral-storage": "50Gi"}
        assert program["resources"] == {"requests": asked, "limits": asked}


def test_only_a_failure_of_the_platform_begins_the_job_again():
    """The program's exit code and the deadline end the set; an eviction counts, and on spot does not count."""
    plain = job_set(REQUEST, CLUSTER).document["spec"]
    rules = plain["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Count", "FailJob"]
    assert rules[1]["onExitCodes"] == {"containerName": "training", "operator": "NotIn", "values": [0]}
    assert plain["failurePolicy"]["maxRestarts"] == 3
    (final,) = plain["failurePolicy"]["rules"]
    assert [final["action"], *final["onJobFailureReasons"]] == ["FailJobSet", "PodFailurePolicy", "DeadlineExceeded"]
    spot = changed(changed(REQUEST, "EnableManagedSpotTraining", True), "StoppingCondition.MaxWaitTimeInSeconds", 7200)
    export = job_set(spot, CLUSTER)
    actions = [rule["action"] for rule in export.document["spec"]["failurePolicy"]["rules"]]
    assert actions == ["FailJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    assert any("MaxWaitTimeInSeconds=7200" in line for line in export.warnings)


@pytest.mark.parametrize(
    ("path", "value", "cluster", "words"),
    [
        ("EnableNetworkIsolation", True, {}, "EnableNetworkIsolation"),
        ("Launcher.Debug", True, {}, "Launcher.Debug"),
        ("Launcher.Faults", ["kill"], {}, "Launcher.Faults"),
        ("InputDataConfig.0.InputMode", "Pipe", {}, "'train': InputMode=Pipe"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataDistributionType", "ShardedByS3Key", {}, "ShardedByS3Key"),
        ("InputDataConfig.0.DataSource.S3DataSource.S3DataType", "ManifestFile", {}, "S3DataType=ManifestFile"),
        ("InputDataConfig.0.CompressionType", "Gzip", {}, "CompressionType=Gzip"),
        ("Launcher.WritableChannels", ["Truth_1"], {}, "WritableChannels"),
        ("Launcher.S3", {"Kind": "embedded"}, {}, "s3://code/sourcedir.tar.gz is in the S3 that is built in"),
        ("Launcher.S3", {"Kind": "endpoint", "EndpointUrl": "http://127.0.0.1:9000"}, {}, "no other machine reaches"),
        ("TrainingJobName", "Cartpole", {}, "--name"),
        ("AlgorithmSpecification.TrainingImage", None, {}, "--image"),
        ("HyperParameters.sagemaker_submit_directory", "file:///code.tar.gz", {}, "--code"),
        ("CheckpointConfig", {"S3Uri": "s3://checkpoints/here"}, {"checkpoints": ""}, "--checkpoints"),
        ("Environment.API_TOKEN", "abc", {"secret": ""}, "Environment.API_TOKEN"),
        ("ResourceConfig.InstanceType", "local_gpu", {}, "local_gpu"),
        ("HyperParameters", {f"{number:0200}": "x" * 2500 for number in range(100)}, {}, "HyperParameters:"),
        ("Tags", [], {"results": ""}, "--results"),
        ("Tags", [], {"s3_image": ""}, "--s3-image"),
        ("Tags", [], {"claims": {}}, "--claim Truth_1=CLAIM/FOLDER"),
        ("Tags", [], {"claims": {"test": "data"}}, "there is no channel 'test'"),
    ],
)
def test_what_a_job_set_cannot_do_is_refused_by_name(path, value, cluster, words):
    options = {**CLUSTER.__dict__, **cluster}
    with pytest.raises(BadInputError) as error:
        job_set(changed(REQUEST, path, value), Cluster(**options))
    assert words in str(error.value)


def test_what_is_done_otherwise_or_not_at_all_is_named():
    request = changed(REQUEST, "VpcConfig", {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]})
    request = changed(request, "AlgorithmSpecification.MetricDefinitions", [{"Name": "loss", "Regex": "loss (.*)"}])
    request = changed(request, "ResourceConfig.KeepAlivePeriodInSeconds", 60)
    request = changed(request, "StoppingCondition.MaxPendingTimeInSeconds", 7200)
    request = changed(request, "HyperParameters.api_key", "abc")
    warnings = job_set(changed(request, "ResourceConfig.InstanceCount", 9), CLUSTER).warnings
    for words in (
        *("VpcConfig=", "MetricDefinitions", "KeepAlivePeriodInSeconds", "MaxPendingTimeInSeconds", "'api_key'"),
        *("S3OutputPath=s3://results/jobs", "MaxRuntimeInSeconds=3600", "file:///data/truth is not read", "Kueue"),
        "objects below s3://logs/cartpole/",
    ):
        assert any(words in line for line in warnings), words


def test_a_text_that_a_reader_could_take_for_something_else_is_quoted():
    texts = ["1e3", "0o7", "y", "off", "null", "1:30", "plain", "a: b", "- a", "~", "12", ""]
    text = as_yaml(texts, ["of a\njob"])
    assert yaml.safe_load(text) == texts
    assert [line for line in text.splitlines() if '"' not in line] == ["# of a job", "- plain"]


def test_the_command_takes_a_file_or_a_job_and_writes_a_file(make_source, home, tmp_path):
    estimator = Estimator(entry_point="train.py", source_dir=make_source("print('done')"), runtime="process")
    estimator.fit(job_name="learned")
    path = tmp_path / "jobset.yaml"
    words = ["export", "kubernetes", "learned", "--image", "rl:1", "--results", "results", "--code", "code", "-o"]
    answer = CliRunner().invoke(app, [*words, str(path)])
    assert answer.exit_code == 0, answer.output
    text = path.read_text()
    assert text.startswith("# ")
    assert yaml.safe_load(text)["metadata"]["annotations"]["launcher.job/name"] == "learned"
    refused = CliRunner().invoke(app, ["export", "kubernetes", "learned"])
    assert refused.exit_code == 2
    assert "--image" in refused.output


@pytest.mark.slow
def test_what_fetches_brings_a_prefix_an_object_and_the_source(tmp_path):
    """Its script runs here as in its container, by the AWS CLI, from a real server."""
    with moto_server() as url:
        client = boto3.Session("tests", "tests", region_name="us-east-1").client("s3", endpoint_url=url)
        client.create_bucket(Bucket="data")
        for key in ("logs/a.csv", "logs/deep/b.csv", "logs-of-others/c.csv"):
            client.put_object(Bucket="data", Key=key, Body=key.encode())
        (tmp_path / "train.py").write_text("print(1)")
        subprocess.run(["tar", "-czf", "source.tar.gz", "train.py"], cwd=tmp_path, check=True)
        client.upload_file(str(tmp_path / "source.tar.gz"), "data", "source.tar.gz")
        request = changed(REQUEST, "Launcher.S3", {"Kind": "endpoint", "EndpointUrl": "http://s3.example:9000"})
        request = changed(request, "HyperParameters.sagemaker_submit_directory", "s3://data/source.tar.gz")
        for number, uri in enumerate(("s3://data/logs", "s3://data/logs/a.csv")):
            request = changed(request, f"InputDataConfig.{number}.DataSource.S3DataSource.S3Uri", uri)
        (pod, _) = pods(job_set(request, Cluster(results="results", s3_image="tools:1")).document)
        for entry in pod["spec"]["initContainers"]:
            variables = {variable["name"]: variable["value"] for variable in entry["env"]}
            assert variables["AWS_ENDPOINT_URL_S3"] == "http://s3.example:9000"
            command = [text.replace("$$", "$") for text in entry["command"]]
            folder = tmp_path / command[-1].lstrip("/")
            folder.mkdir(parents=True)
            environment = {
                **os.environ, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
                "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": url,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }  # fmt: skip
            subprocess.run([*command[:-1], str(folder)], env=environment, check=True, timeout=120)
    opt_ml = tmp_path / "opt/ml"
    files = sorted(str(path.relative_to(opt_ml)) for path in opt_ml.rglob("*") if path.is_file())
    assert files == [
        *("code/train.py", "input/data/Truth_1/a.csv"),
        *("input/data/train/a.csv", "input/data/train/deep/b.csv"),
    ]
