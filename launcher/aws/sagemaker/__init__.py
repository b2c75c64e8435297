"""SageMaker's operations: a document in, a document out, whatever carries them.

An operation is a function ``(document, home) -> document``. It raises ``AwsError``, or a ``LauncherError`` that
``answer`` turns into one. Its module is loaded when the operation is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from launcher.aws.errors import AwsError, aws_error
from launcher.aws.sagemaker.documents import check_document, read_document
from launcher.errors import LauncherError
from launcher.requests.shapes import is_of_sagemaker

OPERATIONS: Mapping[str, str] = {
    "CreateTrainingJob": "training:create",
    "DescribeTrainingJob": "training:describe",
    "ListTrainingJobs": "training:list_jobs",
    "StopTrainingJob": "training:stop",
    "UpdateTrainingJob": "training:update",
    "DeleteTrainingJob": "training:delete",
    "CreateHyperParameterTuningJob": "tuning:create",
    "DescribeHyperParameterTuningJob": "tuning:describe",
    "ListHyperParameterTuningJobs": "tuning:list_jobs",
    "StopHyperParameterTuningJob": "tuning:stop",
    "DeleteHyperParameterTuningJob": "tuning:delete",
    "ListTrainingJobsForHyperParameterTuningJob": "tuning:list_training_jobs",
    "CreateTransformJob": "transform:create",
    "DescribeTransformJob": "transform:describe",
    "ListTransformJobs": "transform:list_jobs",
    "StopTransformJob": "transform:stop",
    "CreateProcessingJob": "processing:create",
    "DescribeProcessingJob": "processing:describe",
    "ListProcessingJobs": "processing:list_jobs",
    "StopProcessingJob": "processing:stop",
    "DeleteProcessingJob": "processing:delete",
    "CreateModel": "models:create",
    "DescribeModel": "models:describe",
    "ListModels": "models:list_models",
    "DeleteModel": "models:delete",
    "CreateEndpointConfig": "endpoints:create_config",
    "DescribeEndpointConfig": "endpoints:describe_endpoint_config",
    "ListEndpointConfigs": "endpoints:list_configs",
    "DeleteEndpointConfig": "endpoints:delete_config",
    "CreateEndpoint": "endpoints:create",
    "DescribeEndpoint": "endpoints:describe",
    "ListEndpoints": "endpoints:list_endpoints",
    "UpdateEndpoint": "endpoints:update",
    "UpdateEndpointWeightsAndCapacities": "endpoints:update_weights_and_capacities",
    "DeleteEndpoint": "endpoints:delete",
    "AddTags": "tags:add",
    "ListTags": "tags:list_tags",
    "DeleteTags": "tags:delete",
    "Search": "search:search",
}
"""Operation -> ``module:function``; the modules are of this package."""


def answer(operation: str, document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the answer to a request; values are those of JSON, and ``datetime`` for a time.

    Args:
        operation: SageMaker's name for it.
        document: as JSON has it: any types, members that no model has.
        home: ``LAUNCHER_HOME``.
    Raises:
        AwsError: the request is refused.
    """
    place = OPERATIONS.get(operation)
    if place is None:
        raise _not_served(operation)
    module, _, function = place.partition(":")
    try:
        request = read_document(operation, document)
        if not operation.startswith("Create"):  # those check by themselves, because they accept folders as well
            check_document(operation, request)
        result: dict[str, Any] = getattr(import_module(f"{__name__}.{module}"), function)(request, home)
    except LauncherError as error:
        raise aws_error(error) from error
    except RecursionError as error:
        raise AwsError("SerializationException", "The document is nested too deeply.") from error
    return result


def _not_served(operation: str) -> AwsError:
    if not is_of_sagemaker(operation):
        return AwsError("UnknownOperationException", f"SageMaker has no operation {operation!r:.80}.")
    return AwsError(
        "ValidationException",
        f"{operation} is not emulated.\n  Operations that are: {', '.join(sorted(OPERATIONS))}.",
    )
