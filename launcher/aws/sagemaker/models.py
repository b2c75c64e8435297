"""Models: created, described, listed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.aws.sagemaker.documents import Document
from launcher.aws.sagemaker.listing import list_page
from launcher.aws.sagemaker.records import load, with_s3
from launcher.jobs.kinds import MODELS
from launcher.jobs.store import ModelStore
from launcher.jobs.summaries import summaries
from launcher.requests.models import describe_model, summarize_model
from launcher.serving.models import create_model


def create(document: Document, home: Path) -> dict[str, Any]:
    """Record a model."""
    model = create_model(with_s3(document), ModelStore(home), warnings=document.warnings)
    return {"ModelArn": MODELS.arn(model.model_name)}


def describe(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return the model as it was accepted."""
    return describe_model(load(ModelStore(home), document["ModelName"]))


def list_models(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a page of the models."""
    cut = list_page(document, summaries(ModelStore(home), summarize_model))
    return cut.answer("Models", [dict(model.values) for model in cut.entries])


def delete(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Remove a model's record; its data stay, and what was made of it goes on."""
    store = ModelStore(home)
    load(store, document["ModelName"])
    store.remove(document["ModelName"])
    return {}
