"""What became of the warm pool that a training job left, in AWS's words."""

from __future__ import annotations

from typing import Any

from launcher.jobs.record import JobRecord
from launcher.jobs.store import Store
from launcher.runtimes.warm_pools import Pools


def warm_pool_status(store: Store[JobRecord], record: JobRecord) -> dict[str, Any]:
    """Return ``WarmPoolStatus`` as a member of Describe; empty where the job has no warm pool."""
    if not record.warm_pool:
        return {}
    name = str(record.spec["job_name"])
    if not record.terminal:
        return {"WarmPoolStatus": {"Status": "InUse"}}
    reused_path = store.folder(name).reused_path
    try:
        reused_by, reused = reused_path.read_text(encoding="utf-8"), reused_path.stat().st_mtime
    except OSError:
        pool = Pools(store.home).find(record.warm_pool)
        status = "Terminated" if pool is None else "Available"
        return {"WarmPoolStatus": {"Status": status}}
    retained = max(0, round(reused - (record.ended or reused)))
    values = {"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": retained, "ReusedByJob": reused_by}
    return {"WarmPoolStatus": values}


def keep_for(store: Store[JobRecord], record: JobRecord, seconds: int) -> bool:
    """Change how long the warm pool of a job stays; 0 ends it. Return False where there is none any more."""
    pools = Pools(store.home)
    pool = pools.find(record.warm_pool) if record.warm_pool else None
    if pool is None or pool.last_job != record.spec["job_name"]:
        return False
    if seconds:
        pools.note_use(pool.path, pool.last_job, seconds)
    else:
        pools.stop(pool)
    return True
