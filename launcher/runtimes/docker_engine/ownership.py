"""Whose the files are that a container wrote."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import docker.errors
import docker.types

from launcher.errors import RuntimeUnavailableError
from launcher.runtimes.docker_engine.connection import own_user, patient_client, words_of
from launcher.runtimes.docker_engine.options import own_limits
from launcher.runtimes.docker_engine.traits import EngineTraits
from launcher.trees import NoFolderError, Skipped, Tree


def give_back(tree_path: Path, image: str) -> None:
    """Make the caller the owner of what a container wrote, also of what the caller could not touch.

    Args:
        tree_path: the job's tree.
        image: the job's.
    Raises:
        RuntimeUnavailableError: the engine does not do it.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        opened = Tree.open(tree_path)
    except NoFolderError as error:
        if not isinstance(error.cause, PermissionError):
            return
    else:
        with opened:
            if not _take_over(opened, uid, gid, change=uid == 0) or uid == 0:
                return
    _change_owner(patient_client(), image, tree_path)


def _take_over(tree: Tree, uid: int, gid: int, *, change: bool) -> bool:
    """Return whether anything in the tree belongs to another user than ``uid``, or cannot be looked into.

    Args:
        change: make it belong to ``uid`` and ``gid``, which only root can.
    """
    closed = Skipped()
    foreign = False
    for entry in tree.walk(closed.add):
        if entry.status.st_uid != uid:
            foreign = True
            if not change:
                break
            os.chown(entry.name, uid, gid, dir_fd=entry.folder, follow_symlinks=False)
    return foreign or closed.count > 0


def _change_owner(client: docker.APIClient, image: str, path: Path) -> None:
    """Run the host's own chown as the engine's root.

    The job's image is here, but may have no such program: the host's folders of programs are mounted over its own.
    """
    programs = [Path(folder) for folder in ("/usr", "/bin", "/lib", "/lib64", "/nix") if Path(folder).exists()]
    mounts = [
        docker.types.Mount(str(folder), str(folder.resolve()), type="bind", read_only=True) for folder in programs
    ]
    script = 'chown -hR "$0" /opt/ml && chmod -R u+rwX /opt/ml'
    owner = own_user()
    by_hand = f"Do it by hand: sudo chown -R {owner} {path}"
    try:
        helper = client.create_container(
            image,
            entrypoint=["/bin/sh", "-c", script, owner],
            environment={"PATH": "/usr/bin:/bin"},
            user="0:0",
            host_config=client.create_host_config(
                mounts=[*mounts, docker.types.Mount("/opt/ml", str(path), type="bind")],
                network_mode="none",
                ulimits=own_limits(EngineTraits(client)),
                userns_mode="host",
            ),
        )
    except docker.errors.APIError as error:
        raise RuntimeUnavailableError(
            f"what the job wrote to {path} could not be given back: {words_of(error)}", by_hand
        ) from error
    try:
        client.start(helper["Id"])
        code = client.wait(helper["Id"])["StatusCode"]
        said = client.logs(helper["Id"]).decode(errors="replace").strip()
    except docker.errors.APIError as error:
        code, said = -1, words_of(error)
    finally:
        client.remove_container(helper["Id"], v=True, force=True)
    if code != 0:
        raise RuntimeUnavailableError(f"what the job wrote to {path} could not be given back: {said}", by_hand)
