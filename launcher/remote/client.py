"""The wire: requests of SageMaker and CloudWatch Logs to a place, and its buckets; the answers are boto3's own."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.errors import RemoteRequestError
from launcher.storage import BucketStorage

if TYPE_CHECKING:
    from launcher.remote.place import Place

_HOST = re.compile(r"(algo-\d+)")
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
"""The statuses of a job that has ended."""


@dataclass(frozen=True)
class JobKind:
    """How a kind of job is named in SageMaker's operations and members.

    Attributes:
        noun: as in ``CreateTrainingJob`` and ``TrainingJobStatus``.
        log_group: the group of its hosts' logs; empty where it has none of its own.
    """

    noun: str
    log_group: str = ""


TRAINING = JobKind("TrainingJob", "/aws/sagemaker/TrainingJobs")
PROCESSING = JobKind("ProcessingJob", "/aws/sagemaker/ProcessingJobs")
TRANSFORM = JobKind("TransformJob", "/aws/sagemaker/TransformJobs")
TUNING = JobKind("HyperParameterTuningJob")
KINDS = (TRAINING, PROCESSING, TRANSFORM, TUNING)


class WireClient:
    """Asks one place for jobs: submit, describe, list, stop, read logs, and use its buckets.

    Clients of boto3 are made when they are first needed, and are shared by threads.

    Args:
        place: where requests go.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._clients: dict[str, Any] = {}
        self._storage: BucketStorage | None = None
        self._lock = threading.Lock()

    @property
    def storage(self) -> BucketStorage:
        """The buckets of the place."""
        with self._lock:
            if self._storage is None:
                self._storage = self.place.storage()
            return self._storage

    def ask(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Make one request of any service; return the answer without boto3's own metadata.

        Args:
            service: as boto3 names it: ``sagemaker``, ``logs``.
            operation: as AWS names it: ``CreateTrainingJob``.
        Raises:
            RemoteRequestError: boto3's model refuses the request, the place does, or nothing answered.
        """
        from launcher.storage.boto_session import CLIENT_ERRORS, method_name

        client = self._client(service)
        try:
            answer: dict[str, Any] = getattr(client, method_name(operation))(**request)
        except CLIENT_ERRORS as error:
            raise self._fault(operation, error) from error
        answer.pop("ResponseMetadata", None)
        return answer

    def submit(self, request: Mapping[str, Any], kind: JobKind = TRAINING) -> str:
        """Ask for a job; return its ARN.

        Args:
            request: of the kind's Create operation, without a member of the launcher's own.
        Raises:
            RemoteRequestError: it was refused; there is no such job.
        """
        return str(self.ask("sagemaker", f"Create{kind.noun}", **request)[f"{kind.noun}Arn"])

    def describe(self, name: str, kind: JobKind = TRAINING) -> dict[str, Any]:
        """Return what the kind's Describe operation answers.

        Raises:
            RemoteRequestError: there is no such job.
        """
        return self.ask("sagemaker", f"Describe{kind.noun}", **{f"{kind.noun}Name": name})

    def stop(self, name: str, kind: JobKind = TRAINING) -> None:
        """Have a job stopped; returns at once. One that has ended stays as it is.

        Raises:
            RemoteRequestError: there is no such job, or it may not be stopped.
        """
        try:
            self.ask("sagemaker", f"Stop{kind.noun}", **{f"{kind.noun}Name": name})
        except RemoteRequestError:
            # It may have ended meanwhile, which AWS refuses as a bad request.
            if self.describe(name, kind)[f"{kind.noun}Status"] not in TERMINAL:
                raise

    def summaries(self, kind: JobKind = TRAINING, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield the summaries of jobs, the newest first, a request for each page.

        Args:
            filters: members of the kind's List operation, such as ``NameContains`` and ``StatusEquals``.
        """
        page = {"SortBy": "CreationTime", "SortOrder": "Descending", **filters}
        while True:
            answer = self.ask("sagemaker", f"List{kind.noun}s", **page)
            yield from next(value for name, value in answer.items() if name.endswith("Summaries"))
            if not answer.get("NextToken"):
                return
            page["NextToken"] = answer["NextToken"]

    def log_streams(self, name: str, kind: JobKind = TRAINING) -> dict[str, str]:
        """Return the host of each log stream that a job has so far, by the stream's name; none before it runs."""
        streams: dict[str, str] = {}
        page: dict[str, Any] = {"logGroupName": kind.log_group, "logStreamNamePrefix": f"{name}/"}
        while True:
            try:
                answer = self.ask("logs", "DescribeLogStreams", **page)
            except RemoteRequestError as error:
                if error.aws_code == "ResourceNotFoundException":
                    return {}  # the group is made with its first stream
                raise
            for stream in answer["logStreams"]:
                host = _HOST.search(stream["logStreamName"].removeprefix(f"{name}/"))
                streams[stream["logStreamName"]] = host[1] if host else "algo-1"
            if not answer.get("nextToken"):
                return streams
            page["nextToken"] = answer["nextToken"]

    def log_events(self, stream: str, token: str = "", kind: JobKind = TRAINING) -> tuple[list[dict[str, Any]], str]:
        """Return the events of a log stream after a token, in their order, and the token after them.

        Args:
            token: of an earlier answer; empty begins with the first event. The same token comes back at the end.
        """
        page: dict[str, Any] = {"logGroupName": kind.log_group, "logStreamName": stream, "startFromHead": True}
        answer = self.ask("logs", "GetLogEvents", **page, **({"nextToken": token} if token else {}))
        return list(answer["events"]), str(answer["nextForwardToken"])

    def _client(self, service: str) -> Any:
        from launcher.storage.boto_session import CLIENT_ERRORS, make_client  # dear to load, and few jobs go elsewhere

        with self._lock:
            if service not in self._clients:
                place = self.place
                try:
                    self._clients[service] = make_client(
                        service,
                        endpoint_url=place.endpoint_of(service),
                        region=place.region,
                        profile=place.profile,
                        keys=(place.access_key, place.secret_key),
                    )
                except CLIENT_ERRORS as error:
                    raise self._fault("The first request", error) from error
            return self._clients[service]

    def _fault(self, operation: str, error: BaseException) -> RemoteRequestError:
        """Return an error of boto3 as one of the launcher's."""
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            code = str(answer.get("Error", {}).get("Code", ""))
            text = str(answer.get("Error", {}).get("Message", ""))
            status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return RemoteRequestError(
                f"{operation} at {self.place.title} was refused: {code}: {text}", _hint(code), code=code, status=status
            )
        code = type(error).__name__
        return RemoteRequestError(f"{operation} at {self.place.title} failed: {error}", _hint(code), code=code)


def is_missing(error: RemoteRequestError) -> bool:
    """Return whether AWS said that it has nothing of this name; each of its operations has words of its own."""
    says_so = "not found" in error.message or "Could not find" in error.message
    return error.aws_code == "ResourceNotFound" or (error.aws_code == "ValidationException" and says_so)


def _hint(code: str) -> str:
    """Return what to do about an error code of AWS, or a kind of error of boto3."""
    if "AccessDenied" in code or code == "UnauthorizedOperation":
        return "The credentials have no permission for this; who you are there: aws sts get-caller-identity"
    if code.startswith("Expired"):
        return "The credentials have expired: get new ones, for example with: aws sso login"
    if code in ("NoCredentialsError", "PartialCredentialsError", "UnrecognizedClientException", "InvalidClientTokenId"):
        return "Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile: export AWS_PROFILE=NAME"
    if code == "ResourceLimitExceeded":
        return "A quota of the account: see Service Quotas, or choose another instance type."
    if code in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"):
        return "Check the network and the region, then try again."
    return ""
