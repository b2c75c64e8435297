"""``InstanceGroup``: the SDK's class for hosts of one type among those of a job."""

from __future__ import annotations

from typing import Any


class InstanceGroup:
    """Hosts of one type.

    Args:
        instance_group_name: unique in its job.
        instance_type: as ``Estimator`` takes it.
        instance_count: how many hosts.
    """

    def __init__(
        self,
        instance_group_name: str | None = None,
        instance_type: str | None = None,
        instance_count: int | None = None,
    ) -> None:
        self.instance_group_name = instance_group_name
        self.instance_type = instance_type
        self.instance_count = instance_count

    def __repr__(self) -> str:
        return f"InstanceGroup({self.instance_group_name!r}, {self.instance_type!r}, {self.instance_count!r})"


def group_request(group: Any) -> dict[str, Any]:
    """Return a group of ours, or of the SDK's, as a request holds it; what it lacks is left out."""
    members = {
        "InstanceGroupName": group.instance_group_name,
        "InstanceType": group.instance_type,
        "InstanceCount": group.instance_count,
    }
    return {name: value for name, value in members.items() if value is not None}
