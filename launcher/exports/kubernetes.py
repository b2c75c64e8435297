"""A training job as one JobSet of Kubernetes: the document alone, which ``kubectl apply`` takes.

Each host is a Job of the set with one pod. Its hostname is ``algo-N``, the set's headless service gives it the DNS name
``algo-N.<set>.<namespace>.svc.<cluster domain>``, and the pods look names up below that, so that ``algo-N`` resolves
without any code in the container. The files of ``/opt/ml/input/config`` are annotations of the pod that a volume of the
downward API shows as files. Only a failure of the platform begins the job again.

Sources: the API of JobSet, jobset.x-k8s.io/v1alpha2; Kubernetes' documents on DNS for services and pods, on the
downward API, and on pod failure policies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.channels.resolving import hosts_by_group, hosts_of
from launcher.errors import BadInputError, ChannelError, OutputPathError, UnsupportedOptionError
from launcher.exports.reading import (
    Export,
    plan_of,
    refuse,
    refuse_channel,
    refuse_unknown_channels,
    s3_elsewhere,
    secret_hyperparameters,
    shared_warnings,
)
from launcher.jobs.instance_types import InstanceType, instance_type
from launcher.jobs.spec import CHECKPOINTS, OPT_ML, Channel, ContainerSpec, TrainingJobSpec
from launcher.requests.training import DEFAULT_VOLUME_GB, check_training_request
from launcher.secrets import is_secret
from launcher.settings import stop_grace_seconds

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LONGEST_LABEL = 63
_MOST_ANNOTATIONS = 256 << 10  # bytes of one object, keys and values together
_ANNOTATION = "launcher.files/"
_KUEUE_PODSETS = 8  # of one workload; newer versions of Kueue take more
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_FETCH = """\
if aws s3 cp --recursive --only-show-errors "${0%/}/" "$1/" && [ -n "$(ls -A "$1")" ]; then exit 0; fi
aws s3 cp --only-show-errors "$0" "$1/"
"""
_UNPACK = """\
aws s3 cp --only-show-errors "$0" "$1/.source.tar.gz"
tar -xzf "$1/.source.tar.gz" -C "$1"
rm "$1/.source.tar.gz"
"""


@dataclass(frozen=True)
class Cluster:
    """What a request does not say of the cluster that runs the job.

    Attributes:
        name: of the JobSet; empty for the job's own.
        namespace: the JobSet's.
        cluster_domain: of the cluster's DNS.
        image: in a registry that the cluster reaches; empty for the request's own.
        queue: of Kueue; empty for none.
        claims: a persistent volume claim, or a folder of one, by channel: ``CLAIM`` or ``CLAIM/FOLDER``.
        results: the claim that gets ``/opt/ml/model`` and ``/opt/ml/output`` of each host, in a folder of the job.
        checkpoints: the claim that all hosts see at the checkpoints' path.
        code: the claim whose folder is ``/opt/ml/code``.
        s3_image: an image with ``sh``, ``tar`` and the AWS CLI, which fetches ``s3://`` channels and the source.
        s3_secret: a Secret whose keys become variables wherever S3 is used: ``AWS_ACCESS_KEY_ID`` and so on.
        secret: a Secret that has the variables whose names say that they are secret, by their names.
        service_account: of the pods; empty for the namespace's default.
    """

    name: str = ""
    namespace: str = "default"
    cluster_domain: str = "cluster.local"
    image: str = ""
    queue: str = ""
    claims: Mapping[str, str] = field(default_factory=dict)
    results: str = ""
    checkpoints: str = ""
    code: str = ""
    s3_image: str = ""
    s3_secret: str = ""
    secret: str = ""
    service_account: str = ""


def job_set(request: Mapping[str, Any], cluster: Cluster) -> Export:
    """Return the JobSet that runs a CreateTrainingJob document.

    Raises:
        BadInputError: the document is wrong, or something about it no JobSet can do; the message names it.
    """
    spec = check_training_request(request)
    spec = replace(spec, s3=_s3(spec, cluster))
    name = _checked_name(cluster.name or spec.job_name, spec)
    _refuse(spec, cluster)
    plan = plan_of(spec)
    groups = hosts_by_group(spec)
    types = {host: group.instance_type for group in spec.groups for host in groups[group.name]}
    jobs = []
    for container in plan.containers:
        files = {**plan.config_files, **plan.host_files[container.host]}
        pod = _pod(spec, cluster, name, container, types[container.host])
        annotations = {_ANNOTATION + path.rpartition("/")[2]: text for path, text in files.items()}
        _check_annotations(annotations)
        jobs.append(_replicated_job(spec, container.host, annotations, pod))
    labels = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
    document = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            **({"labels": labels} if labels else {}),
            "annotations": {"launcher.job/name": spec.job_name, **_tags(spec)},
        },
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": name},
            "successPolicy": {"operator": "All"},
            "failurePolicy": _failure_policy(spec),
            "replicatedJobs": jobs,
        },
    }
    return Export(document, tuple(_warnings(request, spec, cluster)))


def _failure_policy(spec: TrainingJobSpec) -> dict[str, Any]:
    """Begin again after what the platform did, as AWS does; an error of the job's own and its deadline are the end."""
    final = {"name": "OwnFailureOrDeadline", "action": "FailJobSet"}
    rules: list[dict[str, Any]] = [{**final, "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"]}]
    if spec.spot is not None:
        rules.append(
            {
                "name": "Interrupted",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["BackoffLimitExceeded"],
            }
        )
    return {"maxRestarts": spec.max_retries, "rules": rules}


