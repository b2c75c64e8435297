"""A job that runs elsewhere, of any kind, with the calls of one that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from launcher.errors import JobFailedError, JobNotFoundError, RemoteRequestError
from launcher.remote.client import JobKind, WireClient, is_missing
from launcher.remote.following import RemoteLogs, follow
from launcher.running.following import LineSink
from launcher.sdk.training_job import logs_wanted
from launcher.secrets import masked_text
from launcher.settings import AWS_MODE, home_path
from launcher.terminal import neutralised_text, print_line, say

COPIES = "remote"
"""The folder of a home with copies of what jobs of other places left."""


class RemoteJob:
    """What handles on jobs of another place have in common, before the class of a handle of this machine.

    Nothing of the job is recorded here; every answer is the place's own.

    Args:
        name: the job.
        client: of the place.
        warnings: for the user.
    Raises:
        JobNotFoundError: there is no such job.
        RemoteRequestError: the place does not say.
    """

    remote_kind: ClassVar[JobKind]
    noun: ClassVar[str]
    """The kind, as a person says it."""
    command_options = f" --mode {AWS_MODE}"

    def __init__(self, name: str, client: WireClient, *, warnings: tuple[str, ...] = ()) -> None:
        self.name = name
        self._client = client
        self._warned = warnings
        self._first = self._describe()

    @property
    def announcement(self) -> str:
        """What is said when it has been submitted."""
        return f"{self.noun.capitalize()} {self.name} on {self._client.place.title}"

    @property
    def status(self) -> str:
        """``InProgress``, ``Stopping``, ``Completed``, ``Failed`` or ``Stopped``."""
        return str(self._describe()[f"{self.remote_kind.noun}Status"])

    @property
    def failure_reason(self) -> str:
        """Why it failed; empty when it did not."""
        return str(self._describe().get("FailureReason", ""))

    @property
    def path(self) -> Path:
        """The folder of this machine that gets copies of its results."""
        return copies_path(self._client, self._first, self.remote_kind)

    @property
    def log_path(self) -> Path:
        """A copy of the first host's log, as it is now."""
        path = self.path / "job.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.logs(), encoding="utf-8")
        return path

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, of this submission."""
        return list(self._warned)

    def describe(self) -> dict[str, Any]:
        """Return what the kind's Describe operation answers."""
        return self._describe()

    def logs(self) -> str:
        """Return everything that the first host printed, as far as its log stream has it."""
        lines: list[str] = []
        self._read_logs(lambda host, line: lines.append(line) if host == "algo-1" else None)
        return "".join(f"{line}\n" for line in lines)

    def print_logs(self) -> None:
        """Print everything that the hosts printed so far, without control sequences but colours."""
        self._read_logs(self._printer())

    def wait(self, logs: str | bool = True, on_line: LineSink | None = None, *, looking_on: bool = False) -> None:
        """Follow the job until it has ended.

        Ctrl-C ends the waiting and not the job: it goes on there, and costs, until it is stopped.

        Args:
            logs: whether to print its log, by the SDK's values.
            on_line: gets every line of the log instead.
            looking_on: taken and not needed.
        Raises:
            JobFailedError: it failed.
        """
        shown = logs_wanted(logs)
        sink = on_line or (self._printer() if shown else None)
        said: list[str] = []

        def tell(description: Mapping[str, Any]) -> None:
            text = self._news(description)
            if shown and text and text not in said:
                said.append(text)
                say(text)

        try:
            description = follow(self._client, self.name, self.remote_kind, sink=sink, on_status=tell)
        except KeyboardInterrupt:
            say(f"{self.noun.capitalize()} {self.name} goes on at {self._client.place.title}.")
            raise
        if shown:
            self._say_end(description)
        self._raise_unless_done(description)

    def detach(self) -> None:
        """Do nothing: the job goes on there without this process."""

    def stop(self, wait: bool = True) -> None:
        """Stop the job; nothing happens when it has ended.

        Args:
            wait: until it has stopped.
        """
        self._client.stop(self.name, self.remote_kind)
        if wait:
            follow(self._client, self.name, self.remote_kind)

    def _news(self, description: Mapping[str, Any]) -> str:
        """Return what a description says that is worth a line; each line is printed once."""
        return ""

    def _say_end(self, description: Mapping[str, Any]) -> None:
        """Say what there is to say of a job that has ended."""

    @property
    def _hosts(self) -> int:
        return 1

    def _printer(self) -> LineSink:
        return partial(print_line, hosts=self._hosts)

    def _read_logs(self, sink: LineSink) -> None:
        if self.remote_kind.log_group:
            RemoteLogs(self._client, self.name, self.remote_kind).read(sink)

    def _describe(self) -> dict[str, Any]:
        try:
            return self._client.describe(self.name, self.remote_kind)
        except RemoteRequestError as error:
            if is_missing(error):
                raise JobNotFoundError(
                    f"no {self.noun} '{self.name}' at {self._client.place.title}.", "Names are case-sensitive."
                ) from error
            raise

    def _raise_unless_done(self, description: Mapping[str, Any]) -> None:
        if description[f"{self.remote_kind.noun}Status"] != "Failed":
            return
        reason = str(description.get("FailureReason", ""))
        raise JobFailedError(
            neutralised_text(f"{self.noun} '{self.name}': {masked_text(reason)}"),
            f"It ran on {self._client.place.title}; "
            + ("its log is in CloudWatch." if self.remote_kind.log_group else "its training jobs have logs."),
            job_name=self.name,
            reason=reason,
        )

    def _repr_html_(self) -> str | None:  # a notebook then shows the text
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, place={self._client.place.title!r})"


def copies_path(client: WireClient, description: Mapping[str, Any], kind: JobKind) -> Path:
    """Return the folder of this home for copies of a job's results; another job of that name has another.

    Args:
        description: as the kind's Describe operation answers.
    """
    _, _, _, region, account, *_ = description[f"{kind.noun}Arn"].split(":")
    place = "".join(letter if letter.isalnum() else "-" for letter in client.place.name)
    created = f"{description['CreationTime'].timestamp():.0f}"
    return home_path() / COPIES / f"{place}-{account}-{region}" / f"{description[f'{kind.noun}Name']}-{created}"
