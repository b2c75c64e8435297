"""How the hosts of a job train together: the SDK's ``distribution``, and the hyperparameters that it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.jobs.spec import TrainingJobSpec

TORCH_DISTRIBUTED = "sagemaker_torch_distributed_enabled"
INSTANCE_TYPE = "sagemaker_instance_type"
GROUPS = "sagemaker_distribution_instance_groups"
HYPERPARAMETERS = frozenset({TORCH_DISTRIBUTED, INSTANCE_TYPE, GROUPS})
"""Those that an estimator sets for it."""

_INSTEAD = "Use {'torch_distributed': {'enabled': True}}, or start the processes in the script."
# Of each other way the hyperparameter by which an image is asked for it.
_OTHERS = {
    "mpi": "sagemaker_mpi_enabled",
    "multi_worker_mirrored_strategy": "sagemaker_multi_worker_mirrored_strategy_enabled",
    "parameter_server": "sagemaker_parameter_server_enabled",
    "pytorchddp": "sagemaker_pytorch_ddp_enabled",
    "pytorchxla": "sagemaker_pytorch_xla_multi_worker_enabled",
    "smdistributed": "sagemaker_distributed_dataparallel_enabled",
}


def distribution_hyperparameters(
    distribution: Mapping[str, Any] | None, owner: str, *, instance_type: str | None, groups: Sequence[str]
) -> dict[str, Any]:
    """Return the hyperparameters that the SDK makes of ``distribution``; none where it asks for nothing.

    Args:
        distribution: as the SDK's estimators of frameworks take it.
        owner: the class that was given it, for errors.
        instance_type: of all hosts; None where they are of several groups.
        groups: the names of the job's instance groups.
    Raises:
        UnsupportedOptionError: another way of training together.
        BadInputError: it is written wrongly.
    """
    given = dict(distribution or {})
    named = given.pop("instance_groups", None)
    for name, value in given.items():
        if name not in (*_OTHERS, "torch_distributed"):
            near = get_close_matches(name, [*_OTHERS, "torch_distributed"], n=1)
            raise BadInputError(
                f"{owner}(distribution={{'{name}': ...}}) is no way of training together.",
                f"Did you mean '{near[0]}'?" if near else _INSTEAD,
            )
        if not isinstance(value, Mapping):
            raise BadInputError(
                f"{owner}(distribution={{'{name}': {value!r:.60}}}) is no dict.",
                f"Write {{'{name}': {{'enabled': True}}}}.",
            )
        if name in _OTHERS and _enables(value):
            raise UnsupportedOptionError(f"{owner}(distribution={{'{name}': ...}}) is not emulated.", _INSTEAD)
    torch = given.get("torch_distributed", {})
    for name in set(torch) - {"enabled"}:
        raise UnsupportedOptionError(
            f"{owner}(distribution={{'torch_distributed': {{'{name}': ...}}}}) is not emulated.", "Leave it out."
        )
    enabled = torch.get("enabled", False)
    if not isinstance(enabled, bool):
        raise BadInputError(
            f"{owner}(distribution={{'torch_distributed': {{'enabled': {enabled!r:.60}}}}}) is neither True nor False.",
            "Write True.",
        )
    names = _group_names(named, groups, owner)
    if not enabled:
        if names:
            raise BadInputError(
                f"{owner}(distribution={{'instance_groups': ...}}) names groups, and no way of training together.",
                _INSTEAD,
            )
        return {}
    if len(groups) > 1 and len(names) != 1:
        raise BadInputError(
            f"{owner}(distribution=...) has to name the one instance group that trains together.",
            "Write {'torch_distributed': {'enabled': True}, 'instance_groups': [group]}.",
        )
    return {
        TORCH_DISTRIBUTED: True,
        **({INSTANCE_TYPE: instance_type} if instance_type is not None else {}),
        **({GROUPS: names} if names else {}),
    }


def _enables(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("enabled")) or any(_enables(inner) for inner in value.values())
    return False


def _group_names(named: Any, groups: Sequence[str], owner: str) -> list[str]:
    if named is not None and not isinstance(named, list | tuple):
        raise BadInputError(
            f"{owner}(distribution={{'instance_groups': {named!r:.60}}}) is no list.", "Give a list of InstanceGroup."
        )
    names = [group if isinstance(group, str) else getattr(group, "instance_group_name", None) for group in named or ()]
    for name in names:
        if name not in groups:
            listed = ", ".join(groups) or "none"
            raise BadInputError(
                f"{owner}(distribution=...) names the instance group {name!r}, and the job's are: {listed}.",
                "Name groups of the estimator's instance_groups.",
            )
    return [str(name) for name in names]


def distribution_of(hyperparameters: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the ``distribution`` that a request's hyperparameters were made of; None where they have none."""
    if not _is_true(hyperparameters.get(TORCH_DISTRIBUTED)):
        return None
    groups = json.loads(hyperparameters.get(GROUPS, "[]"))
    return {"torch_distributed": {"enabled": True}, **({"instance_groups": groups} if groups else {})}


def check_distribution(spec: TrainingJobSpec) -> None:
    """Refuse a way of training together that the bundled image does not start; an image of one's own may.

    Raises:
        UnsupportedOptionError: it is asked for.
        BadInputError: ``torch.distributed`` of an entry point that is no Python program.
    """
    for name, hyperparameter in _OTHERS.items():
        if _is_true(spec.hyperparameters.get(hyperparameter)):
            raise UnsupportedOptionError(
                f"the hyperparameter {hyperparameter}, distribution={{'{name}': ...}}, is not emulated.", _INSTEAD
            )
    if "mp_parameters" in spec.hyperparameters and _is_true(spec.hyperparameters.get(TORCH_DISTRIBUTED)):
        raise UnsupportedOptionError(
            "the hyperparameter mp_parameters, distribution={'smdistributed': ...}, is not emulated.", _INSTEAD
        )
    if not _is_true(spec.hyperparameters.get(TORCH_DISTRIBUTED)) or spec.entry_point is None:
        return
    if not spec.entry_point.endswith(".py"):
        raise BadInputError(
            f"distribution={{'torch_distributed': ...}} starts Python programs (.py) alone, and the entry point is "
            f"{spec.entry_point}.",
            "Name a .py file.",
        )


def _is_true(text: str | None) -> bool:
    return text is not None and text.strip().strip('"').lower() == "true"