def _replicated_job(
    spec: TrainingJobSpec, host: str, annotations: Mapping[str, str], pod: Mapping[str, Any]
) -> dict[str, Any]:
    rules = [
        # A pod that was evicted also has an exit code: it must not count as the program's.
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "training", "operator": "NotIn", "values": [0]}},
    ]
    return {
        "name": host,
        "replicas": 1,
        "template": {
            "spec": {
                "completionMode": "NonIndexed",  # an indexed Job would give its pod a hostname of its own
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": 0,
                "activeDeadlineSeconds": spec.max_run_seconds,
                "podFailurePolicy": {"rules": rules},
                "template": {"metadata": {"annotations": dict(annotations)}, "spec": dict(pod)},
            }
        },
    }


def _pod(
    spec: TrainingJobSpec, cluster: Cluster, name: str, container: ContainerSpec, type_name: str
) -> dict[str, Any]:
    volumes, mounts, fetching = _files(spec, cluster, name, container.host)
    program: dict[str, Any] = {
        "name": "training",
        "image": cluster.image or spec.image_uri,
        **({"command": _literal(container.entry_point)} if container.entry_point else {}),
        **({"args": _literal(container.arguments)} if container.arguments else {}),
        "env": _variables(container.environment, cluster),
        **_credentials(spec, cluster),
        "resources": _resources(spec, instance_type(type_name)),
        "volumeMounts": mounts,
        # Not /opt/ml/output/failure itself: a file that is mounted cannot be replaced, and toolkits replace it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "hostname": container.host,
        "dnsConfig": {"searches": [f"{name}.{cluster.namespace}.svc.{cluster.cluster_domain}"]},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": round(stop_grace_seconds()),
        **({"serviceAccountName": cluster.service_account} if cluster.service_account else {}),
        **({"initContainers": fetching} if fetching else {}),
        "containers": [{key: value for key, value in program.items() if value}],
        "volumes": volumes,
    }


