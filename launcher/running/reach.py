"""How code inside a job reaches the S3 of its URIs and, where they lead here, AWS's names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.aws_names.variables import CA_VARIABLES, certificates_for_jobs, proxy_variables, url_with_key
from launcher.errors import LauncherError
from launcher.jobs.spec import ContainerSpec, Mount
from launcher.running.plan import SeesS3, planned_s3_address, with_s3_address
from launcher.runtimes import Runtime
from launcher.settings import S3Settings
from launcher.storage.address import credentials_within, s3_within_reach

_CERTIFICATES = "/run/launcher/aws-names.pem"


@dataclass(frozen=True)
class Reach:
    """What a job is given to reach its S3; none of it is recorded.

    Attributes:
        planned: what the plan has in place of the address; empty where the job needs none.
        address: of its S3; empty where it is out of reach.
        variables: credentials, and the proxy of AWS's names.
        certificates: a file with those that the job is to trust; None for its own.
        problem: why the S3 is out of reach.
    """

    planned: str = ""
    address: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificates: Path | None = None
    problem: str = ""

    def given_to(self, container: ContainerSpec, runtime: Runtime, own: Mapping[str, str]) -> ContainerSpec:
        """Return the container with all of it.

        Args:
            container: as planned.
            runtime: what will run it.
            own: variables that the request itself sets, which win.
        """
        container = with_s3_address(container, self.planned, self.address)
        variables, mounts = dict(self.variables), container.mounts
        if self.certificates is not None:
            path = str(self.certificates)
            if runtime.runs_in_image(container.limits):
                mounts, path = (*mounts, Mount(path, _CERTIFICATES)), _CERTIFICATES
            variables |= dict.fromkeys(CA_VARIABLES, path)
        variables = {name: value for name, value in variables.items() if name not in own}
        return replace(
            container,
            environment={**container.environment, **variables},
            mounts=mounts,
            inherited=tuple(name for name in container.inherited if name not in variables),
        )


@contextmanager
def s3_in_reach(job: SeesS3, runtime: Runtime, home: Path) -> Iterator[Reach]:
    """Keep the S3 of a job, or a model, within reach of its containers; meanwhile its server does not end as idle.

    A container may not need its S3, so one that cannot reach it is none of an error's: ``problem`` says why.

    Args:
        job: what has the code.
        runtime: what runs it.
        home: the launcher's.
    """
    with ExitStack() as stack:
        reach = Reach(planned_s3_address(job))
        if reach.planned:
            settings = S3Settings.from_dict(dict(job.s3 or {}))
            try:
                own_address = runtime.host_address  # a question to the engine
                address = stack.enter_context(s3_within_reach(settings, home, own_address))
                variables = credentials_within(settings, home, own_address)
                reach = replace(reach, address=address, variables=variables)
                if settings.aws_names is not None:
                    proxy = proxy_variables(url_with_key(address, *variables.values()), [own_address])
                    certificates = certificates_for_jobs(home, os.environ)
                    reach = replace(reach, variables=variables | proxy, certificates=certificates)
            except LauncherError as error:
                reach = replace(reach, problem=error.message)
        yield reach
