"""AWS Batch's operations on service jobs: training jobs that wait in queues for capacity."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from launcher.aws.checking import check_document
from launcher.aws.errors import AwsError, aws_error
from launcher.aws.sagemaker.documents import Document, read_document
from launcher.aws.sagemaker.records import with_s3
from launcher.batch_queues.process import ensure_scheduler
from launcher.batch_queues.scheduler import training_job_name
from launcher.errors import BadInputError, LauncherError
from launcher.jobs.batch import FAILED, WAITING, Attempt, BatchHome, ServiceJobRecord
from launcher.jobs.record import Record
from launcher.jobs.store import Store
from launcher.running.accepting import accept
from launcher.settings import training_job_arn

_Record = TypeVar("_Record", bound=Record)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SHARE = re.compile(r"[A-Za-z0-9]{1,255}")
_SHARE_OF_POLICY = re.compile(r"[A-Za-z0-9]{1,254}\*?|[A-Za-z0-9]{255}|\*")
_TOKENS = uuid.UUID("6f2a0f0e-6a43-5c55-9d0c-5f9a4d5f6e10")  # ids of service jobs follow from client tokens
_UNIT = "NUM_INSTANCES"
_NOT_EMULATED = (
    "computeEnvironmentOrder",
    "jobStateTimeLimitActions",
    "preemptionConfiguration",
    "quotaSharePolicy",
    "quotaShareName",
)
_FILTERS = ("JOB_NAME", "SHARE_IDENTIFIER", "BEFORE_CREATED_AT", "AFTER_CREATED_AT")
_PAGE = 100
_MIN_TIMEOUT_SECONDS = 60
_MAX_PRIORITY = 9999


def create_service_environment(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Record a service environment: so many instances run in it at once."""
    spec = _read("CreateServiceEnvironment", document)
    name = _checked_name(spec["serviceEnvironmentName"], "serviceEnvironmentName")
    _check_capacity(spec["capacityLimits"])
    arn = _create(BatchHome(home), BatchHome(home).environments, name, {"state": "ENABLED", **spec})
    return {"serviceEnvironmentName": name, "serviceEnvironmentArn": arn}


