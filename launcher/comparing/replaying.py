"""The request of a recorded job as that of a new one, which does the same again."""

from __future__ import annotations

import copy
import json
from typing import Any

from launcher.jobs.record import JobRecord
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import s3_member, training_request

_OWN_NAME = "sagemaker_job_name"


def replay_request(record: JobRecord, job_name: str, runtime: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the CreateTrainingJob document that runs a recorded job again under another name.

    Source and channels are those of the first job, where they are now. Checkpoints go to a place of the new job's
    own, so that it begins where the first began: with none.

    Args:
        record: of the first job.
        job_name: of the new one.
        runtime: default: that which the first ran on.
    Returns:
        The document, and a sentence for each thing in it that is not the first job's.
    """
    spec = record.training_spec
    request = copy.deepcopy(record.request) if record.request else training_request(spec)
    notes = []
    request["TrainingJobName"] = job_name
    hyperparameters = request.get("HyperParameters", {})
    for text in (spec.job_name, json.dumps(spec.job_name)):
        if hyperparameters.get(_OWN_NAME) == text:
            hyperparameters[_OWN_NAME] = text.replace(spec.job_name, job_name)
    if spec.checkpoint_config is not None:
        place = f"{spec.output_uri.rstrip('/')}/{job_name}/checkpoints"
        request["CheckpointConfig"]["S3Uri"] = place
        notes.append(f"checkpoints go to {place}, and none are restored from {spec.checkpoint_config.s3_uri}")
    own = {**request.get(OWN_MEMBER, {}), "Runtime": runtime or record.runtime}
    if spec.s3 is not None:
        own["S3"] = s3_member(spec.s3)
    if own.pop("TuningJobArn", None):
        notes.append("the tuning job that made the first job does not count this one")
    if runtime and runtime != record.runtime:
        notes.append(f"it runs on the {runtime} runtime; the first ran on {record.runtime}")
    request[OWN_MEMBER] = own
    return request, notes
