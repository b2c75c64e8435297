"""CreateTrainingJob documents made at random of the model's shapes, and whether Describe gives all of one back."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from launcher.jobs.instance_types import instance_type
from launcher.requests.members import MEMBERS
from launcher.requests.shapes import OWN_MEMBER, compiled, shape
from tests.documents import member_paths

ROLE = "arn:aws:iam::111122223333:role/service-role/r"
LONGEST_SECONDS = 28 * 86400

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_LINE = _TEXT.filter(lambda text: compiled(".*").fullmatch(text) is not None)
_LOCATIONS = st.sampled_from(
    ["s3://bucket", "s3://bucket/a/b/", "s3://my.bucket/k-1", "file:///tmp/a b", "s3://bucket/c/"]
)
_PLACES = {
    "ResourceConfig.InstanceCount": st.integers(1, 9),
    "TrainingJobName": st.sampled_from(["a", "job-1", "A--1", "x" * 63]),
    "Tags[].Key": st.sampled_from(["a", "größe", "a b/c:d=e+f-g@h", "x" * 128]),
    "Tags[].Value": st.sampled_from(["", "a", "ключ 1", "x" * 256]),
    "RoleArn": st.sampled_from([ROLE, "arn:aws:iam::000000000000:role/launcher-local"]),
    "AlgorithmSpecification.TrainingImage": st.sampled_from(["a", "registry/name:tag", "1.dkr.ecr.x/y@sha256:0"]),
    "AlgorithmSpecification.MetricDefinitions[].Regex": st.sampled_from(["loss=(.*?);", "(a)(b)", r"x: ([0-9.]+)"]),
    "InputDataConfig[].ChannelName": st.from_regex(r"[A-Za-z0-9_-]{1,9}", fullmatch=True),
    "ResourceConfig.InstanceGroups[].InstanceCount": st.integers(1, 9),
    "ResourceConfig.InstanceGroups[].InstanceGroupName": st.sampled_from(["readers", "learners", "größe 1"]),
    "InputDataConfig[].DataSource.S3DataSource.InstanceGroupNames": st.none(),  # as the next, see ``_settled``
    "StoppingCondition.MaxRuntimeInSeconds": st.integers(1, LONGEST_SECONDS),
    "StoppingCondition.MaxPendingTimeInSeconds": st.integers(1800, LONGEST_SECONDS),
    "StoppingCondition.MaxWaitTimeInSeconds": st.integers(LONGEST_SECONDS, 30 * 86400),
    "Launcher.Faults": st.lists(st.sampled_from(["kill", "slow:random@1m-2m+3s*2", "seed=7"]), max_size=3),
    "Launcher.SpotInterruptions": st.lists(st.sampled_from(["after:1.5m", "at-line:epoch 3"]), max_size=3),
    "CheckpointConfig.LocalPath": st.sampled_from(["/opt/ml/checkpoints", "/opt/ml/ck/", "/ck"]),
    "HyperParameters": st.dictionaries(_LINE.filter(bool), _LINE, max_size=4),
    "Environment": st.dictionaries(st.from_regex("[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True), _TEXT, max_size=4),
    "Launcher.WritableChannels": st.none(),
    "Launcher.Runtime": st.sampled_from(["auto", "docker", "process", "slurm"]),
}
_NEEDED = {
    *("AlgorithmSpecification", "AlgorithmSpecification.TrainingImage"),
    "InputDataConfig[].DataSource.S3DataSource",
}


def row_of(path):
    """Return the row that counts for a path: its own, or the nearest above."""
    while path and path not in MEMBERS:
        path = path[:-2] if path.endswith("[]") else path.rpartition(".")[0]
    return MEMBERS.get(path)


class _Draws:
    """Makes choices as hypothesis does, which shrinks a document that shows a fault."""

    def __init__(self, draw):
        self._draw = draw

    def flag(self):
        return self._draw(st.booleans())

    def count(self, least, most):
        return self._draw(st.integers(least, most))

    def value(self, path, strategy):
        return self._draw(strategy)


class _Chooser:
    """Makes choices by a seed, each by itself; texts are among some that hypothesis drew for their member."""

    def __init__(self, seed, variety):
        self._random = Random(seed)
        self._variety = variety
        self._values = {}

    def flag(self):
        return self._random.random() < 0.5

    def count(self, least, most):
        return self._random.randint(least, most)

    def value(self, path, strategy):
        if path not in self._values:
            self._values[path] = _examples(strategy, self._variety)
        return copy.deepcopy(self._random.choice(self._values[path]))


@st.composite
def documents(draw):
    """Draw a request with members that are taken, each with values that the model, and our table, take."""
    return _settled(_value(_Draws(draw)))


def drawn(count, seed, variety=20):
    """Return that many such requests, the same for the same arguments.

    Args:
        variety: how many values a member without members has among them.
    """
    chooser = _Chooser(seed, variety)
    return [_settled(_value(chooser)) for _ in range(count)]


def _examples(strategy, count):
    values = []

    @hypothesis.seed(0)
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(value):
        values.append(value)

    draw()
    return values


def _value(choices, name="CreateTrainingJobRequest", path=""):
    definition = shape(name)
    kind = "limited" if path in _PLACES or _is_limited(path) else definition["type"]
    if kind == "structure":
        document = {}
        for member, inner in definition["members"].items():
            inner_path = f"{path}.{member}" if path else member
            wanted = member in definition.get("required", ()) or choices.flag()
            if inner_path in _NEEDED or (wanted and _takes(inner_path)):
                document[member] = _value(choices, inner, inner_path)
        return document
    if kind == "list":
        least = definition.get("min", 0)
        items = [_value(choices, definition["member"], f"{path}[]") for _ in range(choices.count(least, least + 3))]
        key = _KEYS.get(path)
        return list({item[key]: item for item in items}.values()) if key else items
    if kind == "map":
        names = [_value(choices, definition["key"], f"{path}.key") for _ in range(choices.count(0, 3))]
        return {name: _value(choices, definition["value"], f"{path}.value") for name in names}
    return choices.value(path, _leaf(name, path))


_KEYS = {"InputDataConfig": "ChannelName", "Tags": "Key", "ResourceConfig.InstanceGroups": "InstanceGroupName"}
"""By these the items of a list differ."""


def _leaf(name, path):
    """Return a strategy for a member without members."""
    definition = shape(name)
    if path in _PLACES:
        return _PLACES[path]
    if _is_limited(path):
        return st.sampled_from(MEMBERS[path].accepted)
    if definition["type"] in ("integer", "long"):
        return st.integers(definition.get("min", 0), min(definition.get("max", 1000), 1000))
    if definition["type"] == "boolean":
        return st.booleans()
    if "enum" in definition:
        return st.sampled_from(definition["enum"])
    if name == "S3Uri":
        return _LOCATIONS
    least, most = definition.get("min", 0), definition.get("max", 1000)
    if "pattern" in definition:
        text = st.from_regex(compiled(definition["pattern"]), fullmatch=True)
        return text.filter(lambda value: least <= len(value) <= most and _is_utf_8(value))
    return _TEXT.filter(lambda value: len(value) >= least)


def _is_limited(path):
    """Whether a row of its own says which values of a member are taken; what is only noted is taken whole."""
    row = MEMBERS.get(path)
    return row is not None and row.accepted is not None and not row.noted


def _takes(path):
    """Whether a member can be in a document that is accepted: not all of it is refused."""
    row = row_of(path)
    return row is None or row.accepted is None or row.noted or (len(row.accepted) > 0 and path in MEMBERS)


def _is_utf_8(text):
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def _settled(document):
    """Return a document without what its members refuse in one another."""
    own, channels = document.get(OWN_MEMBER, {}), document.get("InputDataConfig", ())
    if own.get("Estimator") == {}:  # says nothing, and is not written again
        del own["Estimator"]
    if document.get("EnableManagedSpotTraining"):
        document.setdefault("StoppingCondition", {}).setdefault("MaxWaitTimeInSeconds", LONGEST_SECONDS)
    else:
        document.get("StoppingCondition", {}).pop("MaxWaitTimeInSeconds", None)
        own.pop("SpotInterruptions", None)
    resources = document.get("ResourceConfig", {})
    groups = [group["InstanceGroupName"] for group in resources.get("InstanceGroups", ())]
    if groups:
        for member in ("InstanceType", "InstanceCount"):
            resources.pop(member, None)
    job_mode = document["AlgorithmSpecification"].get("TrainingInputMode", "File")
    files = [channel["ChannelName"] for channel in channels if _settle_channel(channel, job_mode, groups) == "File"]
    if "WritableChannels" in own:
        own["WritableChannels"] = files
        if not files:
            del own["WritableChannels"]
    return document


def _settle_channel(channel, job_mode, groups):
    """Do the same to a channel; return its input mode."""
    source, mode = channel["DataSource"]["S3DataSource"], channel.get("InputMode", job_mode)
    streams = any(channel.get(name, "None") != "None" for name in ("CompressionType", "RecordWrapperType"))
    wanted = "Pipe" if streams or source["S3DataType"] == "AugmentedManifestFile" else mode
    if wanted == "FastFile" and source["S3DataType"] != "S3Prefix":
        wanted = "File"
    if wanted != mode:
        channel["InputMode"] = wanted
    source.pop("AttributeNames", None)
    if source["S3DataType"] == "AugmentedManifestFile":
        source["AttributeNames"] = ["source-ref", "label"]
    if "InstanceGroupNames" in source:
        source["InstanceGroupNames"] = groups[:1]
        if not groups or wanted == "Pipe":
            del source["InstanceGroupNames"]
    return wanted


# --- the same documents where they can run ------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """What is there for jobs of an engine, so that a document made at random can run.

    Attributes:
        data: URIs to read, by S3DataType.
        results: URIs to write below.
        source: URI of a source archive with a ``train.py``; empty where the engine runs images.
        images: that the engine has.
        runtime: for the launcher's own member; empty where a document has none.
        roles: that a job may have.
        local_types: whether instance types of this machine are taken.
        most_cpus: of an instance type.
        most_hosts: of a job.
        longest_seconds: that a job may run.
        needed: members that a request has to have, with their values where it has none.
    """

    data: dict[str, list[str]]
    results: list[str]
    source: str = ""
    images: tuple[str, ...] = ()
    runtime: str = ""
    roles: tuple[str, ...] = (ROLE, "arn:aws:iam::000000000000:role/launcher-local")
    local_types: bool = True
    most_cpus: int = 1 << 20
    most_hosts: int = 9
    longest_seconds: int = LONGEST_SECONDS
    needed: Mapping[str, Any] = field(default_factory=dict)


def make_data(folder, put):
    """Write what the channels of random documents may read; return the URIs by S3DataType.

    Args:
        folder: a new folder for those of this machine.
        put: stores text below a URI of an S3 and the bucket's name is ``rows``.
    """
    (Path(folder) / "deep").mkdir(parents=True)
    for name in ("a.csv", "deep/b.csv"):
        (Path(folder) / name).write_text("1\n")
        put(f"s3://rows/all/{name}", "1\n")
    put("s3://rows/chosen.json", '[{"prefix": "s3://rows/all/"}, "a.csv", "deep/b.csv"]')
    put("s3://rows/labelled.json", '{"source-ref": "s3://rows/all/a.csv", "label": 1}\n')
    return {
        "S3Prefix": [f"file://{folder}", f"file://{folder}/a.csv", "s3://rows/all", "s3://rows/all/a.csv"],
        "ManifestFile": ["s3://rows/chosen.json"],
        "AugmentedManifestFile": ["s3://rows/labelled.json"],
    }


def placed(document, there, number):
    """Return a document that asks for the same with what is there: inputs, results, an image or a source, a name.

    Args:
        document: from ``drawn``.
        there: Surroundings.
        number: of the document; no two have the same name.
    """
    chooser, document = Random(number), copy.deepcopy(document)
    for name, default in there.needed.items():
        if not document.get(name, {}).get("InstanceGroups"):
            document[name] = {**default, **document.get(name, {})}
    document["TrainingJobName"] = f"{document['TrainingJobName'][:50].rstrip('-')}-{number}"
    document["OutputDataConfig"]["S3OutputPath"] = chooser.choice(there.results)
    document["RoleArn"] = document["RoleArn"] if document["RoleArn"] in there.roles else there.roles[0]
    for channel in document.get("InputDataConfig", ()):
        source = channel["DataSource"]["S3DataSource"]
        source["S3Uri"] = chooser.choice(there.data[source["S3DataType"]])
    if "CheckpointConfig" in document:
        document["CheckpointConfig"]["S3Uri"] = f"{chooser.choice(there.results)}/checkpoints-{number}"
    if there.images:
        document["AlgorithmSpecification"]["TrainingImage"] = chooser.choice(there.images)
    if there.source:
        own = {"sagemaker_program": "train.py", "sagemaker_submit_directory": there.source}
        document["HyperParameters"] = {**document.get("HyperParameters", {}), **own}
    if "MaxRuntimeInSeconds" in document.get("StoppingCondition", {}):
        stopping = document["StoppingCondition"]
        stopping["MaxRuntimeInSeconds"] = min(stopping["MaxRuntimeInSeconds"], there.longest_seconds)
    _place_hosts(document.get("ResourceConfig", {}), there, chooser)
    own = document.pop(OWN_MEMBER, {})
    if there.runtime:
        own["Runtime"] = there.runtime
        if "S3" in own:
            own["S3"] = {"Kind": "embedded"}
        document[OWN_MEMBER] = own
    return document


def _place_hosts(resources, there, chooser):
    for hosts in (resources, *resources.get("InstanceGroups", ())):
        if "InstanceCount" in hosts:
            hosts["InstanceCount"] = min(hosts["InstanceCount"], there.most_hosts)
        if "InstanceType" in hosts and there.local_types and chooser.random() < 0.2:
            hosts["InstanceType"] = chooser.choice(["local", "local_cpu"])
        elif "InstanceType" in hosts and not _fits(hosts["InstanceType"], there.most_cpus):
            small = [name for name in shape("TrainingInstanceType")["enum"] if _fits(name, there.most_cpus)]
            hosts["InstanceType"] = chooser.choice(small)


def _fits(name, cpus):
    kind = instance_type(name)
    return kind is None or kind.cpus <= cpus


# --- what comes back ----------------------------------------------------------------------------------------------

NOT_DESCRIBED = {"Tags", "SessionChainingConfig", OWN_MEMBER}
"""What CreateTrainingJob takes and DescribeTrainingJob has no member for."""

STATE = {
    *("TrainingJobArn", "ModelArtifacts", "TrainingJobStatus", "SecondaryStatus", "CreationTime", "LastModifiedTime"),
    *("TrainingStartTime", "TrainingEndTime", "SecondaryStatusTransitions", "FinalMetricDataList", "ProfilingStatus"),
    *("WarmPoolStatus", "FailureReason", "TrainingTimeInSeconds", "BillableTimeInSeconds"),
}
"""What Describe says of the job, beside its request."""

_DEFAULTS = {
    "HyperParameters": {},
    "Environment": {},
    "InputDataConfig": [],
    "EnableNetworkIsolation": False,
    "EnableInterContainerTrafficEncryption": False,
    "EnableManagedSpotTraining": False,
    "AlgorithmSpecification": {"TrainingInputMode": "File", "MetricDefinitions": []},
    "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
    "ResourceConfig": {"VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
}
_ONE_HOST = {"InstanceType": "local", "InstanceCount": 1}
_OF_A_CHANNEL = {"CompressionType": "None", "RecordWrapperType": "None"}


def expected(document):
    """Return what Describe has to say of a request: all of it, and the values of what was left out."""
    answer = {name: member for name, member in document.items() if name not in NOT_DESCRIBED}
    for name, default in _DEFAULTS.items():
        answer[name] = {**default, **answer.get(name, {})} if default else answer.get(name, default)
    if not answer["ResourceConfig"].get("InstanceGroups"):
        answer["ResourceConfig"] = {**_ONE_HOST, **answer["ResourceConfig"]}
    if "CheckpointConfig" in answer:
        answer["CheckpointConfig"] = {"LocalPath": "/opt/ml/checkpoints", **answer["CheckpointConfig"]}
    answer["InputDataConfig"] = [
        {
            "InputMode": answer["AlgorithmSpecification"]["TrainingInputMode"],
            **_OF_A_CHANNEL,
            **channel,
            "DataSource": {
                "S3DataSource": {"S3DataDistributionType": "FullyReplicated", **channel["DataSource"]["S3DataSource"]}
            },
        }
        for channel in answer["InputDataConfig"]
    ]
    if tuning := document.get(OWN_MEMBER, {}).get("TuningJobArn"):
        answer["TuningJobArn"] = tuning
    return answer


def differences(document, description):
    """Return a line for everything that Describe lost, changed or added; none where it gives the request back."""
    answer = {name: member for name, member in description.items() if name not in NOT_DESCRIBED | STATE}
    return list(_differences(expected(document), answer, ""))


def _differences(asked, said, place):
    if isinstance(asked, dict) and isinstance(said, dict):
        for name in [*asked, *(name for name in said if name not in asked)]:
            inner = f"{place}.{name}" if place else name
            if name not in said:
                yield f"{inner} is lost: {asked[name]!r:.100}"
            elif name not in asked:
                yield f"{inner} is added: {said[name]!r:.100}"
            else:
                yield from _differences(asked[name], said[name], inner)
    elif isinstance(asked, list) and isinstance(said, list) and len(asked) == len(said):
        for number, pair in enumerate(zip(asked, said, strict=True)):
            yield from _differences(*pair, f"{place}[{number}]")
    elif type(asked) is not type(said) or asked != said:
        yield f"{place} is changed: {asked!r:.100} -> {said!r:.100}"


def members_of(drawn_documents):
    """Return the paths of the members that some document has, and those that none has of all that are taken."""
    seen = set()

    def walk(value, path):
        seen.add(path)
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{path}.{name}" if path else name)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, f"{path}[]")

    for document in drawn_documents:
        walk(document, "")
    taken = {
        path for path in member_paths("CreateTrainingJobRequest") if _takes(path) and not path.startswith("Launcher.S3")
    }
    return seen, sorted(path for path in taken if path not in seen and f"{path}[]" not in seen)
