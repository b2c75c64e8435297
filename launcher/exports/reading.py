"""What all exports ask of a request: what no engine elsewhere does is refused, and what it does otherwise is named."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launcher.channels.resolving import ChannelSource, hosts_of
from launcher.errors import ChannelError, ImageError, UnsupportedOptionError
from launcher.jobs.instance_types import instance_type
from launcher.jobs.spec import Channel, TrainingJobSpec
from launcher.requests.members import not_carried
from launcher.running.plan import RunPlan, make_plan
from launcher.runtimes.images import is_bundled, local_image
from launcher.secrets import is_secret
from launcher.storage import which_s3


@dataclass(frozen=True)
class Export:
    """A document, and what its reader should know.

    Attributes:
        document: JSON values.
        warnings: what the request asks for and the engine does otherwise, or not at all; a line each.
    """

    document: dict[str, Any]
    warnings: tuple[str, ...]


def plan_of(spec: TrainingJobSpec) -> RunPlan:
    """Return the plan of a job whose channels are at their places in the containers, wherever they come from."""
    return make_plan(
        spec, home=Path("/"), job_path=Path("/"), work_path=Path("/"),
        channels={channel.name: ChannelSource(Path("/"), is_file=False) for channel in spec.channels},
    )  # fmt: skip


def refuse(spec: TrainingJobSpec, image: str, *, network: tuple[str, str]) -> None:
    """Refuse what no other engine does.

    Args:
        spec: the job.
        image: the one that takes the place of the job's own; empty for none.
        network: why ``EnableNetworkIsolation`` is refused, and what to do.
    Raises:
        BadInputError: the first of it.
    """
    if spec.enable_network_isolation:
        raise UnsupportedOptionError(f"EnableNetworkIsolation=True: {network[0]}", network[1])
    if spec.debug or spec.faults:
        member = "Launcher.Debug" if spec.debug else "Launcher.Faults"
        raise UnsupportedOptionError(f"{member}: only runtimes of this machine do that.", "Leave it out.")
    if any(group.instance_type == "local_gpu" for group in spec.groups):
        raise UnsupportedOptionError(
            "ResourceConfig.InstanceType='local_gpu' means this machine's GPUs.", "Name a type, such as ml.g5.xlarge."
        )
    image = image or spec.image_uri or ""
    if is_bundled(local_image(image)):
        raise ImageError(
            f"AlgorithmSpecification.TrainingImage: {image or 'the bundled image'} is built on this machine."
            if not image
            else f"AlgorithmSpecification.TrainingImage: {image} stands for an image that is built on this machine.",
            "Push one to a registry that the cluster reaches, and name it: --image REGISTRY/NAME:TAG",
        )


def refuse_channel(channel: Channel, spec: TrainingJobSpec) -> None:
    """Refuse what only the launcher itself does with a channel.

    Raises:
        UnsupportedOptionError: the channel asks for it.
    """
    begin = f"channel '{channel.name}': "
    if channel.is_stream:
        raise UnsupportedOptionError(f"{begin}InputMode=Pipe: nothing writes the stream.", "Use File.")
    if channel.is_sharded and len(hosts_of(spec, channel)) > 1:
        raise UnsupportedOptionError(
            f"{begin}S3DataDistributionType=ShardedByS3Key: every host would get all objects.",
            "Leave it out, and let each host choose by resourceconfig.json.",
        )
    if channel.s3_data_type != "S3Prefix":
        raise UnsupportedOptionError(f"{begin}S3DataType={channel.s3_data_type} is not read there.", "Use a prefix.")
    for member, value in (("CompressionType", channel.compression), ("RecordWrapperType", channel.record_wrapping)):
        if value != "None":
            raise UnsupportedOptionError(f"{begin}{member}={value}: nothing unpacks it there.", "Leave it out.")


def refuse_unknown_channels(spec: TrainingJobSpec, names: Iterable[str], option: str) -> None:
    """Refuse places for channels that the job does not have.

    Raises:
        ChannelError: there is one.
    """
    channels = {channel.name for channel in spec.channels}
    for name in names:
        if name not in channels:
            raise ChannelError(
                f"{option} {name}: there is no channel '{name}'.",
                f"Channels: {', '.join(sorted(channels)) or 'none'}.",
            )


def s3_elsewhere(spec: TrainingJobSpec, read: Iterable[tuple[str, str]], remedy: str) -> Mapping[str, Any] | None:
    """Return which S3 the hosts use; None where they use none.

    Args:
        spec: the job.
        read: what the hosts read: what it is for, and its URI.
        remedy: what to do where no other machine reaches that S3.
    Raises:
        UnsupportedOptionError: it is such a one.
    """
    uris = [(purpose, uri) for purpose, uri in read if uri.startswith("s3://")]
    if not uris:
        return None
    settings = spec.s3 or which_s3().to_dict()
    purpose, uri = uris[0]
    if settings["kind"] == "embedded":
        raise UnsupportedOptionError(f"{purpose}: {uri} is in the S3 that is built in, on this machine.", remedy)
    if _is_loopback(settings.get("endpoint_url") or ""):
        raise UnsupportedOptionError(
            f"{purpose}: {uri} is in the S3 at {settings['endpoint_url']}, which no other machine reaches.", remedy
        )
    return settings


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def secret_hyperparameters(spec: TrainingJobSpec) -> list[str]:
    """Return the names of hyperparameters whose values are secret by their names, and would stand in a document."""
    return [name for name in spec.hyperparameters if is_secret(name)]


def shared_warnings(request: Mapping[str, Any], spec: TrainingJobSpec, *, fetched: Collection[str]) -> list[str]:
    """Return a line for each thing that every engine elsewhere does otherwise, or not at all.

    Args:
        request: the document.
        spec: the job of it.
        fetched: the channels that are downloaded.
    """
    lines = [f"{member} is not carried over" for member in not_carried(request) if "VolumeSizeInGB" not in member]
    if spec.metric_definitions:
        lines.append("MetricDefinitions: nobody reads metrics from the log")
    if spec.keep_alive_seconds:
        lines.append("KeepAlivePeriodInSeconds: no warm pool is kept")
    if spec.max_pending_seconds:
        lines.append("MaxPendingTimeInSeconds: nothing ends the wait for a place")
    for channel in spec.channels:
        if channel.name not in fetched:
            continue
        if not channel.uri.endswith("/") and channel.uri.startswith("s3://"):
            lines.append(
                f"channel '{channel.name}': it gets the objects below {channel.uri}/, or else the one object "
                f"{channel.uri}, and no others whose keys begin so"
            )
        if channel.input_mode == "FastFile":
            lines.append(f"channel '{channel.name}': FastFile downloads all objects before the job starts")
    return lines + [
        f"InstanceType={group.instance_type} is not in the table: its hosts ask for no CPUs or memory"
        for group in spec.groups
        if instance_type(group.instance_type) is None
    ]
