"""Run a command as somebody who may do less than the tests' own user; without root the tests' user is such a one."""

import grp
import os
import shutil
import tempfile
from pathlib import Path

ORDINARY_UID = 12345 if os.getuid() == 0 else os.getuid()


def without_rights(command):
    """Return ``command`` so that file modes hold even for root."""
    if os.getuid() != 0:
        return command
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]


def as_ordinary_user(command):
    """Return ``command`` so that it runs as a user who may use the engine.

    Where root's interpreter lies in a folder that nobody else may enter, the right to read it comes along; the right to
    write or to change owners does not.
    """
    if os.getuid() != 0:
        return command
    groups = str(grp.getgrnam("docker").gr_gid) if _has_docker_group() else str(ORDINARY_UID)
    uid = str(ORDINARY_UID)
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return ["setpriv", "--reuid", uid, "--regid", uid, "--groups", groups, *rights, *command]


def as_stranger(command):
    """Return ``command`` so that it runs as a user with no right but those of everybody, and no engine."""
    if os.getuid() != 0:
        return command
    uid = str(ORDINARY_UID)
    return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--bounding-set", "-all", *command]


def folder_of_ordinary_user():
    """Return a new folder that belongs to that user and lies where everybody may go; the caller removes it."""
    path = Path(tempfile.mkdtemp(prefix="launcher-user-", dir="/tmp"))
    path.chmod(0o755)
    shutil.chown(path, ORDINARY_UID, ORDINARY_UID if os.getuid() == 0 else os.getgid())
    return path


def _has_docker_group():
    return any(group.gr_name == "docker" for group in grp.getgrall())
