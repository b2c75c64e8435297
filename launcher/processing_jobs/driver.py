"""Sees a processing job through: the runner's steps, with a processing job's folders and results."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from launcher.channels.resolving import ChannelSource, source_of
from launcher.jobs.processing_record import ProcessingRecord
from launcher.jobs.processing_spec import ProcessingJobSpec, ProcessingOutput
from launcher.jobs.states import Status
from launcher.processing_jobs.plan import INPUTS, is_linked, make_processing_plan, present_inputs
from launcher.running.plan import RunPlan
from launcher.running.runner import HostsDriver
from launcher.running.syncing import FolderSync
from launcher.storage import recorded_storage, to_uri
from launcher.trees import OnSkip, Skipped

EXIT_MESSAGE_BYTES = 1024
"""What an ExitMessage holds of all hosts together."""


class ProcessingDriver(HostsDriver[ProcessingRecord]):
    """Sees a processing job through."""

    activity = "processing"
    uploading = "Uploading the outputs"

    @property
    def _spec(self) -> ProcessingJobSpec:
        return self._record.processing_spec

    def _folders_to_follow(self) -> list[FolderSync]:
        return [self._sync(output, output.uri) for output in self._managed_outputs if output.continuous]

    def _sync(self, output: ProcessingOutput, uri: str) -> FolderSync:
        storage = recorded_storage(uri, self._spec.s3)
        return FolderSync(f"output '{output.name}'", self._trees, output.tree_path, storage, uri)

    @property
    def _managed_outputs(self) -> list[ProcessingOutput]:
        return [output for output in self._spec.outputs if not output.app_managed]

    def _make_plan(self, channels: Mapping[str, ChannelSource]) -> RunPlan:
        return make_processing_plan(
            self._spec,
            home=self._store.home,
            job_path=self._folder.path,
            work_path=self._folder.work_path,
            channels=channels,
            network_interface=self._runtime.interface_of(len(self._hosts)),
        )

    def _lay_out(self) -> None:
        """Put links into each host's tree where something else lies inside an input; the rest is mounted."""
        channels = {name: ChannelSource(Path(path), is_file) for name, (path, is_file) in self._record.channels.items()}
        for host, tree in self._hosts:
            for given in present_inputs(self._spec):
                source = source_of(channels, host, given.channel.name)
                if is_linked(self._spec, given, source):
                    _link_files(source.path, tree.path / INPUTS / given.channel.name, tree.path / given.tree_path)

    def _results(self) -> tuple[Callable[[], None], ...]:
        return (
            self._note_failure_reason,
            self._note_exit_message,
            *(partial(self._copy_out, sync) for sync in self._syncs),
            *(partial(self._upload_at_end, output) for output in self._managed_outputs if not output.continuous),
        )

    def _upload_at_end(self, output: ProcessingOutput) -> None:
        """Copy out what a completed job has written; that of a job that failed or was stopped stays in its folder."""
        failed = any(self._record.exit_codes.values()) or self._record.failure_reason
        if self._record.status != Status.STOPPING and self._record.exit_codes and not failed:
            self._copy_out(self._sync(output, output.uri))
            return
        place = self._folder.path / "incomplete" / output.name
        self._copy_out(self._sync(output, to_uri(str(place))))
        if place.exists():
            self._record.warn(f"the output '{output.name}' was not uploaded, since the job did not complete: {place}")

    def _note_exit_message(self) -> None:
        """Note what the hosts have left for whoever describes the job; a text that is no UTF-8 fails it."""
        skipped = Skipped()
        texts = []
        for host, tree in self._hosts:
            beginning = tree.read_output("message", EXIT_MESSAGE_BYTES, skipped.add)
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:  # a character that the limit cuts in two is no fault
                texts.append(decoder.decode(beginning, final=len(beginning) < EXIT_MESSAGE_BYTES))
            except UnicodeDecodeError:
                reason = f"ClientError: /opt/ml/output/message of {host} is not UTF-8."
                self._record.failure_reason = self._record.failure_reason or reason
        self._warn([f"not read: {line}" for line in skipped.lines])
        self._record.exit_message = "".join(texts).encode()[:EXIT_MESSAGE_BYTES].decode("utf-8", "ignore")

    def _last_words(self, on_skip: OnSkip) -> dict[str, str]:
        """Return nothing: what the job says is in its ExitMessage."""
        return {host: "" for host, _ in self._hosts}


def _link_files(source: Path, mounted: Path, target: Path) -> None:
    """Make a link in ``target`` for each file of an input, to where the job will have it mounted."""
    for name in _files_below(source):
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        # Relative, so that it leads there in the job as well, wherever its tree is mounted.
        aim = os.path.relpath(mounted / name, link.parent)
        if not (link.is_symlink() and os.readlink(link) == aim):  # noqa: PTH115 - text, not a path
            link.unlink(missing_ok=True)
            link.symlink_to(aim)
    for parent, _, _ in os.walk(target):  # no link is followed
        Path(parent).chmod(0o777)


def _files_below(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, by their names."""
    paths = [
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in (*names, *(inner for inner in folders if Path(parent, inner).is_symlink()))
    ]
    return sorted((path.relative_to(folder).as_posix() for path in paths), key=os.fsencode)
