"""Tags of everything with an ARN, and Search over what ran; on records that are written, not run."""

import threading

import pytest

from launcher.aws.errors import AwsError
from launcher.aws.sagemaker import answer
from launcher.jobs.kinds import ENDPOINT_CONFIGS, ENDPOINTS, MODELS, TRAINING_JOBS, TRANSFORM_JOBS
from launcher.jobs.record import JobRecord
from launcher.jobs.spec import Channel, TrainingJobSpec
from launcher.jobs.states import SecondaryStatus, Status
from launcher.jobs.store import JobStore
from tests.launcher.aws.clients import refused, sagemaker_client

JOB = TRAINING_JOBS.arn("job-a")


def record_job(home, name, created=100.0, *, tags=(), hyperparameters=None, loss=None, channels=()):
    """Write the record of a job that has ended."""
    spec = TrainingJobSpec(
        job_name=name,
        runtime="process",
        output_uri="s3://results/jobs",
        tags=tuple(tags),
        hyperparameters=hyperparameters or {},
        channels=tuple(Channel(channel, uri) for channel, uri in channels),
    )
    record = JobRecord(
        spec=spec.to_dict(),
        created=created,
        ended=created + 5,
        status=Status.COMPLETED,
        secondary_status=SecondaryStatus.COMPLETED,
        final_metrics=[] if loss is None else [["loss", loss, created]],
    )
    JobStore(home).create(name, record)


@pytest.fixture
def client(home):
    record_job(home, "job-a", tags=[("team", "rl"), ("été", "où/+ x")])
    return sagemaker_client(home)


def tags_of(client, arn=JOB):
    return {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}


def test_tags_that_a_job_was_made_with_are_listed_changed_and_deleted(client):
    assert tags_of(client) == {"team": "rl", "été": "où/+ x"}
    added = client.add_tags(ResourceArn=JOB, Tags=[{"Key": "team", "Value": "ops"}, {"Key": "new", "Value": ""}])
    assert added["Tags"] == [
        {"Key": "team", "Value": "ops"},
        {"Key": "été", "Value": "où/+ x"},
        {"Key": "new", "Value": ""},
    ]
    client.delete_tags(ResourceArn=JOB, TagKeys=["été", "nobody"])
    assert tags_of(client) == {"team": "ops", "new": ""}
    client.delete_tags(ResourceArn=JOB, TagKeys=["team", "new"])
    assert tags_of(client) == {}, "those of the request do not come back"


def test_everything_with_an_arn_has_tags(home, tmp_path):
    client = sagemaker_client(home)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1\n")
    tags = [{"Key": "team", "Value": "rl"}]
    client.create_model(
        ModelName="m", PrimaryContainer={}, ExecutionRoleArn="arn:aws:iam::000000000000:role/any", Tags=tags
    )
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant], Tags=tags)
    for arn in (MODELS.arn("m"), ENDPOINT_CONFIGS.arn("c")):
        assert tags_of(client, arn) == {"team": "rl"}
        client.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
        assert tags_of(client, arn) == {"team": "rl", "b": "2"}
    client.delete_model(ModelName="m")
    assert refused(client.list_tags, ResourceArn=MODELS.arn("m"))[0] == "ValidationException"


@pytest.mark.parametrize(
    "arn",
    [
        TRAINING_JOBS.arn("nobody"),
        TRANSFORM_JOBS.arn("job-a"),
        ENDPOINTS.arn("e"),
        "arn:aws:sagemaker:us-east-1:000000000000:domain/d-1",
        "arn:aws:sagemaker:eu-west-1:000000000000:training-job/job-a",
        "arn:aws:sagemaker:us-east-1:000000000000:training-job/../../jobs/job-a",
        "arn:aws:sagemaker:us-east-1:000000000000:training-job/\ud800",
    ],
)
@pytest.mark.parametrize("operation", ["ListTags", "AddTags", "DeleteTags"])
def test_an_arn_of_nothing_is_refused(client, home, operation, arn):
    rest = {"AddTags": {"Tags": []}, "DeleteTags": {"TagKeys": ["a"]}}.get(operation, {})
    with pytest.raises(AwsError, match=r"Requested resource not found|Could not find endpoint") as caught:
        answer(operation, {"ResourceArn": arn, **rest}, home)
    assert caught.value.code == "ValidationException"


