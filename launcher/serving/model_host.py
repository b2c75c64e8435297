"""A container that serves a model: its tree, its start, the wait for its first health check, its end.

Everything can be repeated by another process: what was unpacked is found, and a container that runs is found again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ArtifactError, ChannelError, LauncherError, ModelHostError, RuntimeUnavailableError
from launcher.jobs.folder import JobFolder
from launcher.jobs.model_spec import ModelSpec
from launcher.jobs.spec import OPT_ML, ContainerSpec, Mount, log_file_name
from launcher.running import artifacts
from launcher.running.following import log_tail
from launcher.running.opt_ml import OptMl
from launcher.running.plan import INSTALLING_VARIABLES, planned_s3_address, s3_variables
from launcher.running.reach import Reach
from launcher.runtimes import EndCause, Execution, Runtime
from launcher.runtimes.images import is_bundled, local_image
from launcher.settings import REGION
from launcher.storage import recorded_storage
from launcher.trees import remove_tree

PORT = 8080
PING_TIMEOUT_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 240
"""SageMaker's limit for the first answer to ``/ping``, where ContainerStartupHealthCheckTimeoutInSeconds says none."""

STOP_GRACE_SECONDS = 30.0
"""Between SIGTERM and SIGKILL for a container that serves; four times less than for one that trains."""

_SOON_SECONDS, _LATER_SECONDS, _SOON_IS = 0.05, 0.25, 10.0


@dataclass(frozen=True)
class HostPlan:
    """What a model's container will be.

    Attributes:
        model: what it serves.
        container: how it is started.
        limit_seconds: for its first answer to a health check.
    """

    model: ModelSpec
    container: ContainerSpec
    limit_seconds: float = HEALTH_CHECK_SECONDS


def plan_host(
    model: ModelSpec,
    folder: JobFolder,
    *,
    home: Path,
    kind: str,
    host: str = "algo-1",
    environment: Mapping[str, str] | None = None,
    limit_seconds: float = HEALTH_CHECK_SECONDS,
    hosts: Sequence[str] = (),
) -> HostPlan:
    """Work out the container that serves a model; pure.

    Args:
        model: what is served.
        folder: of the transform job, or of whatever the container belongs to.
        home: the store's; the container carries it as a label.
        kind: the folder of the kind of thing that it belongs to, such as ``transform-jobs``.
        host: the name of this host; it is that of its log and its working folder.
        environment: variables beside the model's own, which give way.
        limit_seconds: for its first answer to a health check.
        hosts: default: this one alone; hosts without a way out share a network.
    """
    variables, inherited = s3_variables(model)
    image = local_image(model.image_uri)
    if is_bundled(image):
        inherited += INSTALLING_VARIABLES
    wanted = {
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        **variables,
        **model.environment,
        **(environment or {}),
    }
    work = folder.work_path / host
    container = ContainerSpec(
        job_name=folder.name,
        host=host,
        image=image,
        entry_point=(),
        arguments=("serve",),
        environment=wanted,
        mounts=(Mount(str(work / "opt_ml" / "model"), f"{OPT_ML}/model", read_only=False),),
        state_path=str(work),
        log_path=str(folder.path / log_file_name(host)),
        labels={"launcher.job": f"{kind}/{folder.name}", "launcher.host": host, "launcher.home": str(home)},
        network_isolated=model.enable_network_isolation,
        inherited=tuple(name for name in inherited if name not in wanted),
        tree_path=str(work / "opt_ml"),
        hosts=tuple(hosts) or (host,),
        port=PORT,
    )
    return HostPlan(model, container, limit_seconds)


def check_model_data(model: ModelSpec) -> None:
    """Refuse a model whose data are not there.

    Raises:
        ArtifactError: nothing lies at its URI; the words are AWS's.
    """
    if model.model_form == "nothing" or model.model_uri is None:
        return
    try:
        _, is_file = recorded_storage(model.model_uri, model.s3).locate(model.model_uri, Path(os.devnull))
    except (ChannelError, LauncherError) as error:
        raise _no_model_data(model.model_uri, str(error)) from error
    if is_file != (model.model_form in ("archive", "file")):
        raise _no_model_data(model.model_uri, f"It is {'a file' if is_file else 'a prefix'}.")


def _no_model_data(uri: str, why: str) -> ArtifactError:
    error = ArtifactError(f"Could not find model data at {uri}.", why)
    error.exit_code = 2  # nothing has run
    return error


def lay_out_model(plan: HostPlan) -> None:
    """Put the model where its container expects it; what is there already stays.

    Raises:
        ArtifactError: the archive is damaged, leaves its folder, or holds a link, which SageMaker does not serve.
    """
    model, tree = plan.model, OptMl(Path(plan.container.tree_path))
    work = tree.path.parent
    if tree.model.is_dir():
        return
    work.mkdir(parents=True, exist_ok=True)
    work.parent.chmod(0o700)
    tree.path.mkdir(exist_ok=True)
    scratch = work / ".model"
    remove_tree(scratch)
    if model.model_form == "nothing" or model.model_uri is None:
        scratch.mkdir()
    else:
        source = recorded_storage(model.model_uri, model.s3).fetch(model.model_uri, work / "fetched-model")
        if model.model_form == "archive":
            artifacts.unpack(source, scratch)
            _refuse_links(scratch, model.model_uri)
        else:
            _copy(source, scratch)
    tree.share(scratch)
    scratch.rename(tree.model)
    tree.path.chmod(0o777)
    remove_tree(work / "fetched-model")


