"""What an estimator holds: the base of the class, for what turns it into a request."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.running.source import Source
    from launcher.runtimes import Runtime
    from launcher.sdk.session import Session


class TrainingOptions:
    """The options of an estimator as they are now, by their names in the SDK, and what each kind of estimator adds."""

    image_uri: str | None
    role: str | None
    instance_count: int
    instance_type: str
    instance_groups: list[Any] | None
    keep_alive_period_in_seconds: int | None
    volume_size: int
    volume_kms_key: str | None
    max_run: int
    max_wait: int | None
    use_spot_instances: bool
    max_retry_attempts: int | None
    input_mode: str
    output_kms_key: str | None
    base_job_name: str | None
    sagemaker_session: Session
    tags: list[Mapping[str, str]] | None
    subnets: Sequence[str] | None
    security_group_ids: Sequence[str] | None
    model_uri: str | None
    model_channel_name: str
    metric_definitions: list[Mapping[str, str]]
    encrypt_inter_container_traffic: bool | None
    checkpoint_s3_uri: str | None
    checkpoint_local_path: str | None
    enable_sagemaker_metrics: bool | None
    environment: dict[str, str]
    source_dir: str | None
    container_log_level: int
    code_location: str | None
    entry_point: str | None
    dependencies: list[str]
    training_repository_access_mode: str | None
    training_repository_credentials_provider_arn: str | None
    container_entry_point: Sequence[str] | None
    container_arguments: Sequence[str] | None
    training_plan: str | None
    instance_placement_config: Mapping[str, Any] | None
    distribution: dict[str, Any]
    spot_interruptions: list[str] | None
    faults: str | Sequence[str] | None
    _hyperparameters: dict[str, Any]
    _enable_network_isolation: bool | None
    _runtime: str | Runtime | None
    _output_path: str | None

    @property
    @abstractmethod
    def output_path(self) -> str:
        """Where results go, as a URI."""

    @abstractmethod
    def _base_name(self) -> str:
        """Return the beginning of a generated job name."""

    @abstractmethod
    def _hyperparameter_texts(
        self, program: str | None, archive: str | None, name: str, output_uri: str, region: str
    ) -> dict[str, str]:
        """Return all hyperparameters of a job as it gets them."""

    @abstractmethod
    def _image_on_aws(self, region: str) -> str | None:
        """Return the image that AWS runs."""

    @abstractmethod
    def _platform_hyperparameters(self, output_uri: str) -> dict[str, Any]:
        """Return the hyperparameters that this kind of estimator sets itself."""

    @abstractmethod
    def _own_options(self, source: Source | None) -> dict[str, Any]:
        """Return the options for ``attach`` that no member of AWS holds."""

    @abstractmethod
    def _warnings(self, runtime: str) -> list[str]:
        """Return what the user should know about a job before it runs on a runtime of this name."""
