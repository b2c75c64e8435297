"""Where the documents of models and endpoints go: the seam between this machine and AWS.

The documents are the same. A place answers ``ask`` as AWS does, and says what the two do in different ways.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.endpoints import service
from launcher.errors import EndpointFailedError, NotFoundError
from launcher.jobs.store import EndpointConfigStore, EndpointStore, ModelStore, Store
from launcher.requests.endpoints import config_request, describe_config, describe_endpoint
from launcher.requests.for_aws import as_request
from launcher.requests.models import describe_model
from launcher.sdk.runtime_client import RemoteRuntimeClient, RuntimeClient
from launcher.serving.models import create_model
from launcher.settings import home_path

if TYPE_CHECKING:
    from launcher.sdk.aws_documents import AwsDocuments

_HERE: Mapping[str, Callable[[Mapping[str, Any], Path], object]] = {
    "CreateModel": lambda request, home: create_model(request, ModelStore(home)),
    "DescribeModel": lambda request, home: describe_model(ModelStore(home).load(request["ModelName"])),
    "DeleteModel": lambda request, home: ModelStore(home).remove(request["ModelName"]),
    "CreateEndpointConfig": service.create_config,
    "DescribeEndpointConfig": lambda request, home: describe_config(
        EndpointConfigStore(home).load(request["EndpointConfigName"])
    ),
    "DeleteEndpointConfig": lambda request, home: EndpointConfigStore(home).remove(request["EndpointConfigName"]),
    "CreateEndpoint": service.create_endpoint,
    "DescribeEndpoint": lambda request, home: describe_endpoint(
        service.describe(EndpointStore(home), request["EndpointName"])
    ),
    "DeleteEndpoint": lambda request, home: service.delete_endpoint(request["EndpointName"], home),
}
_POLL_SECONDS, _NEAR_POLL_SECONDS = 10.0, 0.2
_UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


class ServingHere:
    """Models and endpoints of this machine."""

    @property
    def _home(self) -> Path:
        return home_path()

    def shown(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document as it goes to the place; nothing is sent."""
        return dict(request)

    def ask(self, operation: str, **request: Any) -> Any:
        """Have an operation done.

        Args:
            operation: on a model, an endpoint or its configuration, such as ``CreateModel``.
            request: its document.
        Raises:
            BadInputError: it cannot be done; TakenError and NotFoundError are such.
        """
        return _HERE[operation](request, self._home)

    def has(self, noun: str, name: str) -> bool:
        """Return whether there is a ``Model``, ``Endpoint`` or ``EndpointConfig`` of this name."""
        home = self._home
        stores: dict[str, Store[Any]] = {
            "Model": ModelStore(home),
            "Endpoint": EndpointStore(home),
            "EndpointConfig": EndpointConfigStore(home),
        }
        return stores[noun].folder(name).record_path.exists()

    def config_of(self, endpoint_name: str) -> dict[str, Any]:
        """Return the CreateEndpointConfig document of what an endpoint serves.

        Raises:
            NotFoundError: there is no such endpoint.
        """
        return config_request(EndpointStore(self._home).load(endpoint_name).current.config)

    def update(self, endpoint_name: str, config_name: str) -> str:
        """Ask for an endpoint to serve another configuration; return what ``wait`` takes.

        Raises:
            BadInputError: it cannot be updated so, or not now.
        """
        request = {"EndpointName": endpoint_name, "EndpointConfigName": config_name}
        return service.update_endpoint(request, self._home)

    def wait(self, endpoint_name: str, update: str = "") -> dict[str, Any]:
        """Wait until an endpoint answers, or an update of it is over; return what DescribeEndpoint answers.

        Args:
            update: what ``update`` returned.
        Raises:
            EndpointFailedError: it failed, or the update was given up.
            NotFoundError: there is none.
        """
        return describe_endpoint(service.wait_in_service(EndpointStore(self._home), endpoint_name, update))

    def runtime_client(self) -> RuntimeClient:
        """Return what asks endpoints."""
        return RuntimeClient(self._home)


class ServingOnAws(ServingHere):
    """Models and endpoints of AWS, or of a server in its place.

    Args:
        documents: what sends them.
    """

    def __init__(self, documents: AwsDocuments) -> None:
        self._documents = documents

    def shown(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document as AWS takes it, with the objects that files of this machine would be."""
        return dict(self._documents.prepared(operation, request).request)

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Send a document; what is made has its model uploaded before.

        Raises:
            TakenError, NotFoundError: there is one of that name, or none.
            RemoteRequestError: AWS refused it.
        """
        send = self._documents.send if operation.startswith("Create") else self._documents.ask
        return send(operation, request)

    def has(self, noun: str, name: str) -> bool:
        """Return whether AWS has a ``Model``, ``Endpoint`` or ``EndpointConfig`` of this name."""
        try:
            self.ask(f"Describe{noun}", **{f"{noun}Name": name})
        except NotFoundError:
            return False
        return True

    def config_of(self, endpoint_name: str) -> dict[str, Any]:
        """Return the CreateEndpointConfig document of the configuration that an endpoint has."""
        name = self.ask("DescribeEndpoint", EndpointName=endpoint_name)["EndpointConfigName"]
        return as_request("CreateEndpointConfig", self.ask("DescribeEndpointConfig", EndpointConfigName=name))

    def update(self, endpoint_name: str, config_name: str) -> str:
        """Ask for an endpoint to serve another configuration; return its name, which ``wait`` takes."""
        self.ask("UpdateEndpoint", EndpointName=endpoint_name, EndpointConfigName=config_name)
        return config_name

    def wait(self, endpoint_name: str, update: str = "") -> dict[str, Any]:
        """Wait as for an endpoint of this machine; AWS takes minutes."""
        place = self._documents.client.place
        while True:
            described = self.ask("DescribeEndpoint", EndpointName=endpoint_name)
            if described["EndpointStatus"] not in _UNDER_WAY:
                break
            time.sleep(_NEAR_POLL_SECONDS if place.is_near else _POLL_SECONDS)
        event = "" if described["EndpointStatus"] == "InService" else f"is {described['EndpointStatus']}"
        if not event and update and described["EndpointConfigName"] != update:
            event = "could not be updated, and answers as before"
        if event:
            reason = described.get("FailureReason", "")
            raise EndpointFailedError(
                f"endpoint '{endpoint_name}' at {place.title} {event}: {reason}",
                f"Its logs are in CloudWatch: /aws/sagemaker/Endpoints/{endpoint_name}",
            )
        return described

    def runtime_client(self) -> RuntimeClient:
        """Return what asks endpoints there."""
        return RemoteRuntimeClient(self._documents.client)
