"""Keeps a Python program to the local AWS where variables do not reach; the standard library alone."""

import functools
import inspect
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

AWS_DOMAINS = (
    *("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "aws"),
    *("api.amazonwebservices.com.cn", "api.amazonwebservices.eu"),
    *("c2s.ic.gov", "api.aws.ic.gov", "sc2s.sgov.gov", "api.aws.scloud", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    *("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
)
_ENDINGS = tuple(f".{domain}" for domain in AWS_DOMAINS)
_RESOLVING = ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect")
_PATCHED_MODULE = "sagemaker.estimator"
_installed: list[Any] = []


active = False
"""Whether connections to AWS are refused."""


def install() -> None:
    """Begin, or begin again."""
    global active
    active = True
    if _installed:
        return
    _installed.append(_refuse_aws)
    sys.addaudithook(_refuse_aws)
    if _PATCHED_MODULE in sys.modules:
        send_local_mode_here(sys.modules[_PATCHED_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


def _refuse_aws(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a connection to AWS that goes past the proxy; an audit hook cannot be taken away again."""
    if event not in _RESOLVING or not active:
        return
    host = arguments[1] if event == "socket.connect" else arguments[0]
    host = host[0] if isinstance(host, tuple) and host else host
    if isinstance(host, bytes):
        host = host.decode("latin-1")
    if not isinstance(host, str):
        return
    name = f".{host.rstrip('.').lower()}"
    if name.endswith(_ENDINGS) or name.startswith((".169.254.", ".fd00:ec2:")):
        raise ConnectionRefusedError(
            f"launcher exec: {host} is AWS's, and this request goes past the proxy of HTTPS_PROXY, so it is refused."
        )


class _Finder(MetaPathFinder):
    """Finds the SDK's module as it would be found, and has it patched when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if name != _PATCHED_MODULE:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _patch_when_loaded(spec.loader)
                return spec
        return None


def _patch_when_loaded(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        send_local_mode_here(module)

    loader.exec_module = exec_module


def send_local_mode_here(estimator_module: Any) -> None:
    """Make version 2's ``instance_type="local"`` and ``LocalSession`` mean the local AWS's jobs, not docker compose."""
    from sagemaker.local import local_session
    from sagemaker.session import Session

    local = local_session.LocalSession

    def initialize(self: Any, boto_session: Any, *_clients: Any, sagemaker_config: Any = None, **_further: Any) -> None:
        Session._initialize(self, boto_session, None, None, None, None, sagemaker_config=sagemaker_config)
        self.config = None

    local._initialize = initialize
    for name in ("logs_for_job", "logs_for_processing_job"):  # theirs show nothing
        if name in vars(local):
            delattr(local, name)

    def file_input(self: Any, fileUri: str, content_type: str | None = None) -> None:  # noqa: N803 - the SDK's name
        place = {"S3DataType": "S3Prefix", "S3Uri": fileUri, "S3DataDistributionType": "FullyReplicated"}
        self.config = {"DataSource": {"S3DataSource": place}}
        if content_type is not None:
            self.config["ContentType"] = content_type

    local_session.file_input.__init__ = file_input
    # The SDK refuses folders of this machine unless docker compose is to run the job.
    estimator_module._TrainingJob._is_local_channel = classmethod(lambda _class, _uri: False)
    base = estimator_module.EstimatorBase
    begin = base.__init__
    signature = inspect.signature(begin)

    @functools.wraps(begin)
    def begin_with_folders(self: Any, *arguments: Any, **options: Any) -> None:
        bound = signature.bind(self, *arguments, **options)
        output_path = bound.arguments.get("output_path")
        is_folder = isinstance(output_path, str) and output_path.startswith("file://")
        if is_folder:
            bound.arguments["output_path"] = None
        begin(*bound.args, **bound.kwargs)
        if is_folder:
            self.output_path = output_path

    base.__init__ = begin_with_folders