def _refuse_links(folder: Path, uri: str) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise ArtifactError(
                f"{uri} holds the symbolic link '{path.relative_to(folder)}': SageMaker serves no model with links.",
                "Pack files in place of links: tar --dereference -czf model.tar.gz ...",
            )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.mkdir()
        shutil.copyfile(source, target / source.name)


class ModelHost:
    """A container that serves, whichever process has started it.

    Args:
        runtime: what runs it.
        plan: what it is.
        home: the store's, for the address of its S3.
    """

    def __init__(self, runtime: Runtime, plan: HostPlan, home: Path) -> None:
        self._runtime = runtime
        self._plan = plan
        self._home = home
        self._execution: Execution | None = None
        self._terminated = False
        self.warnings: list[str] = []

    @property
    def container(self) -> ContainerSpec:
        """How it is started."""
        return self._plan.container

    @property
    def execution(self) -> Execution | None:
        """What runs; None before the start."""
        return self._execution

    def find(self) -> bool:
        """Return whether the container is there already, started by this process or another."""
        if self._execution is None:
            self._execution = self._runtime.find(self.container)
        return self._execution is not None

    def start(self, reach: Reach | None = None) -> None:
        """Lay out the model and start the container, unless it is there already.

        Args:
            reach: how its code reaches its S3, as ``s3_in_reach`` yields it; None where it does not.
        Raises:
            ArtifactError: the model cannot be unpacked.
            RuntimeUnavailableError, ImageError: the container cannot be started.
        """
        if self.find():
            return
        lay_out_model(self._plan)
        self._runtime.open([self.container])
        reach = reach or Reach(planned_s3_address(self._plan.model))
        container = reach.given_to(self.container, self._runtime, self._plan.model.environment)
        self._execution = self._runtime.start(container)

    def address(self) -> tuple[str, int]:
        """Return where this machine reaches the server.

        Raises:
            RuntimeUnavailableError: nobody can say.
        """
        if self._execution is None:
            raise RuntimeUnavailableError("the model's container has not been started.")
        return self._execution.address()

    def wait_until_healthy(self, on_wait: Callable[[], None] = lambda: None) -> tuple[str, int]:
        """Wait for the first answer to ``/ping``, and return where the server is.

        Args:
            on_wait: is called between two questions; it may raise to give up.
        Raises:
            ModelHostError: the container ended, or did not answer in time.
        """
        began = time.monotonic()
        while True:
            self.check_alive()
            with contextlib.suppress(RuntimeUnavailableError):
                address = self.address()
                if ping(address):
                    return address
            passed = time.monotonic() - began
            if passed > self._plan.limit_seconds:
                raise self.failure(
                    f"did not pass the ping health check within {self._plan.limit_seconds:.0f} s "
                    f"(GET /ping on port {PORT} has to answer 200)"
                )
            on_wait()
            time.sleep(_SOON_SECONDS if passed < _SOON_IS else _LATER_SECONDS)

    def check_alive(self) -> None:
        """Notice that the container has ended.

        Raises:
            ModelHostError: it has; the message says how.
        """
        if self._execution is None:
            return
        code = self._execution.wait(0)
        if code is not None:
            raise self.failure(self._how_it_ended(code))

    def failure(self, deed: str) -> ModelHostError:
        """Return the error for something that the container did, with the last lines that it printed."""
        path = Path(self.container.log_path)
        lines = log_tail(path)
        tail = "".join(f"\n    {line}" for line in lines)
        name = self.container.image or "the bundled image"
        return ModelHostError(
            f"the container of model '{self._plan.model.model_name}' ({name}) {deed}.",
            f"Log: {path}" + (f", which ends with:{tail}" if tail else ", which is empty"),
            log_lines=tuple(lines),
        )

    def _how_it_ended(self, code: int) -> str:
        ending = self._execution.ending() if self._execution is not None else None
        if ending is not None and ending.cause is EndCause.NO_PROGRAM:
            return f"has no 'serve' to run ({ending.detail}); it must be runnable as: docker run IMAGE serve"
        detail = f" ({ending.cause}: {ending.detail})" if ending is not None and ending.cause else ""
        return f"ended by itself with exit code {code}{detail}"

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End the container: SIGTERM, the grace, SIGKILL. Nothing of it is left; again does no harm.

        Raises:
            RuntimeUnavailableError: the runtime does not answer, or could not remove it.
        """
        self.terminate()
        if self._execution is not None:
            if self._execution.wait(grace_seconds) is None:
                self._execution.kill()
                self._execution.wait(STOP_GRACE_SECONDS)
            if self._execution.warning:
                self.warnings.append(self._execution.warning)
            self._execution.remove()
            self._execution, self._terminated = None, False
        self._runtime.reclaim(self.container)
        if len(self.container.hosts) < 2:
            self.close()

    def terminate(self) -> None:
        """Send SIGTERM, once, and return at once: several hosts end at the same time.

        Raises:
            RuntimeUnavailableError: the runtime does not answer.
        """
        if self.find() and self._execution is not None and not self._terminated:
            self._terminated = True  # a second SIGTERM could cut a handler short
            self._execution.terminate()

    def close(self) -> None:
        """Remove what the host shares with others, when all of them have been stopped.

        Raises:
            RuntimeUnavailableError: it could not be removed.
        """
        self._runtime.close([self.container])

    def kill(self) -> None:
        """End the container at once; nothing of it is left.

        Raises:
            RuntimeUnavailableError: the runtime does not answer, or could not remove it.
        """
        self.stop(grace_seconds=0)


def ping(address: tuple[str, int], timeout_seconds: float = PING_TIMEOUT_SECONDS) -> bool:
    """Return whether a server answers ``GET /ping`` with 200 in time."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
