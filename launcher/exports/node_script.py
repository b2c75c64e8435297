"""A training job as a script for engines that run one on every node, instead of an image's own entry point.

It lays out ``/opt/ml`` as SageMaker does, runs the algorithm with the signals that the engine sends, and packs what it
left. It needs a POSIX shell and the ``tar`` and ``ln`` of an ordinary Linux; where there are several hosts also root,
because it writes their names into ``/etc/hosts``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from launcher.errors import BadInputError, UnsupportedOptionError
from launcher.exports.reading import plan_of, refuse, refuse_channel, secret_hyperparameters, shared_warnings
from launcher.jobs.spec import OPT_ML, TrainingJobSpec
from launcher.requests.training import check_training_request
from launcher.secrets import is_secret, masked_text

LENT = "/launcher"
"""The folder of a node in which engines put what the script leads to its place."""

_LEND = """\
lend() {
  mkdir -p "$(dirname "$2")"
  rmdir "$2" 2> /dev/null || true
  if [ -f "$1" ]; then mkdir -p "$2" && ln -sf "$1" "$2/"; elif [ -d "$1" ]; then ln -sfnT "$1" "$2"
  else echo "$1 is not on this node" >&2; exit 1; fi
}
"""
_RUN = """\
%s &
program=$!
trap 'kill -TERM "$program" 2> /dev/null' TERM
code=0
wait "$program" || code=$?
while kill -0 "$program" 2> /dev/null; do code=0; wait "$program" || code=$?; done
"""
_PACK = f"""\
tar -czf "$results/output.tar.gz" -C {OPT_ML}/output/data .
if [ "$code" = 0 ]; then tar -czf "$results/model.tar.gz" -C {OPT_ML}/model .; fi
if [ -f {OPT_ML}/output/failure ]; then cat {OPT_ML}/output/failure >&2; fi
exit "$code"
"""


def read_for_script(request: Mapping[str, Any], engine: str, image: str, *, results: str = "") -> TrainingJobSpec:
    """Return the job of a CreateTrainingJob document.

    Args:
        request: the document.
        engine: its name.
        image: the one that takes the place of the request's own; empty for none.
        results: takes the place of ``S3OutputPath``; empty for none.
    Raises:
        BadInputError: the document is wrong, asks for what no such engine does, or a secret would stand in the script.
    """
    spec = check_training_request(request)
    refuse(spec, image, network=(f"{engine} takes no network away.", "Leave it out."))
    for channel in spec.channels:
        refuse_channel(channel, spec)
    if spec.container_arguments and not spec.container_entry_point:
        raise UnsupportedOptionError(
            f"AlgorithmSpecification.ContainerArguments: {engine} does not run the image's own entry point with them.",
            "Name ContainerEntrypoint as well.",
        )
    hint = "Pass it as a variable whose name says that it is secret, such as API_TOKEN."
    written = {f"hyperparameter {name!r}": value for name, value in spec.hyperparameters.items()}
    written |= {f"Environment.{name}": value for name, value in spec.environment.items() if not is_secret(name)}
    for place, value in written.items():
        if masked_text(value) != value:
            raise BadInputError(f"{place}: it has a password, which would stand in the document.", hint)
    for name in secret_hyperparameters(spec):
        raise BadInputError(
            f"hyperparameter {name!r}: its value is secret by its name, and would stand in the document.", hint
        )
    return replace(spec, output_uri=results or spec.output_uri, image_uri=image or spec.image_uri)


def variables_of(spec: TrainingJobSpec) -> tuple[dict[str, str], list[str]]:
    """Return the variables of each host, and the names of those whose values are secret, which are not among them."""
    variables = plan_of(spec).containers[0].environment
    secrets = sorted(name for name, value in variables.items() if is_secret(name) and value)
    return {name: value for name, value in sorted(variables.items()) if name not in secrets}, secrets


class Place(NamedTuple):
    """Something that a job reads or writes, and that an engine has to bring to its nodes.

    Attributes:
        purpose: the member of the request, for messages.
        name: of the channel; ``source``, ``checkpoints`` or ``results`` for the others, which no channel is called.
        uri: where it is, or goes to.
        is_channel: whether it is one.
        is_written: whether it goes to there.
    """

    purpose: str
    name: str
    uri: str
    is_channel: bool = False
    is_written: bool = False

    @property
    def folder(self) -> str:
        """A folder for it, relative, that nothing else has."""
        return f"channels/{self.name}" if self.is_channel else self.name


def places_of(spec: TrainingJobSpec) -> list[Place]:
    """Return all that a job reads and writes."""
    places = [Place(f"channel '{entry.name}'", entry.name, entry.uri, is_channel=True) for entry in spec.channels]
    if spec.source_uri:
        places.append(Place("the source", "source", spec.source_uri))
    if spec.checkpoint_config is not None:
        places.append(Place("CheckpointConfig.S3Uri", "checkpoints", spec.checkpoint_config.s3_uri, is_written=True))
    return [*places, Place("OutputDataConfig.S3OutputPath", "results", spec.output_uri, is_written=True)]


def node_script(
    spec: TrainingJobSpec, folders: Mapping[Place, str], *, rank: str, addresses: str, wrapper: Sequence[str] = ()
) -> str:
    """Return the script of every node of a job.

    Args:
        spec: the job.
        folders: where the node has each of the places: a folder or a file. A source that is no folder is an archive.
        rank: the engine's variable with the node's number, from 0.
        addresses: its variable with the addresses of all nodes, by rank.
        wrapper: words before the algorithm's own command.
    """
    plan = plan_of(spec)
    container = plan.containers[0]
    several = spec.instance_count > 1
    lines = [
        "set -eu",
        _LEND.rstrip(),
        f"host=algo-$((${rank} + 1))",
        f"mkdir -p {OPT_ML}/input/config {OPT_ML}/input/data {OPT_ML}/code {OPT_ML}/model {OPT_ML}/output/data",
        *(_written(path, text) for path, text in plan.config_files.items()),
        "case $host in",
        *(
            f"{host}) {' && '.join(_written(path, text) for path, text in files.items())} ;;"
            for host, files in plan.host_files.items()
        ),
        "esac",
    ]
    if several:
        lines += [
            "number=0",
            f'for address in ${addresses}; do number=$((number + 1)); echo "$address algo-$number" >> /etc/hosts; done',
        ]
    for place, folder in folders.items():
        if place.name == "results" and not place.is_channel:
            output = shlex.quote(f"{folder}/{spec.job_name}/output")
            lines += [f"results={output}{'/$host' if several else ''}", 'mkdir -p "$results"']
        elif folder.endswith(".tar.gz") and not place.is_channel:
            lines.append(f"tar -xzf {shlex.quote(folder)} -C {OPT_ML}/code")
        else:
            lines += [f"mkdir -p {shlex.quote(folder)}"] if place.is_written else []
            lines.append(f"lend {shlex.quote(folder)} {shlex.quote(_target(spec, place))}")
    program = shlex.join([*wrapper, *container.entry_point, *container.arguments])
    return "\n".join([*lines, _RUN % program + _PACK])


def _target(spec: TrainingJobSpec, place: Place) -> str:
    if place.is_channel:
        return f"{OPT_ML}/input/data/{place.name}"
    return spec.checkpoint_config.local_path if place.is_written and spec.checkpoint_config else f"{OPT_ML}/code"


def _written(path: str, text: str) -> str:
    return f"printf %s {shlex.quote(text)} > {OPT_ML}/{path}"


def warnings_of_script(request: Mapping[str, Any], spec: TrainingJobSpec, *, fetched: Sequence[str]) -> list[str]:
    """Return a line for each thing that is otherwise on every engine that runs the script."""
    lines = shared_warnings(request, spec, fetched=fetched)
    if not spec.container_entry_point:
        lines.append("the image's own entry point does not run: its program train does")
    lines.append("nothing of /opt/ml/output/intermediate is copied while the job runs")
    if spec.instance_count > 1:
        lines.append(
            "InstanceCount: the script names the hosts in /etc/hosts, as root; each has its own folder of results, "
            f"JOB/output/algo-1 to algo-{spec.instance_count}"
        )
    return lines