def test_tags_that_aws_refuses_are_refused(client, home):
    for tags, words in [
        ([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "Duplicate tag keys found"),
        ([{"Key": "aws:x", "Value": "1"}], "Tag keys that begin with 'aws:' are reserved"),
        (
            [{"Key": "a!", "Value": "1"}],
            "1 validation error detected: Value 'a!' at 'tags.1.member.key' failed to satisfy",
        ),
        ([{"Key": f"k{number}", "Value": "1"} for number in range(49)], f"{JOB} would have 51 tags"),
    ]:
        code, message = refused(client.add_tags, ResourceArn=JOB, Tags=tags)
        assert code == "ValidationException"
        assert message.startswith(words)
    assert tags_of(client) == {"team": "rl", "été": "où/+ x"}
    with pytest.raises(AwsError, match="Duplicate tag keys"):
        answer("CreateModel", {"ModelName": "m", "PrimaryContainer": {}, "Tags": [{"Key": "a", "Value": ""}] * 2}, home)


def test_tags_that_many_add_at_once_are_all_there(client, home):
    def add(number):
        answer("AddTags", {"ResourceArn": JOB, "Tags": [{"Key": f"k{number}", "Value": "v"}]}, home)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"k{number}" for number in range(20)} <= set(tags_of(client))


@pytest.fixture
def jobs(home):
    record_job(home, "job-a", 100.0, tags=[("team", "rl")], hyperparameters={"lr": "0.5", "algo": '"bcq"'}, loss=0.9)
    record_job(home, "job-b", 200.0, tags=[("team", "ops")], hyperparameters={"lr": "1e-3"}, loss=0.1)
    record_job(
        home,
        "job-c",
        300.0,
        hyperparameters={"lr": "high", "a.b": "1"},
        channels=[("train", "s3://logs/one"), ("test", "s3://logs/two")],
    )
    return sagemaker_client(home)


def found_by(client, resource="TrainingJob", **request):
    results = client.search(Resource=resource, SortBy="CreationTime", SortOrder="Ascending", **request)["Results"]
    return "".join(result["TrainingJob"]["TrainingJobName"][-1] for result in results)


def condition(name, operator=None, value=None):
    return {"Name": name, **({"Operator": operator} if operator else {}), **({"Value": value} if value else {})}


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (("TrainingJobName", None, "job-b"), "b"),
        (("TrainingJobName", "NotEquals", "job-b"), "ac"),
        (("TrainingJobName", "Contains", "-c"), "c"),
        (("TrainingJobName", "In", "job-a, job-c"), "ac"),
        (("Metrics.loss", "LessThan", "0.5"), "b"),
        (("Metrics.loss", "Exists"), "ab"),
        (("Metrics.loss", "NotExists"), "c"),
        (("HyperParameters.lr", "GreaterThanOrEqualTo", "0.5"), "a"),
        (("HyperParameters.lr", "LessThan", "0.5"), "b"),
        (("HyperParameters.lr", "LessThan", "1"), "ab"),
        (("HyperParameters.lr", "GreaterThan", "0"), ""),  # compared with an integer, decimals are cut
        (("HyperParameters.lr", "Equals", "high"), "c"),
        (("HyperParameters.a.b", "Equals", "1"), "c"),
        (("Tags.team", "Equals", "rl"), "a"),
        (("Tags.team", "NotExists"), "c"),
        (("CreationTime", "GreaterThan", "1970-01-01T00:02:30"), "bc"),
        (("ResourceConfig.InstanceCount", "Equals", "1"), "abc"),
        (("EnableNetworkIsolation", "Equals", "false"), "abc"),
        (("InputDataConfig.ChannelName", "Equals", "test"), "c"),
        (("FailureReason", "Exists"), ""),
        (("InputDataConfig", "Exists"), "c"),
    ],
)
def test_a_filter_finds_what_it_says(jobs, filter_, expected):
    assert found_by(jobs, SearchExpression={"Filters": [condition(*filter_)]}) == expected


def test_expressions_are_joined_nested_and_negated_by_their_operators(jobs):
    team, loss = condition("Tags.team", "Exists"), condition("Metrics.loss", "GreaterThan", "0.5")
    assert found_by(jobs, SearchExpression={"Filters": [team, loss]}) == "a"
    assert found_by(jobs, SearchExpression={"Filters": [team, loss], "Operator": "Or"}) == "ab"
    inner = [{"Filters": [loss]}, {"Filters": [condition("TrainingJobName", "Equals", "job-c")]}]
    assert found_by(jobs, SearchExpression={"SubExpressions": inner, "Operator": "Or"}) == "ac"
    assert found_by(jobs, SearchExpression={"SubExpressions": inner}) == ""
    assert found_by(jobs) == "abc"


