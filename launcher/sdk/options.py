"""The options of the SageMaker SDK that are not emulated: each raises, naming itself and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from launcher.errors import UnsupportedOptionError

_SAME_MACHINE = "the job runs on this machine, as you"
_NO_ENCRYPTION = "what the job writes stays on this machine's disk; encrypt that"
_NO_DEBUGGER = "print values and read them with metric_definitions"

# Option -> (the values that ask for nothing, what to do instead).
NOT_EMULATED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "keep_alive_period_in_seconds": ((None,), "Leave it out: a local job starts in a fraction of a second."),
    "volume_size": ((30,), "Leave it out: the job uses the disk of LAUNCHER_HOME."),
    "volume_kms_key": ((None,), f"Leave it out: {_NO_ENCRYPTION}."),
    "output_kms_key": ((None,), f"Leave it out: {_NO_ENCRYPTION}."),
    "subnets": ((None,), f"Leave it out: {_SAME_MACHINE}; enable_network_isolation=True takes the network away."),
    "security_group_ids": ((None,), f"Leave it out: {_SAME_MACHINE}; enable_network_isolation=True takes it away."),
    "encrypt_inter_container_traffic": ((None, False), "Leave it out: there is one host."),
    "use_spot_instances": ((False, None), "Leave it out: nothing interrupts a local job; stop it to test that."),
    "max_wait": ((None,), "Leave it out and use max_run: a local job waits for nothing."),
    "rules": ((None, []), f"Leave it out: {_NO_DEBUGGER}."),
    "debugger_hook_config": ((None, False), f"Leave it out: {_NO_DEBUGGER}."),
    "tensorboard_output_config": ((None,), "Write event files to /opt/ml/output/data."),
    "enable_sagemaker_metrics": ((None, False), "Use metric_definitions."),
    "profiler_config": ((None,), "Leave it out, or run a profiler in the entry point."),
    "max_retry_attempts": ((None,), "Leave it out: a job that fails here fails again."),
    "git_config": ((None,), "Clone the repository and give source_dir."),
    "instance_groups": ((None,), "Use instance_type and instance_count."),
    "training_repository_access_mode": ((None,), "Leave it out: images come from the engine, which holds credentials."),
    "training_repository_credentials_provider_arn": ((None,), "Leave it out: log the engine in with: docker login"),
    "disable_output_compression": ((False,), "Leave it out; latest_training_job.outputs.model_path is unpacked."),
    "enable_infra_check": ((None, False), "Leave it out; check this machine with: launcher doctor"),
    "enable_remote_debug": ((None, False), "Leave it out: the process is on this machine, attach to it directly."),
    "enable_session_tag_chaining": ((None, False), "Leave it out: there is no session to tag."),
    "training_plan": ((None,), "Leave it out: this machine needs no reservation."),
    "instance_placement_config": ((None,), "Leave it out: there is one machine."),
    "experiment_config": ((None,), "Leave it out: a job's metrics are in its folder, under its name."),
}


def refuse(option: str, value: Any, where: str) -> None:
    """Raise if ``value`` asks for something that is not emulated.

    Args:
        option: one of ``NOT_EMULATED``.
        value: what the caller gave.
        where: the class or function that took it.
    Raises:
        UnsupportedOptionError: it does.
    """
    harmless, instead = NOT_EMULATED[option]
    if not any(value is one or (type(value) is type(one) and value == one) for one in harmless):
        raise UnsupportedOptionError(f"{where}({option}={value!r}) is not emulated.", instead)


def refuse_unknown(options: Mapping[str, Any], known: list[str], where: str) -> None:
    """Raise for the first option that does not exist at all.

    Raises:
        UnsupportedOptionError: there is one; the message has the nearest that does exist.
    """
    for option in options:
        near = get_close_matches(option, known, n=1)
        raise UnsupportedOptionError(
            f"{where} has no option '{option}'.", f"Did you mean '{near[0]}'?" if near else "Leave it out."
        )
