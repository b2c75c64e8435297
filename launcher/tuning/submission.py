"""From a CreateHyperParameterTuningJob document to a tuning job: checked, planned, recorded. Nothing runs here."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.errors import BadInputError
from launcher.jobs.folder import JobFolder
from launcher.jobs.spec import TrainingJobSpec
from launcher.jobs.store import Claim, JobStore, Store, TuningStore
from launcher.jobs.tuning_record import TuningRecord
from launcher.jobs.tuning_spec import CATEGORICAL, Trial, TuningJobSpec
from launcher.requests.shapes import OWN_MEMBER
from launcher.requests.training import s3_member
from launcher.requests.tuning import check_tuning_request, trial_request
from launcher.running.accepting import accept, plan_job
from launcher.running.plan import RunPlan
from launcher.runtimes import Runtime
from launcher.tuning.sampling import check_strategy, choose_values


@dataclass(frozen=True)
class TuningPlan:
    """What a tuning job would run.

    Attributes:
        spec: with the runtime and the S3 of its training jobs decided.
        samples: a training job of each definition; the others differ in values and name.
        first: their plans.
        warnings: for the user, before it runs.
    """

    spec: TuningJobSpec
    samples: tuple[TrainingJobSpec, ...]
    first: tuple[RunPlan, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        spec = self.spec
        lines = [
            f"tuning job {spec.job_name}",
            f"strategy   {spec.strategy}, seed {spec.seed}",
            f"jobs       {spec.max_jobs}, {spec.max_parallel_jobs} at once",
        ]
        for definition, plan in zip(spec.definitions, self.first, strict=True):
            lines.append(f"objective  {definition.objective.kind} {definition.objective.metric}")
            for entry in definition.ranges:
                ends = f"{entry.text(entry.low)} to {entry.text(entry.high)}, {entry.scaling}"
                shown = ", ".join(entry.values) if entry.kind == CATEGORICAL else ends
                lines.append(f"range      {entry.name}: {shown}")
            lines += ["", *str(plan).splitlines()]
        return "\n".join(lines)


def plan_tuning(
    request: Mapping[str, Any],
    home: Path,
    runtime: Runtime | None = None,
    *,
    source_members: Sequence[list[str] | None] = (),
) -> TuningPlan:
    """Check a document, decide where its training jobs run, and check that they could; writes nothing.

    Args:
        request: as boto3's ``create_hyper_parameter_tuning_job`` takes it, with the member ``Launcher`` or without.
        home: the home it would live in.
        runtime: default: the one that the request names, else ``LAUNCHER_RUNTIME``.
        source_members: for each definition the names in a source archive that the caller is about to upload; None, or
            an empty list for all: they are uploaded.
    Raises:
        BadInputError: it cannot be run as it was written.
    """
    spec = check_tuning_request(request)
    check_strategy(spec.strategy)
    store, jobs = TuningStore(home), JobStore(home)
    store.check_writable()
    store.check_unused(spec.job_name)
    _check_parents(spec, store)
    plans, samples, definitions = [], [], []
    warnings: list[str] = []
    runtime_name = spec.runtime
    for place, definition in enumerate(spec.definitions):
        values = {entry.name: entry.values[0] if entry.values else entry.low for entry in definition.ranges}
        sample = Trial(1, f"{spec.job_name}-000-0", place, values)
        job = accept(trial_request(spec, sample), runtime)
        samples.append(job.spec)
        plans.append(plan_job(job, jobs, source_members=source_members[place] if source_members else None))
        own = {**definition.request[OWN_MEMBER], "Runtime": job.runtime.name}
        if job.spec.s3 is not None:
            own["S3"] = s3_member(job.spec.s3)
        definitions.append(replace(definition, request={**definition.request, OWN_MEMBER: own}))
        warnings += job.warnings
        runtime_name = job.runtime.name
    decided = replace(spec, definitions=tuple(definitions), runtime=runtime_name)
    return TuningPlan(decided, tuple(samples), tuple(plans), tuple(dict.fromkeys(warnings)))


def record_tuning(plan: TuningPlan, request: Mapping[str, Any], claim: Claim[TuningRecord]) -> JobFolder:
    """Record a tuning job that was planned, under a name that the caller holds: from here on it cannot be lost."""
    record = TuningRecord(
        spec=plan.spec.to_dict(),
        created=time.time(),
        request=copy.deepcopy(dict(request)),
        warnings=list(plan.warnings),
    )
    claim.record(record)
    return claim.folder


def submit_tuning(
    request: Mapping[str, Any], home: Path, runtime: Runtime | None = None, *, warnings: Sequence[str] = ()
) -> JobFolder:
    """Check a CreateHyperParameterTuningJob document and record it as a tuning job.

    Args:
        warnings: of the caller's, for the record.
    Raises:
        BadInputError: it cannot be run; nothing has been recorded.
    """
    plan = plan_tuning(request, home, runtime)
    plan = replace(plan, warnings=(*warnings, *plan.warnings))
    with TuningStore(home).claim(plan.spec.job_name) as claim:
        return record_tuning(plan, request, claim)


def parent_results(spec: TuningJobSpec, store: Store[TuningRecord]) -> list[tuple[TuningJobSpec, list[Trial]]]:
    """Return the tuning jobs that one is warm-started from, and their training jobs; a removed one is left out."""
    records = [store.load(name) for name in spec.parents if store.folder(name).record_path.exists()]
    return [(record.tuning_spec, record.trials) for record in records]


def next_values(
    spec: TuningJobSpec, record: TuningRecord, store: Store[TuningRecord]
) -> tuple[int, dict[str, float | str]]:
    """Return the definition's place and the values of the next training job."""
    return choose_values(spec, record.trials, parent_results(spec, store))


def _check_parents(spec: TuningJobSpec, store: Store[TuningRecord]) -> None:
    for name in spec.parents:
        parent = store.load(name)
        if not parent.terminal:
            raise BadInputError(
                f"WarmStartConfig: the parent tuning job '{name}' is {parent.status}.", "Wait for it, or stop it first."
            )
        if spec.warm_start != "IdenticalDataAndAlgorithm":
            continue
        objectives = {definition.objective for definition in parent.tuning_spec.definitions}
        if objectives != {definition.objective for definition in spec.definitions}:
            raise BadInputError(
                f"WarmStartConfig: the parent tuning job '{name}' has another objective.",
                "Use WarmStartType=TransferLearning, or the parent's objective.",
            )