def test_a_nested_filter_wants_a_single_entry_that_all_of_it_is_true_of(jobs):
    uri = "InputDataConfig.DataSource.S3DataSource.S3Uri"
    for channel, expected in (("train", "c"), ("test", "")):
        filters = [condition("InputDataConfig.ChannelName", "Equals", channel), condition(uri, "Contains", "logs/one")]
        nested = [{"NestedPropertyName": "InputDataConfig", "Filters": filters}]
        assert found_by(jobs, SearchExpression={"NestedFilters": nested}) == expected


def test_a_changed_tag_is_found_and_visibility_leaves_out_other_values(jobs):
    jobs.add_tags(ResourceArn=TRAINING_JOBS.arn("job-c"), Tags=[{"Key": "team", "Value": "rl"}])
    assert found_by(jobs, SearchExpression={"Filters": [condition("Tags.team", "Equals", "rl")]}) == "ac"
    jobs.delete_tags(ResourceArn=TRAINING_JOBS.arn("job-c"), TagKeys=["team"])
    assert found_by(jobs, VisibilityConditions=[{"Key": "Tags.team", "Value": "rl"}]) == "ac"


def test_hits_are_sorted_counted_and_paged(jobs):
    def names(**request):
        pages = jobs.get_paginator("search").paginate(
            Resource="TrainingJob", **request, PaginationConfig={"PageSize": 1}
        )
        return "".join(page["Results"][0]["TrainingJob"]["TrainingJobName"][-1] for page in pages)

    assert names(SortBy="Metrics.loss", SortOrder="Ascending") == "cba"
    assert names(SortBy="TrainingJobName") == "cba"
    assert sorted(names()) == ["a", "b", "c"]
    assert jobs.search(Resource="TrainingJob", MaxResults=1)["TotalHits"] == {"Value": 3, "Relation": "EqualTo"}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ({}, "SearchExpression is empty."),
        ({"Filters": [condition("Nonsense", "Exists")]}, "Unknown property name: Nonsense."),
        ({"Filters": [condition("TrainingJobName.x", "Exists")]}, "Unknown property name: TrainingJobName.x."),
        ({"Filters": [condition("TrainingJobName", "LessThan", "a")]}, "LessThan is not supported for text"),
        (
            {"Filters": [condition("Metrics.loss", "LessThan", "a")]},
            "'Metrics.loss' is compared with 'a', which is no number",
        ),
        (
            {"Filters": [condition("CreationTime", "LessThan", "a")]},
            "'CreationTime' is compared with 'a', which is no time",
        ),
        ({"Filters": [condition("Metrics.loss", "Contains", "1")]}, "Contains is only supported for text"),
        ({"Filters": [condition("TrainingJobName", "Equals")]}, "the filter of 'TrainingJobName' has no Value"),
        ({"Filters": [condition("ResourceConfig", "Equals", "1")]}, "'ResourceConfig' is no property with a value"),
        ({"Filters": [condition("RoleArn", "Contains", "a")] * 2}, "'CONTAINS' operator usage limit of 1 exceeded."),
        (
            {"NestedFilters": [{"NestedPropertyName": "RoleArn", "Filters": [condition("RoleArn.x", "Exists")]}]},
            "NestedPropertyName 'RoleArn' is no list",
        ),
        (
            {"NestedFilters": [{"NestedPropertyName": "InputDataConfig", "Filters": [condition("RoleArn", "Exists")]}]},
            "the filter of 'RoleArn' is not below InputDataConfig",
        ),
        (
            {"SubExpressions": [{"Filters": [condition("RoleArn", "Exists")] * 20}] * 3},
            "SearchExpression has 63 elements, more than 50.",
        ),
    ],
)
def test_an_expression_that_means_nothing_is_refused(jobs, expression, words):
    code, message = refused(jobs.search, Resource="TrainingJob", SearchExpression=expression)
    assert code == "ValidationException"
    assert message.startswith(words)


def test_what_cannot_be_searched_for_says_what_can(jobs):
    assert refused(jobs.search, Resource="Pipeline")[1].startswith("Resource=Pipeline is not emulated.")
    message = refused(jobs.search, Resource="TrainingJob", CrossAccountFilterOption="CrossAccount")[1]
    assert message.startswith("CrossAccountFilterOption='CrossAccount' is not emulated.")


def test_a_document_that_is_nested_without_end_is_refused(home):
    expression = {}
    for _ in range(5000):
        expression = {"SubExpressions": [expression]}
    with pytest.raises(AwsError) as caught:
        answer("Search", {"Resource": "TrainingJob", "SearchExpression": expression}, home)
    assert caught.value.code == "SerializationException"
