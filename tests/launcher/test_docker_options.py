"""What a container is given, worked out without an engine."""

from types import SimpleNamespace

import pytest

from launcher.errors import RuntimeUnavailableError
from launcher.jobs.spec import ContainerSpec, Limits
from launcher.runtimes.docker_engine.options import host_options
from launcher.runtimes.docker_engine.traits import is_version

ENGINE = SimpleNamespace(is_podman=False, is_rootless=False, cpu_count=64, sees_containers=True)
LABELS = {"launcher.job": "job-1", "launcher.home": "/home"}


def container(**values):
    given = {"image": "rl:1", "entry_point": (), "arguments": ("train",), "environment": {}, "mounts": (), **values}
    return ContainerSpec("job-1", "algo-1", state_path="", log_path="", labels=LABELS, **given)


def test_hosts_know_their_peers_by_name_from_the_start():
    addresses = {"algo-1": "10.0.0.2", "algo-2": "10.0.0.3"}
    options = host_options(container(hosts=tuple(addresses)), ENGINE, addresses, [])
    assert options["extra_hosts"] == {"algo-2": "10.0.0.3"}
    assert options["network_mode"].startswith("launcher-job-1-")
    alone = host_options(container(network_isolated=True), ENGINE, {}, [])
    assert alone["network_mode"] == "none"


def test_a_rootless_engine_is_asked_for_no_limits_that_it_cannot_set():
    limits = Limits(cpus=1, memory_bytes=1 << 30)
    assert host_options(container(limits=limits), ENGINE, {}, [])["mem_limit"] == 1 << 30
    engine = SimpleNamespace(**{**ENGINE.__dict__, "is_rootless": True})
    assert (
        not {"mem_limit", "pids_limit", "cpuset_cpus"} & host_options(container(limits=limits), engine, {}, []).keys()
    )


def test_a_server_is_published_here_where_its_own_address_is_out_of_reach():
    assert "port_bindings" not in host_options(container(port=8080), ENGINE, {}, [])
    far = SimpleNamespace(**{**ENGINE.__dict__, "sees_containers": False})
    assert host_options(container(port=8080), far, {}, [])["port_bindings"] == {8080: ("127.0.0.1", None)}
    with pytest.raises(RuntimeUnavailableError, match="enable_network_isolation"):
        host_options(container(port=8080, network_isolated=True), far, {}, [])


def test_versions_are_compared_by_their_numbers():
    """Docker fixes addresses in a network of its own choice since 29.0.4."""
    assert [is_version(text, 29, 0, 4) for text in ("29.0.4", "29.1.0-rc.1", "30.0.0")] == [True] * 3
    assert [is_version(text, 29, 0, 4) for text in ("29.0.3", "28.5.1", "20.10.24+dfsg1", "")] == [False] * 4
