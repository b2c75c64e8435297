"""``ServerlessInferenceConfig``, as the SDK has it; here a serverless endpoint is one container that is always up."""

from __future__ import annotations

from typing import Any


class ServerlessInferenceConfig:
    """How a serverless endpoint is on AWS.

    Args:
        memory_size_in_mb: kept for the request; a container here has this machine's memory.
        max_concurrency: the same; requests share one container.
        provisioned_concurrency: the same.
    """

    def __init__(
        self, memory_size_in_mb: int = 2048, max_concurrency: int = 5, provisioned_concurrency: int | None = None
    ) -> None:
        self.memory_size_in_mb = memory_size_in_mb
        self.max_concurrency = max_concurrency
        self.provisioned_concurrency = provisioned_concurrency

    def to_request_dict(self) -> dict[str, Any]:
        """Return the member ServerlessConfig of a variant."""
        request = {"MemorySizeInMB": self.memory_size_in_mb, "MaxConcurrency": self.max_concurrency}
        if self.provisioned_concurrency is not None:
            request["ProvisionedConcurrency"] = self.provisioned_concurrency
        return request