def describe_service_environments(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return service environments, by name or ARN, or all of them."""
    spec = _read("DescribeServiceEnvironments", document)
    store = BatchHome(home).environments
    entries = [
        {**record.spec, "serviceEnvironmentArn": store.kind.arn(name), "status": "VALID"}
        for name, record in _named(store, spec.get("serviceEnvironments"))
    ]
    return _page(spec, entries, "serviceEnvironments")


def update_service_environment(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Change the state or the capacity of a service environment; what runs goes on."""
    spec = _read("UpdateServiceEnvironment", document)
    if "capacityLimits" in spec:
        _check_capacity(spec["capacityLimits"])
    name, arn = _update(BatchHome(home), BatchHome(home).environments, spec, "serviceEnvironment")
    ensure_scheduler(home)
    return {"serviceEnvironmentName": name, "serviceEnvironmentArn": arn}


def delete_service_environment(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove a service environment that is disabled and that no queue uses; as AWS, without a word if there is none."""
    spec = _read("DeleteServiceEnvironment", document)
    batch = BatchHome(home)
    with batch.changing():
        name = _name_of(batch.environments, spec["serviceEnvironment"])
        users = [
            queue
            for queue, record in batch.queues.records()[0]
            if name in _environments(batch, record.spec["serviceEnvironmentOrder"])
        ]
        _remove(batch.environments, name, users, "job queue")
    return {}


def create_scheduling_policy(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Record a scheduling policy: the weights of shares."""
    spec = _read("CreateSchedulingPolicy", document)
    name = _checked_name(spec["name"], "name")
    _check_shares(spec.get("fairsharePolicy", {}))
    arn = _create(BatchHome(home), BatchHome(home).policies, name, {"fairsharePolicy": {}, **spec})
    return {"name": name, "arn": arn}


def describe_scheduling_policies(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return scheduling policies by their ARNs."""
    spec = _read("DescribeSchedulingPolicies", document)
    store = BatchHome(home).policies
    entries = [{**record.spec, "arn": store.kind.arn(name)} for name, record in _named(store, spec["arns"])]
    return {"schedulingPolicies": entries}


def list_scheduling_policies(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the ARNs of the scheduling policies."""
    spec = _read("ListSchedulingPolicies", document)
    store = BatchHome(home).policies
    return _page(spec, [{"arn": store.kind.arn(name)} for name in store.names()], "schedulingPolicies")


def update_scheduling_policy(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Change the weights of shares."""
    spec = _read("UpdateSchedulingPolicy", document)
    _check_shares(spec.get("fairsharePolicy", {}))
    _update(BatchHome(home), BatchHome(home).policies, spec, "arn")
    return {}


def delete_scheduling_policy(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove a scheduling policy that no queue uses."""
    spec = _read("DeleteSchedulingPolicy", document)
    batch = BatchHome(home)
    with batch.changing():
        name = _name_of(batch.policies, spec["arn"])
        arn = batch.policies.kind.arn(name)
        users = [
            queue for queue, record in batch.queues.records()[0] if record.spec.get("schedulingPolicyArn", "") == arn
        ]
        _remove(batch.policies, name, users, "job queue")
    return {}


def create_job_queue(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Record a queue of service jobs."""
    spec = _read("CreateJobQueue", document)
    name = _checked_name(spec["jobQueueName"], "jobQueueName")
    if spec.get("jobQueueType") != "SAGEMAKER_TRAINING":
        raise _refused("jobQueueType: the local AWS has queues of SAGEMAKER_TRAINING only.")
    if not spec.get("serviceEnvironmentOrder"):
        raise _refused("serviceEnvironmentOrder must name a service environment.")
    _check_number(spec["priority"], "priority", 0, None)
    batch = BatchHome(home)
    _check_references(batch, spec)
    return {"jobQueueName": name, "jobQueueArn": _create(batch, batch.queues, name, {"state": "ENABLED", **spec})}


def describe_job_queues(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return job queues, by name or ARN, or all of them."""
    spec = _read("DescribeJobQueues", document)
    store = BatchHome(home).queues
    entries = [
        {**record.spec, "jobQueueArn": store.kind.arn(name), "status": "VALID", "computeEnvironmentOrder": []}
        for name, record in _named(store, spec.get("jobQueues"))
    ]
    return _page(spec, entries, "jobQueues")


def update_job_queue(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Change a queue; a disabled one takes no further service jobs, and those that are in it go on."""
    spec = _read("UpdateJobQueue", document)
    batch = BatchHome(home)
    if "priority" in spec:
        _check_number(spec["priority"], "priority", 0, None)
    if "serviceEnvironmentOrder" in spec and not spec["serviceEnvironmentOrder"]:
        raise _refused("serviceEnvironmentOrder must name a service environment.")
    _check_references(batch, spec)
    queue = _load(batch.queues, spec["jobQueue"])[1]
    if "schedulingPolicyArn" in spec and not queue.spec.get("schedulingPolicyArn"):
        raise _refused("A queue without a scheduling policy cannot be given one: make another queue.")
    name, arn = _update(batch, batch.queues, spec, "jobQueue")
    ensure_scheduler(home)
    return {"jobQueueName": name, "jobQueueArn": arn}


def delete_job_queue(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove a queue that is disabled, and end every service job that is in it."""
    spec = _read("DeleteJobQueue", document)
    batch = BatchHome(home)
    with batch.changing():
        name = _name_of(batch.queues, spec["jobQueue"])
        _remove(batch.queues, name, (), "")
        for job, record in batch.jobs.records()[0]:
            if record.spec["jobQueue"] == name and not record.terminal:
                _terminate(batch, job, record, "Its job queue was deleted")
    ensure_scheduler(home)
    return {}


def submit_service_job(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Put a training job into a queue; the same client token gives the same service job."""
    spec = _read("SubmitServiceJob", document)
    batch = BatchHome(home)
    _checked_name(spec["jobName"], "jobName")
    token = spec.pop("clientToken", "")
    job = str(uuid.uuid5(_TOKENS, token) if token else uuid.uuid4())
    _check_strategies(spec)
    payload = _payload(spec, job)
    with batch.changing():
        queue, queue_record = _load(batch.queues, spec["jobQueue"])
        spec["jobQueue"] = queue
        answer = {"jobArn": batch.jobs.kind.arn(job), "jobName": spec["jobName"], "jobId": job}
        if batch.jobs.folder(job).record_path.exists():
            earlier = batch.jobs.load(job).spec
            if any(earlier[member] != spec[member] for member in ("jobName", "jobQueue", "serviceRequestPayload")):
                raise _refused("The clientToken was used for another request.")
            return answer
        if queue_record.spec["state"] != "ENABLED":
            raise _refused(f"{batch.queues.kind.arn(queue)} is disabled.")
        _check_share(spec, queue_record)
        record = ServiceJobRecord(
            spec=spec, created=time.time(), request=with_s3(payload), warnings=list(payload.warnings)
        )
        batch.jobs.create(job, record)
    ensure_scheduler(home)
    return answer


def describe_service_job(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return what is known of a service job, by its id or ARN."""
    spec = _read("DescribeServiceJob", document)
    batch = BatchHome(home)
    job, record = _load(batch.jobs, spec["jobId"])
    if not record.terminal:
        ensure_scheduler(home)
    answer = {name: value for name, value in record.spec.items() if name not in ("jobName", "jobQueue")}
    answer.setdefault("retryStrategy", {"attempts": 1})
    attempts = [_attempt(attempt) for attempt in record.attempts]
    return {
        **answer,
        **_summary(batch, job, record),
        "jobQueue": batch.queues.kind.arn(record.spec["jobQueue"]),
        "attempts": [attempt for attempt, entry in zip(attempts, record.attempts, strict=True) if entry.ended],
    }


def list_service_jobs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of a queue's service jobs, the newest first: those that run, unless a filter says otherwise."""
    spec = _read("ListServiceJobs", document)
    batch = BatchHome(home)
    if "jobQueue" not in spec:
        raise _refused("jobQueue must be given.")
    queue, _ = _load(batch.queues, spec["jobQueue"])
    filters = spec.get("filters", [])
    tests = [_test(entry) for entry in filters]
    status = spec.get("jobStatus", "RUNNING")
    if any(entry.get("name") != "SHARE_IDENTIFIER" for entry in filters):
        status = ""  # as AWS has it: such filters take every status
    jobs = [(job, record) for job, record in batch.jobs.records()[0] if record.spec["jobQueue"] == queue]
    if any(not record.terminal for _, record in jobs):
        ensure_scheduler(home)
    entries = [
        _summary(batch, job, record)
        for job, record in reversed(jobs)
        if status in ("", record.status) and all(test(record) for test in tests)
    ]
    return _page(spec, entries, "jobSummaryList")


def update_service_job(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Change the priority of a service job that waits."""
    spec = _read("UpdateServiceJob", document)
    _check_number(spec["schedulingPriority"], "schedulingPriority", 0, _MAX_PRIORITY)
    batch = BatchHome(home)
    with batch.changing():
        job, record = _load(batch.jobs, spec["jobId"])
        if record.status not in WAITING:
            raise _refused(f"The service job is {record.status}: its priority changes nothing any more.")
        record.spec["schedulingPriority"] = spec["schedulingPriority"]
        batch.jobs.save(job, record)
    return {"jobArn": batch.jobs.kind.arn(job), "jobName": record.spec["jobName"], "jobId": job}


def terminate_service_job(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """End a service job: one that waits at once, one that runs by a stop of its training job."""
    spec = _read("TerminateServiceJob", document)
    batch = BatchHome(home)
    with batch.changing():
        job, record = _load(batch.jobs, spec["jobId"])
        if record.terminal:
            return {}
        _terminate(batch, job, record, spec["reason"])
    ensure_scheduler(home)
    return {}


def list_tags(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the tags of anything of AWS Batch, by its ARN."""
    spec = _read("ListTagsForResource", document)
    store = _store_of(BatchHome(home), spec["resourceArn"])
    return {"tags": _load(store, spec["resourceArn"])[1].spec.get("tags", {})}


def add_tags(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Add tags to anything of AWS Batch, by its ARN."""
    spec = _read("TagResource", document)
    return _change_tags(home, spec["resourceArn"], lambda tags: {**tags, **spec["tags"]})


def remove_tags(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove tags by their keys."""
    spec = _read("UntagResource", document)
    removed = set(spec["tagKeys"])
    return _change_tags(
        home, spec["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in removed}
    )


def _read(operation: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request in the model's types.

    Raises:
        AwsError: it breaks the model's limits, or has a member that is not emulated.
    """
    name = f"batch:{operation}"
    spec = read_document(name, document)
    check_document(spec, name, "ClientException")
    for member in (*spec.ignored, *(member for member in _NOT_EMULATED if spec.get(member))):
        raise _refused(f"{member} is not emulated by the local AWS.")
    tags = spec.get("tags", {})
    if len(tags) > 50:
        raise _refused("tags: at most 50 are allowed.")
    return dict(spec)


def _refused(words: str) -> AwsError:
    return AwsError("ClientException", words)


def _checked_name(name: str, member: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refused(
            f"{member} should match valid pattern: up to 128 letters (uppercase and lowercase), numbers, hyphens, and "
            "underscores; it must begin with a letter or number."
        )
    return name


def _check_number(value: int, member: str, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        raise _refused(f"{member} must be {'at least ' + str(low) if high is None else f'between {low} and {high}'}.")


def _check_capacity(limits: Sequence[Mapping[str, Any]]) -> None:
    if len(limits) != 1 or limits[0].get("capacityUnit") != _UNIT or "maxCapacity" not in limits[0]:
        raise _refused(f"capacityLimits must have exactly one limit, of maxCapacity in capacityUnit {_UNIT}.")
    _check_number(limits[0]["maxCapacity"], "capacityLimits[0].maxCapacity", 1, None)


def _check_shares(policy: Mapping[str, Any]) -> None:
    if policy.get("computeReservation"):
        raise _refused("fairsharePolicy.computeReservation is not emulated by the local AWS.")
    _check_number(policy.get("shareDecaySeconds", 0), "fairsharePolicy.shareDecaySeconds", 0, 604800)
    shares = policy.get("shareDistribution", [])
    names = [share["shareIdentifier"] for share in shares]
    if len(set(names)) < len(names):
        raise _refused("fairsharePolicy.shareDistribution names a share twice.")
    for share in shares:
        if not _SHARE_OF_POLICY.fullmatch(share["shareIdentifier"]):
            raise _refused("shareIdentifier must be of letters and numbers; the last character may be an asterisk.")
        if not 0.0001 <= share.get("weightFactor", 1.0) <= 999.9999:
            raise _refused("weightFactor must be between 0.0001 and 999.9999.")


def _check_references(batch: BatchHome, spec: Mapping[str, Any]) -> None:
    """Refuse a queue whose environments or scheduling policy are not there."""
    order = spec.get("serviceEnvironmentOrder", [])
    if len({entry["order"] for entry in order}) < len(order):
        raise _refused("serviceEnvironmentOrder: each order must be used once.")
    for name in _environments(batch, order):
        _load(batch.environments, name)
    if spec.get("schedulingPolicyArn"):
        _load(batch.policies, spec["schedulingPolicyArn"])


def _environments(batch: BatchHome, order: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_name_of(batch.environments, entry["serviceEnvironment"]) for entry in order]


def _check_strategies(spec: Mapping[str, Any]) -> None:
    strategy = spec.get("retryStrategy", {})
    _check_number(strategy.get("attempts", 1), "retryStrategy.attempts", 1, 10)
    rules = strategy.get("evaluateOnExit", [])
    if len(rules) > 5:
        raise _refused("retryStrategy.evaluateOnExit: at most 5 are allowed.")
    for rule in rules:
        if "action" not in rule or "*" in rule.get("onStatusReason", "")[:-1]:
            raise _refused("evaluateOnExit: an action is needed, and only the last character may be an asterisk.")
    _check_number(spec.get("schedulingPriority", 0), "schedulingPriority", 0, _MAX_PRIORITY)
    timeout = spec.get("timeoutConfig", {}).get("attemptDurationSeconds", _MIN_TIMEOUT_SECONDS)
    _check_number(timeout, "timeoutConfig.attemptDurationSeconds", _MIN_TIMEOUT_SECONDS, None)


def _check_share(spec: Mapping[str, Any], queue: Record) -> None:
    if not queue.spec.get("schedulingPolicyArn"):
        if "shareIdentifier" in spec:
            raise _refused("shareIdentifier must not be given: the job queue has no scheduling policy.")
    elif not _SHARE.fullmatch(spec.get("shareIdentifier", "")):
        raise _refused("shareIdentifier must be given, of letters and numbers: the job queue has a scheduling policy.")


def _payload(spec: Mapping[str, Any], job: str) -> Document:
    """Return the CreateTrainingJob document of a service job, checked.

    Raises:
        AwsError: no training job could be made of it.
    """
    try:
        values = json.loads(spec["serviceRequestPayload"])
        if not isinstance(values, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise _refused("serviceRequestPayload is not a JSON object.") from None
    values.setdefault("TrainingJobName", re.sub(r"[^A-Za-z0-9-]+", "-", spec["jobName"])[:63].strip("-"))
    try:
        payload = read_document("CreateTrainingJob", values)
        request = with_s3(payload)
        accept(request)
        accept({**request, "TrainingJobName": training_job_name(job, request, 1)})
    except AwsError as error:
        raise _refused(f"serviceRequestPayload: {error.message}") from error
    except LauncherError as error:
        raise _refused(f"serviceRequestPayload: {aws_error(error).message}") from error
    return payload


def _create(batch: BatchHome, store: Store[Record], name: str, spec: dict[str, Any]) -> str:
    """Record a thing, and return its ARN."""
    with batch.changing():
        try:
            store.create(name, Record(spec=spec, created=time.time()))
        except BadInputError as error:
            raise _refused(error.message) from error
    return store.kind.arn(name)


def _update(batch: BatchHome, store: Store[Record], changes: dict[str, Any], member: str) -> tuple[str, str]:
    """Change members of a thing that a request names, and return name and ARN."""
    with batch.changing():
        name, record = _load(store, changes.pop(member))
        record.spec.update(changes)
        store.save(name, record)
    return name, store.kind.arn(name)


def _remove(store: Store[Record], name: str, users: Sequence[str], noun: str) -> None:
    if not store.folder(name).record_path.exists():
        return
    if users:
        raise _refused(f"Cannot delete, found existing {noun} relationship: {', '.join(users)}.")
    if store.load(name).spec.get("state", "DISABLED") != "DISABLED":
        raise _refused(f"Cannot delete, resource is not disabled: {store.kind.arn(name)}.")
    store.remove(name)


def _name_of(store: Store[_Record], name_or_arn: str) -> str:
    """Return the name in a name or an ARN.

    Raises:
        AwsError: it is neither of this kind.
    """
    name = name_or_arn.rpartition("/")[2]
    if not _NAME.fullmatch(name) or name_or_arn not in (name, store.kind.arn(name)):
        raise _refused(f"{name_or_arn:.200} is not the name or ARN of a {store.kind.noun} here.")
    return name


def _load(store: Store[_Record], name_or_arn: str) -> tuple[str, _Record]:
    name = _name_of(store, name_or_arn)
    try:
        return name, store.load(name)
    except BadInputError:
        raise _refused(f"{store.kind.arn(name)} does not exist.") from None


def _named(store: Store[Record], names: Sequence[str] | None) -> list[tuple[str, Record]]:
    """Return what is there of these names, or everything."""
    records = store.records()[0]
    if names is None:
        return records
    wanted = {_name_of(store, name) for name in names}
    return [(name, record) for name, record in records if name in wanted]


def _page(spec: Mapping[str, Any], entries: list[dict[str, Any]], member: str) -> dict[str, Any]:
    """Return a page of entries; a token is a place counted from the last entry, so that newer ones do not move it."""
    size = spec.get("maxResults", _PAGE)
    _check_number(size, "maxResults", 1, _PAGE)
    token = spec.get("nextToken", "0")
    if not re.fullmatch(r"-?[0-9]{1,9}", token):
        raise _refused("nextToken is not one that this operation returned.")
    start = min(int(token), len(entries)) if int(token) >= 0 else max(0, len(entries) + int(token))
    page = entries[start : start + size]
    left = len(entries) - start - len(page)
    return {member: page, **({"nextToken": str(-left)} if left > 0 else {})}


def _terminate(batch: BatchHome, job: str, record: ServiceJobRecord, reason: str) -> None:
    record.terminate_reason = record.terminate_reason or reason or "terminated"
    if record.status in WAITING:
        record.end(FAILED, record.terminate_reason, time.time())
    batch.jobs.save(job, record)


def _summary(batch: BatchHome, job: str, record: ServiceJobRecord) -> dict[str, Any]:
    """Return what List and Describe both say of a service job."""
    started = [attempt.started for attempt in record.attempts if attempt.started]
    shown: dict[str, Any] = {
        "jobArn": batch.jobs.kind.arn(job),
        "jobId": job,
        "jobName": record.spec["jobName"],
        "serviceJobType": record.spec["serviceJobType"],
        "status": record.status,
        "createdAt": _milliseconds(record.created),
        "isTerminated": bool(record.terminate_reason),
        "capacityUsage": [{"capacityUnit": _UNIT, "quantity": float(record.instances)}],
    }
    if record.spec.get("shareIdentifier"):
        shown["shareIdentifier"] = record.spec["shareIdentifier"]
    if record.status_reason:
        shown["statusReason"] = record.status_reason
    if record.attempts:
        shown["latestAttempt"] = {"serviceResourceId": _resource(record.attempts[-1])}
        shown["scheduledAt"] = _milliseconds(record.attempts[-1].claimed)
    if started:
        shown["startedAt"] = _milliseconds(started[-1])
    if record.ended is not None:
        shown["stoppedAt"] = _milliseconds(record.ended)
    return shown


def _attempt(attempt: Attempt) -> dict[str, Any]:
    shown: dict[str, Any] = {"serviceResourceId": _resource(attempt)}
    if attempt.started is not None:
        shown["startedAt"] = _milliseconds(attempt.started)
    if attempt.ended is not None:
        shown["stoppedAt"] = _milliseconds(attempt.ended)
    if attempt.reason:
        shown["statusReason"] = attempt.reason
    return shown


def _resource(attempt: Attempt) -> dict[str, str]:
    return {"name": "TrainingJobArn", "value": training_job_arn(attempt.job)}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _test(entry: Mapping[str, Any]) -> Callable[[ServiceJobRecord], bool]:
    """Return what a filter asks of a service job.

    Raises:
        AwsError: there is no such filter, or its values are none.
    """
    name, values = entry.get("name", ""), entry.get("values", [])
    if name not in _FILTERS or not values:
        raise _refused(f"filters: the name must be one of {', '.join(_FILTERS)}, with a value.")
    if name == "JOB_NAME":
        return lambda record: any(_matches(value, record.spec["jobName"]) for value in values)
    if name == "SHARE_IDENTIFIER":
        return lambda record: any(_matches(value, record.spec.get("shareIdentifier", "")) for value in values)
    if len(values) > 1 or not re.fullmatch(r"[0-9]{1,15}", values[0]):
        raise _refused(f"filters: {name} takes a time, in milliseconds since 1970.")
    moment = int(values[0])
    if name == "BEFORE_CREATED_AT":
        return lambda record: _milliseconds(record.created) < moment
    return lambda record: _milliseconds(record.created) > moment


def _matches(pattern: str, text: str) -> bool:
    pattern, text = pattern.lower(), text.lower()
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _store_of(batch: BatchHome, arn: str) -> Store[Any]:
    for store in (batch.environments, batch.queues, batch.policies, batch.jobs):
        if arn == store.kind.arn(arn.rpartition("/")[2]):
            return store
    raise _refused(f"{arn:.200} is not the ARN of a thing of AWS Batch here.")


def _change_tags(home: Path, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, Any]:
    batch = BatchHome(home)
    store = _store_of(batch, arn)
    with batch.changing():
        name, record = _load(store, arn)
        tags = change(record.spec.get("tags", {}))
        if len(tags) > 50:
            raise _refused("tags: at most 50 are allowed.")
        record.spec["tags"] = tags
        store.save(name, record)
    return {}
