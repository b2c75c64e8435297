"""The Docker engine of the benchmark: the tiny image, the floor of a container's cycle, and cleaning up."""

from __future__ import annotations

import io
import os
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types

from launcher.runtimes.image import build_image, image_tag
from launcher.runtimes.probe import engine_answers
from launcher.settings import build_settings

_LABEL = "launcher.benchmark"


class EngineMissingError(Exception):
    """No engine answers, or it has no base image; the message says which."""


class Engine:
    """docker-py by itself, with no launcher between."""

    def __init__(self) -> None:
        self.client = docker.APIClient(**docker.utils.kwargs_from_env(), version="auto")
        self.version: str = self.client.version()["Version"]
        self._mark = uuid.uuid4().hex[:8]
        self.tiny_image = f"launcher-benchmark:{self._mark}"

    def make_tiny_image(self) -> None:
        """Make an algorithm image of somebody else: the base image and a ``train`` that is ``exit 0``."""
        base = build_settings().base_image
        try:
            self.client.inspect_image(base)
        except docker.errors.ImageNotFound:
            try:
                self.client.pull(base)
            except docker.errors.APIError as error:
                raise EngineMissingError(f"the image {base} is not here and cannot be pulled") from error
        script = b"#!/bin/sh\nexit 0\n"
        member = tarfile.TarInfo("train")
        member.size, member.mode = len(script), 0o755
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(member, io.BytesIO(script))
        container = self.client.create_container(base, command=["train"], labels={_LABEL: self._mark})["Id"]
        self.client.put_archive(container, "/usr/local/bin", archive.getvalue())
        repository, _, tag = self.tiny_image.partition(":")
        self.client.commit(container, repository=repository, tag=tag)
        self.client.remove_container(container, v=True, force=True)

    def bundled_image(self, scratch: Path) -> str:
        """Return the launcher's own image, built first if this engine has none of this content."""
        tag: str = image_tag()
        try:
            self.client.inspect_image(tag)
        except docker.errors.ImageNotFound:
            print(f"Building the image {tag}; this can take some minutes.", flush=True)
            build_image(tag, scratch / "image-build.log")
        return tag

    def cycle(self, image: str, command: Sequence[str], **options: Any) -> None:
        """Create a container, start it, wait for it, remove it: the least that any launcher has to do.

        Args:
            image: what to run.
            command: replaces the image's command.
            options: more arguments for ``create_host_config``; ``entrypoint`` and ``user`` go to the container.
        """
        of_container = {name: options.pop(name) for name in ("entrypoint", "user") if name in options}
        # What the launcher asks of every container too: an init process, the default network, a whole log.
        log = docker.types.LogConfig(type="json-file", config={})
        container = self.client.create_container(
            image,
            command=list(command),
            labels={_LABEL: self._mark},
            host_config=self.client.create_host_config(init=True, log_config=log, **options),
            **of_container,
        )["Id"]
        self.client.start(container)
        code = self.client.wait(container)["StatusCode"]
        self.client.remove_container(container, v=True, force=True)
        if code != 0:
            raise RuntimeError(f"the floor's container ended with {code}")

    def clean_up(self, home: Path) -> None:
        """Remove the tiny image, and any container of this run that an interruption left."""
        for label in (f"{_LABEL}={self._mark}", f"launcher.home={home}"):
            for container in self.client.containers(all=True, filters={"label": label}):
                self.client.remove_container(container["Id"], v=True, force=True)
        try:
            self.client.remove_image(self.tiny_image, force=True)
        except docker.errors.ImageNotFound:
            return


@contextmanager
def engine_for(home: Path) -> Iterator[Engine]:
    """Yield an engine with the tiny image in it; of this run only the launcher's bundled image stays there.

    Raises:
        EngineMissingError: there is none to measure with.
    """
    if not engine_answers():
        raise EngineMissingError("no Docker engine answers")
    engine = Engine()
    try:
        engine.make_tiny_image()
        yield engine
    finally:
        engine.clean_up(home)


def caller() -> str:
    """Return ``uid:gid`` of whoever runs this."""
    return f"{os.getuid()}:{os.getgid()}"
