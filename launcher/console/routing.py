"""Which page of the console a path is, for a caller who may see it: what ``serving.py`` has let in.

Somebody waits for the first page, the list of jobs: what only other pages need is loaded by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from markupsafe import Markup

from launcher.console import frame, pages
from launcher.console.access import HEADERS
from launcher.console.html import path_to, static_text
from launcher.console.reading import (
    JOB_KINDS,
    endpoint_view,
    files_at,
    job_files,
    job_view,
    listed_jobs,
    read_log,
    shown_document,
    text_begin,
)
from launcher.errors import BadInputError
from launcher.jobs.kinds import TRAINING_JOBS
from launcher.jobs.store import EndpointStore, JobStore, ModelStore
from launcher.s3_server.messages import Response
from launcher.s3_server.store import ObjectStore
from launcher.s3_server.wire import Head

_STATIC = {"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8"}
_FILTERS = ("text", "kind", "status")
_SLOW_SECTIONS = ("data", "results")  # of a comparison: they read all files
_LOG_BYTES, _TEXT_BYTES = 256 << 10, 64 << 10
_MAX_BEGIN = re.compile(r"[0-9]{1,9}")


class Pages:
    """The pages of one home.

    Args:
        home: ``LAUNCHER_HOME``.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def answer(self, parts: list[str], asked: Mapping[str, str], head: Head) -> Response:
        """Return a page.

        Args:
            parts: of its path.
            asked: its query.
        Raises:
            BadInputError: there is no such page, or no such thing.
            LauncherError, S3Error, OSError: what it shows cannot be read.
        """
        return self._job_list(asked) if not parts else self._other_page(parts, asked, head)

    def _other_page(self, parts: list[str], asked: Mapping[str, str], head: Head) -> Response:
        from launcher.console import live, places

        match parts:
            case ["events"]:
                return _stream(live.list_events(self._home, _filters(asked), _begin(asked)))
            case [name] if name in _STATIC:
                headers = {"Content-Type": _STATIC[name], "Cache-Control": "private, max-age=31536000, immutable"}
                return Response(200, {**HEADERS, **headers}, static_text(name).encode())
            case [folder, name] if folder in JOB_KINDS:
                return self._job(folder, name)
            case [folder, name, "events"] if folder in JOB_KINDS:
                place = head.headers.get("last-event-id", asked.get("at", ""))
                return _stream(live.job_events(self._home, folder, name, place))
            case [folder, name, "files"] if folder == TRAINING_JOBS.folder:
                parts_left = job_files(JobStore(self._home).load(name), self._home)
                return self._whole(f"Files of {name}", places.files_page(folder, name, parts_left))
            case ["compare"]:
                return self._comparison(asked, head)
            case ["endpoints"]:
                endpoints = EndpointStore(self._home).records()[0]
                return self._whole("Endpoints", places.endpoint_list(endpoints), place="endpoints")
            case ["endpoints", name]:
                return self._endpoint(name)
            case ["endpoints", name, "events"]:
                place = head.headers.get("last-event-id", asked.get("at", ""))
                return _stream(live.endpoint_events(self._home, name, place))
            case ["models"]:
                return self._whole("Models", places.model_list(ModelStore(self._home).records()[0]), place="models")
            case ["models", name]:
                record = ModelStore(self._home).load(name)
                spec = record.model_spec
                files, note = files_at(spec.model_uri, spec.s3, self._home) if spec.model_uri else ([], "")
                body = places.model_page(name, record, files, shown_document(record.request), note)
                return self._whole(name, body, place="models")
            case ["queue"]:
                from launcher.jobs.batch import BatchHome

                batch = BatchHome(self._home)
                body = places.queue_page(batch.queues.records()[0], batch.jobs.records()[0])
                return self._whole("Queue", body, place="queue")
            case ["storage", *place]:
                return self._storage(place, asked)
        raise BadInputError(f"The console has no page {path_to(*parts)[:200]}.")

    def _comparison(self, asked: Mapping[str, str], head: Head) -> Response:
        """Answer for the two jobs that stand in the query, each as ``job=KIND/NAME``."""
        from launcher.comparing.jobs import SECTIONS, compare_training_jobs  # takes as long to load as all the rest
        from launcher.console import places

        chosen = [value for name, value in parse_qsl(head.target.partition("?")[2]) if name == "job"]
        pairs = [identity.partition("/")[::2] for identity in chosen]
        if len(pairs) != 2 or any(folder != TRAINING_JOBS.folder for folder, _ in pairs):
            raise BadInputError("Choose two training jobs of the list to compare them.")
        views = [job_view(self._home, folder, name) for folder, name in pairs]
        whole = "whole" in asked
        sections = [name for name in SECTIONS if whole or name not in _SLOW_SECTIONS]
        comparison = compare_training_jobs(JobStore(self._home), views[0].name, views[1].name, sections)
        query = "" if whole else urlencode([*(("job", identity) for identity in chosen), ("whole", "1")])
        return self._whole("Two jobs", places.comparison_page(comparison, views, query))

    def _endpoint(self, name: str) -> Response:
        from launcher.console import live, places

        view = endpoint_view(self._home, name)
        log = read_log(EndpointStore(self._home).folder(name), _LOG_BYTES)
        events = f"{path_to('endpoints', name, 'events')}?{urlencode({'at': live.place_of(log.offsets)})}"
        return self._whole(name, places.endpoint_page(*view, log), place="endpoints", events=events)

    def _storage(self, place: list[str], asked: Mapping[str, str]) -> Response:
        from launcher.console import places
        from launcher.storage import embedded_path

        with ObjectStore(embedded_path(self._home)) as objects:
            match place:
                case []:
                    return self._whole("Storage", places.bucket_list(objects.usage()), place="storage")
                case [bucket]:
                    prefix = asked.get("prefix", "")
                    listing = objects.list_page(bucket, prefix, delimiter="/", after=asked.get("after", ""))
                    return self._whole(bucket, places.bucket_page(bucket, prefix, listing), place="storage")
                case [bucket, "object"]:
                    stored = objects.get(bucket, asked.get("key", ""))
                    body = places.object_page(stored, text_begin(stored.path, _TEXT_BYTES))
                    return self._whole(stored.key, body, place="storage")
        raise BadInputError(f"The console has no page {path_to('storage', *place)[:200]}.")

    def _job_list(self, asked: Mapping[str, str]) -> Response:
        filters, begin = _filters(asked), _begin(asked)
        lines, total = listed_jobs(
            self._home, folder=filters["kind"], text=filters["text"], status=filters["status"],
            begin=begin, limit=pages.PAGE_LINES,
        )  # fmt: skip
        events = f"{path_to('events')}?{urlencode({**filters, 'begin': begin})}"
        return self._whole("Jobs", pages.job_list(lines, filters, total, begin), events=events)

    def _job(self, folder: str, name: str) -> Response:
        from launcher.console import live

        view = job_view(self._home, folder, name)
        log = read_log(view.folder, _LOG_BYTES)
        place = urlencode({"at": live.place_of(log.offsets)})
        events = "" if view.record.terminal else f"{path_to(folder, name, 'events')}?{place}"
        return self._whole(name, pages.job_page(view, log), events=events)

    def _whole(self, title: str, body: Markup, *, place: str = "", events: str = "") -> Response:
        return _shown(frame.page(title, body, place=place, events=events, home=self._home))


def _shown(text: bytes, status: int = 200) -> Response:
    return Response(status, dict(HEADERS), text)


def _stream(events: Iterator[bytes]) -> Response:
    return Response(200, {**HEADERS, "Content-Type": "text/event-stream"}, parts=events, endless=True)


def _filters(asked: Mapping[str, str]) -> dict[str, str]:
    return {name: asked.get(name, "") for name in _FILTERS}


def _begin(asked: Mapping[str, str]) -> int:
    word = asked.get("begin", "0")
    return int(word) if _MAX_BEGIN.fullmatch(word) else 0