def _files(
    spec: TrainingJobSpec, cluster: Cluster, name: str, host: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a host's pod, their mounts, and the containers that fill some of them."""
    items = [
        {"path": file, "fieldRef": {"fieldPath": f"metadata.annotations['{_ANNOTATION}{file}']"}}
        for file in ("hyperparameters.json", "inputdataconfig.json", "resourceconfig.json")
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "downwardAPI": {"items": items}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": f"{OPT_ML}/input/config", "readOnly": True},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    fetching: list[dict[str, Any]] = []

    def lend(volume: str, claim: str, path: str, inside: str = "", *, read_only: bool = False) -> None:
        claim_name, _, folder = claim.partition("/")
        if volume not in [entry["name"] for entry in volumes]:
            source = {"claimName": claim_name}
            volumes.append({"name": volume, "persistentVolumeClaim": source})
        sub_path = "/".join(part for part in (folder.strip("/"), inside) if part)
        mount = {"name": volume, "mountPath": path, **({"subPath": sub_path} if sub_path else {})}
        mounts.append({**mount, **({"readOnly": True} if read_only else {})})

    def fetch(volume: str, uri: str, path: str, script: str, *, read_only: bool) -> None:
        volumes.append({"name": volume, "emptyDir": {}})
        mounts.append({"name": volume, "mountPath": path, **({"readOnly": True} if read_only else {})})
        entry = {
            "name": f"fetch-{volume}",
            "image": cluster.s3_image,
            "command": _literal(["sh", "-ec", script, uri, path]),
            "env": _variables(_s3_variables(spec), cluster),
            **_credentials(spec, cluster),
            "volumeMounts": [{"name": volume, "mountPath": path}],
        }
        fetching.append({key: value for key, value in entry.items() if value})

    if cluster.code:
        lend("code", cluster.code, f"{OPT_ML}/code", read_only=True)
    elif spec.source_uri is not None:
        fetch("code", spec.source_uri, f"{OPT_ML}/code", _UNPACK, read_only=False)
    for number, channel in enumerate(spec.channels):
        if host not in hosts_of(spec, channel):
            continue
        volume, path = f"channel-{number}", f"{OPT_ML}/input/data/{channel.name}"
        read_only = channel.name not in spec.own_channels
        if claim := cluster.claims.get(channel.name):
            lend(volume, claim, path, read_only=read_only)
        else:
            fetch(volume, channel.uri, path, _FETCH, read_only=read_only)
    for folder in ("model", "output"):
        lend("results", cluster.results, f"{OPT_ML}/{folder}", f"{name}/{host}/{folder}")
    if cluster.checkpoints:
        path = CHECKPOINTS if spec.checkpoint_config is None else spec.checkpoint_config.local_path
        lend("checkpoints", cluster.checkpoints, path)
    return volumes, mounts, fetching


def _s3_variables(spec: TrainingJobSpec) -> dict[str, str]:
    """Return the variables that lead the AWS CLI to the job's S3, credentials aside."""
    settings = spec.s3 or {}
    values = {"AWS_REGION": settings.get("region"), "AWS_ENDPOINT_URL_S3": settings.get("endpoint_url")}
    return {name: value for name, value in values.items() if value}


def _variables(values: Mapping[str, str], cluster: Cluster) -> list[dict[str, Any]]:
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": cluster.secret, "key": name}}}
        if is_secret(name) and value
        else {"name": name, "value": _literal([value])[0]}
        for name, value in sorted(values.items())
    ]


def _credentials(spec: TrainingJobSpec, cluster: Cluster) -> dict[str, Any]:
    return {"envFrom": [{"secretRef": {"name": cluster.s3_secret}}]} if spec.s3 and cluster.s3_secret else {}


def _literal(texts: Sequence[str]) -> list[str]:
    """Return texts of which Kubernetes expands nothing: ``$(NAME)`` is a variable there, and ``$$`` a dollar."""
    return [text.replace("$", "$$") for text in texts]


def _resources(spec: TrainingJobSpec, kind: InstanceType | None) -> dict[str, Any]:
    """Return what a pod asks for: all that its instance type has, which is also the most that it gets."""
    asked: dict[str, str] = {}
    if kind is not None:
        asked |= {"cpu": str(kind.cpus), "memory": f"{kind.memory_bytes >> 20}Mi"}
        asked |= {"nvidia.com/gpu": str(kind.gpus)} if kind.gpus else {}
    if spec.volume_size_gb != DEFAULT_VOLUME_GB:
        asked["ephemeral-storage"] = f"{spec.volume_size_gb}Gi"
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def _tags(spec: TrainingJobSpec) -> dict[str, str]:
    """Return the tags as one annotation, since their keys may be none of Kubernetes'."""
    import json

    return {"launcher.job/tags": json.dumps(dict(spec.tags), ensure_ascii=False)} if spec.tags else {}


def _s3(spec: TrainingJobSpec, cluster: Cluster) -> Mapping[str, Any] | None:
    """Return which S3 the pods use; None where they use none.

    Raises:
        UnsupportedOptionError: it is one that no other machine reaches.
    """
    read = [("the source", spec.source_uri or "")] if not cluster.code else []
    read += [(f"channel '{entry.name}'", entry.uri) for entry in spec.channels if entry.name not in cluster.claims]
    remedy = "Give it as a persistent volume claim, or name another S3: export LAUNCHER_S3_ENDPOINT=aws, or its URL"
    return s3_elsewhere(spec, read, remedy)


def _checked_name(name: str, spec: TrainingJobSpec) -> str:
    """Return a name for the JobSet: Kubernetes makes those of its Jobs and of a service of it.

    Raises:
        UnsupportedOptionError: it can be none.
    """
    longest = _LONGEST_LABEL - len(f"-algo-{spec.instance_count}-0")
    if not _LABEL.fullmatch(name) or len(name) > longest:
        raise UnsupportedOptionError(
            f"the name '{name}' cannot be that of a JobSet: a small letter, then small letters, digits and -, at most "
            f"{longest} in all.",
            "Give it another: --name NAME",
        )
    return name


def _refuse(spec: TrainingJobSpec, cluster: Cluster) -> None:
    """Refuse what no JobSet can do, and what nobody has said.

    Raises:
        BadInputError: the first of it.
    """
    refuse(
        spec,
        cluster.image,
        network=(
            "a JobSet takes no network away.",
            "Leave it out, and add a NetworkPolicy for the pods of the JobSet.",
        ),
    )
    if spec.source_uri is not None and not cluster.code:
        if not spec.source_uri.startswith("s3://"):
            raise UnsupportedOptionError(
                f"the source {spec.source_uri} is on this machine.",
                "Put it under s3://, or unpack it into a persistent volume claim: --code CLAIM/FOLDER",
            )
        _need_s3_image(cluster, f"the source {spec.source_uri}")
    refuse_unknown_channels(spec, cluster.claims, "--claim")
    for channel in spec.channels:
        _refuse_channel(channel, spec, cluster)
    if not cluster.results:
        raise OutputPathError(
            f"OutputDataConfig.S3OutputPath={spec.output_uri}: nothing in a JobSet puts results there.",
            "Name a persistent volume claim that gets them: --results CLAIM or CLAIM/FOLDER",
        )
    if spec.checkpoint_config is not None and not cluster.checkpoints:
        raise OutputPathError(
            f"CheckpointConfig.S3Uri={spec.checkpoint_config.s3_uri}: nothing in a JobSet syncs checkpoints.",
            "Name a persistent volume claim that keeps them: --checkpoints CLAIM or CLAIM/FOLDER",
        )
    for name, value in spec.environment.items():
        if not _VARIABLE.fullmatch(name):
            raise UnsupportedOptionError(
                f"Environment: {name!r} can be no variable of a container in Kubernetes.", "Rename it."
            )
        if is_secret(name) and value and not cluster.secret:
            raise BadInputError(
                f"Environment.{name}: its value is secret by its name, and would stand in the document.",
                f"Make a Secret with the key {name}, and name it: --secret NAME",
            )


def _refuse_channel(channel: Channel, spec: TrainingJobSpec, cluster: Cluster) -> None:
    refuse_channel(channel, spec)
    begin = f"channel '{channel.name}': "
    claim = cluster.claims.get(channel.name)
    if claim and channel.writable:
        raise UnsupportedOptionError(
            f"{begin}Launcher.WritableChannels: the job would change the claim itself.", "Leave it out."
        )
    if claim:
        return
    if not channel.uri.startswith("s3://"):
        raise ChannelError(
            f"{begin}{channel.uri} is a path of this machine.",
            f"Put it under s3://, or name a persistent volume claim that holds it: --claim {channel.name}=CLAIM/FOLDER",
        )
    _need_s3_image(cluster, f"{begin}{channel.uri}")


def _need_s3_image(cluster: Cluster, reader: str) -> None:
    if not cluster.s3_image:
        raise BadInputError(
            f"{reader} is fetched by a container of its own, and no image is named for it.",
            "Name one with sh, tar and the AWS CLI: --s3-image REGISTRY/NAME:TAG",
        )


def _check_annotations(annotations: Mapping[str, str]) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _MOST_ANNOTATIONS:
        raise UnsupportedOptionError(
            f"HyperParameters: the files of input/config have {size:,} bytes, and a pod holds {_MOST_ANNOTATIONS:,}.",
            "Give long values as a channel.",
        )


def _warnings(request: Mapping[str, Any], spec: TrainingJobSpec, cluster: Cluster) -> list[str]:
    lines = shared_warnings(request, spec, fetched={channel.name for channel in spec.channels} - cluster.claims.keys())
    lines.append(
        f"OutputDataConfig.S3OutputPath={spec.output_uri} is not written: model and output of each host are folders in "
        f"the claim {cluster.results}, and nobody packs them"
    )
    if spec.checkpoint_config is not None:
        lines.append(
            f"CheckpointConfig.S3Uri={spec.checkpoint_config.s3_uri} is not read or written: see --checkpoints"
        )
    if spec.spot is not None:
        lines.append(
            f"MaxWaitTimeInSeconds={spec.spot.max_wait_seconds} is not held; that pods run where they may be "
            "interrupted is the cluster's setting, by node selectors and tolerations"
        )
    lines.append(
        f"MaxRuntimeInSeconds={spec.max_run_seconds} counts from the creation of each attempt, waiting for a node "
        "included; the job is then Failed, not Stopped"
    )
    for channel in spec.channels:
        if channel.name in cluster.claims:
            lines.append(
                f"channel '{channel.name}': {channel.uri} is not read; claim {cluster.claims[channel.name]} is"
            )
    lines += [
        f"hyperparameter {name!r}: its value is secret by its name, and stands in the document"
        for name in secret_hyperparameters(spec)
    ]
    if cluster.queue and spec.instance_count > _KUEUE_PODSETS:
        lines.append(
            f"InstanceCount={spec.instance_count}: older versions of Kueue refuse more than {_KUEUE_PODSETS} hosts, "
            "each of which is a pod set"
        )
    return lines
