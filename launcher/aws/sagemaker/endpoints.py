"""Endpoints and their configurations: created, described, listed, updated, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.listing import list_page
from launcher.aws.sagemaker.records import load, with_s3
from launcher.endpoints import service
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.kinds import ENDPOINT_CONFIGS, ENDPOINTS
from launcher.jobs.record import utc
from launcher.jobs.store import EndpointConfigStore, EndpointStore
from launcher.jobs.summaries import Summary, summaries
from launcher.requests.endpoints import describe_config, describe_endpoint, summarize_config


def create_config(document: Document, home: Path) -> dict[str, Any]:
    """Record a configuration."""
    spec = service.create_config(with_s3(document), home, warnings=document.warnings)
    return {"EndpointConfigArn": ENDPOINT_CONFIGS.arn(spec.config_name)}


def describe_endpoint_config(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the configuration as it was accepted."""
    return describe_config(load(EndpointConfigStore(home), document["EndpointConfigName"]))


def list_configs(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the configurations."""
    cut = list_page(document, summaries(EndpointConfigStore(home), summarize_config))
    return cut.answer("EndpointConfigs", [dict(config.values) for config in cut.entries])


def delete_config(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove a configuration; endpoints that were made of it go on."""
    store = EndpointConfigStore(home)
    load(store, document["EndpointConfigName"])
    store.remove(document["EndpointConfigName"])
    return {}


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record an endpoint, and have a process of its own carry it."""
    name = service.create_endpoint(document, home, warnings=document.warnings)
    return {"EndpointArn": ENDPOINTS.arn(name)}


def describe(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the endpoint as it is now, and have a process carry it."""
    store = EndpointStore(home)
    load(store, document["EndpointName"])
    return describe_endpoint(service.describe(store, document["EndpointName"]))


def list_endpoints(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the endpoints."""
    store = EndpointStore(home)
    endpoints = [_as_it_is_now(store, endpoint) for endpoint in summaries(store, _held)]
    cut = list_page(document, endpoints, status=lambda endpoint: str(endpoint.values["EndpointStatus"]))
    return cut.answer("Endpoints", [dict(endpoint.values) for endpoint in cut.entries])


def update(document: Document, home: Path) -> dict[str, Any]:
    """Order another configuration for an endpoint."""
    load(EndpointStore(home), document["EndpointName"])
    service.update_endpoint(document, home)
    return {"EndpointArn": ENDPOINTS.arn(document["EndpointName"])}


def update_weights_and_capacities(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Order other weights, or other numbers of containers, for variants of an endpoint."""
    load(EndpointStore(home), document["EndpointName"])
    service.update_weights(document, home)
    return {"EndpointArn": ENDPOINTS.arn(document["EndpointName"])}


def delete(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Order the end of an endpoint; it is Deleting until nothing of it is left."""
    load(EndpointStore(home), document["EndpointName"])
    service.order_deletion(document["EndpointName"], home)
    return {}


def _held(record: EndpointRecord) -> dict[str, Any]:
    """Return what the status is worked out from: it depends on more than the record."""
    return {"record": record}


def _as_it_is_now(store: EndpointStore, endpoint: Summary) -> Summary:
    record: EndpointRecord = endpoint.values["record"]
    values = {
        "EndpointName": endpoint.name,
        "EndpointArn": ENDPOINTS.arn(endpoint.name),
        "CreationTime": utc(endpoint.created),
        "LastModifiedTime": utc(endpoint.modified),
        "EndpointStatus": str(service.status_of(store, endpoint.name, record)),
    }
    return endpoint._replace(values=values)
