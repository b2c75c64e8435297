"""Hosts of several types: what each is told, which channels it has, and what is refused."""

import json

import pytest

import launcher
from launcher import InstanceGroup, TrainingInput, errors
from launcher.jobs.spec import TrainingJobSpec
from launcher.requests.training import check_training_request, training_request
from tests.fakes import FakeRuntime

READERS, LEARNERS = InstanceGroup("readers", "ml.c5.xlarge", 2), InstanceGroup("learners", "local", 1)
SCRIPT = """
import json, os, pathlib
config = pathlib.Path(os.environ["SM_INPUT_CONFIG_DIR"])
told = json.loads((config / "resourceconfig.json").read_text())
channels = json.loads((config / "inputdataconfig.json").read_text())
names = ("SM_CURRENT_INSTANCE_GROUP", "SM_INSTANCE_GROUPS", "SM_IS_HETERO", "WORLD_SIZE", "RANK")
files = {name: sorted(os.listdir(os.environ["SM_CHANNEL_" + name.upper()])) for name in channels}
print(json.dumps({"told": told, "files": files, "set": {name: os.environ.get(name) for name in names}}))
"""


@pytest.fixture
def estimate(make_source):
    def make(groups=(READERS, LEARNERS), **options):
        own = {"entry_point": "train.py", "source_dir": make_source(SCRIPT), "runtime": FakeRuntime()}
        return launcher.Estimator(instance_groups=list(groups), **own | options)

    return make


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    return str(folder)


def test_each_host_knows_its_group_and_has_its_channels(estimate, data):
    estimator = estimate(
        distribution={"torch_distributed": {"enabled": True}, "instance_groups": [READERS]},
    )
    raw = TrainingInput(data, instance_groups=["readers"], distribution="ShardedByS3Key")
    estimator.fit({"raw": raw, "all": data}, logs=False, job_name="job-1")
    job = estimator.latest_training_job
    logs = ["job.log", "job.algo-2.log", "job.algo-3.log"]
    first, second, third = (json.loads((job.path / log).read_text().splitlines()[-1]) for log in logs)
    groups = [
        {"instance_group_name": "readers", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1", "algo-2"]},
        {"instance_group_name": "learners", "instance_type": "local", "hosts": ["algo-3"]},
    ]
    for told, host, group in ((first, "algo-1", 0), (second, "algo-2", 0), (third, "algo-3", 1)):
        config = told["told"]
        assert (config["current_host"], config["instance_groups"]) == (host, groups)
        assert config["current_group_name"] == groups[group]["instance_group_name"]
        assert config["current_instance_type"] == groups[group]["instance_type"]
        assert told["set"]["SM_CURRENT_INSTANCE_GROUP"] == groups[group]["instance_group_name"]
        assert told["set"]["SM_IS_HETERO"] == "true"
    assert [told["files"] for told in (first, second, third)] == [
        {"all": ["a", "b"], "raw": ["a"]},
        {"all": ["a", "b"], "raw": ["b"]},
        {"all": ["a", "b"]},
    ]
    assert [told["set"]["RANK"] for told in (first, second, third)] == ["0", "1", None]
    resources = job.describe()["ResourceConfig"]
    assert [group["InstanceCount"] for group in resources["InstanceGroups"]] == [2, 1]
    assert "InstanceType" not in resources
    attached = launcher.Estimator.attach("job-1")
    assert [group.instance_count for group in attached.instance_groups] == [2, 1]
    assert attached.distribution["instance_groups"] == ["readers"]


def test_a_host_has_the_limits_of_its_own_type(estimate, monkeypatch):
    monkeypatch.setattr("launcher.runtimes.machine.memory_bytes", lambda: 64 << 30)
    monkeypatch.setattr("launcher.runtimes.machine.cpu_ids", lambda: list(range(16)))
    plan = estimate().plan(job_name="job-1")
    assert [container.limits.cpus for container in plan.containers] == [4, 4, 0]
    assert [container.limits.memory_bytes >> 30 for container in plan.containers] == [8, 8, 0]


def test_groups_come_back_from_the_spec_and_from_the_record(estimate):
    document = estimate().request({"raw": TrainingInput("/tmp", instance_groups=["readers"])}, job_name="job-1")
    spec = check_training_request(document)
    assert TrainingJobSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    again = training_request(spec)
    assert again["ResourceConfig"]["InstanceGroups"] == document["ResourceConfig"]["InstanceGroups"]
    source = again["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["InstanceGroupNames"] == ["readers"]


@pytest.mark.parametrize(
    ("options", "channel", "words"),
    [
        ({"instance_count": 2}, {}, "are both given"),
        ({"groups": [READERS, READERS]}, {}, "two groups 'readers'"),
        ({"groups": [InstanceGroup("a", "ml.c5.lrge", 1)]}, {}, "ml.c5.lrge"),
        ({"groups": ["readers"]}, {}, "a list of InstanceGroup"),
        ({"groups": [InstanceGroup("a", "local", 0)]}, {}, "has no host"),
        ({}, {"instance_groups": ["writers"]}, "'writers', and the job's groups are: readers, learners"),
        ({}, {"instance_groups": ["readers"], "input_mode": "Pipe"}, "Pipe mode is not emulated"),
        ({"distribution": {"torch_distributed": {"enabled": True}}}, {}, "the one instance group"),
    ],
)
def test_what_does_not_go_together_is_refused(options, channel, words, estimate, data, home):
    with pytest.raises(errors.BadInputError, match=words):
        estimate(**options).fit({"raw": TrainingInput(data, **channel)}, job_name="job-1")
    assert not (home / "jobs" / "job-1").exists()
