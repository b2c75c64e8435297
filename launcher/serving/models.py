"""Models by name: made from a CreateModel document, found, and deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher.jobs.model_record import ModelRecord
from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.store import ModelStore
from launcher.requests.models import check_model_request
from launcher.runtimes.images import image_note
from launcher.serving.model_host import check_model_data
from launcher.storage import s3_needed_for


def create_model(request: Mapping[str, Any], store: ModelStore, *, warnings: Sequence[str] = ()) -> ModelSpec:
    """Check a CreateModel document and record the model.

    Args:
        request: as boto3's ``create_model(**request)`` takes it.
        store: the home that the model lives in.
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: it cannot be a model, or its name is used.
        ArtifactError: its data are not there.
    """
    spec = check_model_request(request)
    if spec.s3 is None:
        spec = replace(spec, s3=s3_needed_for([spec.model_uri or ""]))
    store.check_writable()
    store.check_unused(spec.model_name)
    check_model_data(spec)
    notes = [*warnings, *filter(None, [image_note(spec.image_uri)])]
    record = ModelRecord(spec=spec.to_dict(), created=time.time(), request=dict(request), warnings=notes)
    store.create(spec.model_name, record)
    return spec
