"""A CONNECT proxy that keeps a program away from AWS: its hosts lead to the local endpoint, or are refused.

TLS of AWS's names ends here, by certificates of this home's own authority. What was inside goes to the local endpoint
byte for byte: it answers to AWS's names. Requests for services that are not served, and for the addresses where
machines of AWS ask for credentials, are refused. Every other host is a blind tunnel, or refused too when offline.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented for getproxies()

from launcher.aws.hosts import service_of_host
from launcher.aws.proxy_hosts import SERVED, is_loopback, is_metadata_address
from launcher.aws.proxy_refusals import answer, refusal
from launcher.aws_domains import is_aws_host
from launcher.aws_names.authority import Authority
from launcher.s3_server.errors import S3Error
from launcher.s3_server.wire import MAX_HEAD_BYTES, Head, read_head

LOOPBACK = "127.0.0.1"
_LOG = logging.getLogger("launcher.proxy")
_PIECE_BYTES = 1 << 16
_CONNECT_SECONDS = 30.0
_HEAD_SECONDS = 60.0
_DRAINED_BYTES = 16 << 20
_HOP_HEADERS = ("connection", "keep-alive", "proxy-authorization", "proxy-connection")
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Proxy:
    """Serves on a loopback port, in a thread of its own.

    Args:
        endpoint: returns address and port of the local AWS endpoint, which it starts if need be.
        authority: of the home.
        offline: whether hosts that are not AWS's are refused as well.
        outside: variables of the caller that name a proxy for the outside, and what goes past it. Default: none.
    """

    def __init__(
        self,
        endpoint: Callable[[], tuple[str, int]],
        authority: Authority,
        *,
        offline: bool = False,
        outside: dict[str, str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._authority = authority
        self._offline = offline
        self._outside = outside or {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def serve(self, connection: socket.socket, head: Head, begun: bytes) -> None:
        """Serve a connection of somebody else's server to its end, in the same thread for all of them.

        Args:
            connection: belongs to the proxy from now on.
            head: the request that came.
            begun: what was read of the connection behind the head.
        """
        with self._lock:
            if self._loop is None:
                self._loop, _ = _running_loop()
        asyncio.run_coroutine_threadsafe(self._adopt(connection, head, begun), self._loop).result()

    async def _adopt(self, connection: socket.socket, head: Head, begun: bytes) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_HEAD_BYTES)
        reader.feed_data(begun)
        await self._serve(reader, writer, head)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve meanwhile; give the URL that a program names as its proxy."""
        loop, thread = _running_loop()
        starting = asyncio.start_server(self._serve, LOOPBACK, 0, limit=MAX_HEAD_BYTES, backlog=256)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        try:
            yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        finally:
            asyncio.run_coroutine_threadsafe(self._close(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: Reader, writer: Writer, head: Head | None = None) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            head = head or await _head(reader)
            if head is None:
                return
            if head.method == "CONNECT":
                await self._connect(head, reader, writer)
            else:
                await self._plain(head, reader, writer)
        except (OSError, EOFError, ValueError, S3Error, TimeoutError) as error:
            _LOG.debug("a connection ended: %s", error)
        except asyncio.CancelledError:
            # Up to Python 3.11 asyncio logs a cancelled connection as an error, into a notebook's cell too.
            _LOG.debug("a connection ended with the proxy")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(self, head: Head, reader: Reader, writer: Writer) -> None:
        """Answer ``CONNECT host:port``."""
        host, _, port = head.target.rpartition(":")
        host = host.strip("[]").rstrip(".").lower()
        if not host or not port.isascii() or not port.isdigit():
            await _say(writer, HTTPStatus.BAD_REQUEST, f"{head.target} is no host and port.")
        elif is_aws_host(host):
            context = await asyncio.to_thread(self._authority.context, host)
            writer.write(_ESTABLISHED)
            inner_reader, inner_writer = await _end_tls(reader, writer, context)
            service = service_of_host(host)
            try:
                if service in SERVED:
                    await self._relay_to_endpoint(b"", inner_reader, inner_writer)
                else:
                    await _refuse(service, host, inner_reader, inner_writer)
            finally:
                inner_writer.close()
        elif reason := self._why_not(host):
            await _say(writer, HTTPStatus.FORBIDDEN, reason)
        else:
            try:
                there = await self._reach(host, int(port))
            except (OSError, EOFError, TimeoutError) as error:
                await _say(writer, HTTPStatus.BAD_GATEWAY, f"{host}:{port} cannot be reached: {error}")
                return
            writer.write(_ESTABLISHED)
            await _relay(reader, writer, *there)

    async def _plain(self, head: Head, reader: Reader, writer: Writer) -> None:
        """Answer a request for ``http://host/path``."""
        parts = urlsplit(head.target)
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme != "http" or not host:
            await _say(writer, HTTPStatus.BAD_REQUEST, f"{head.target} is no address of HTTP.")
            return
        target = parts._replace(scheme="", netloc="").geturl() or "/"
        if is_aws_host(host):
            service = service_of_host(host)
            if service in SERVED:
                await self._relay_to_endpoint(_request(head, target), reader, writer)
            else:
                writer.write(refusal(head, service, host))
                await _finish(reader, writer)
        elif reason := self._why_not(host):
            await _say(writer, HTTPStatus.FORBIDDEN, reason)
        else:
            proxy = self._proxy_for("http", host)
            try:
                there = (
                    await _open(proxy.hostname or "", proxy.port or 80)
                    if proxy
                    else await _open(host, parts.port or 80)
                )
            except (OSError, TimeoutError) as error:
                await _say(writer, HTTPStatus.BAD_GATEWAY, f"{host} cannot be reached: {error}")
                return
            there[1].write(_request(head, head.target, _proxy_headers(proxy)) if proxy else _request(head, target))
            await _relay(reader, writer, *there)

    def _why_not(self, host: str) -> str:
        """Return why a host that is not AWS's by its name is refused; empty where it is not."""
        if is_metadata_address(host):
            return f"{host} is where machines of AWS get their credentials, and this program runs on none."
        if self._offline and not is_loopback(host):
            return f"{host} is outside, and this program runs offline: launcher exec --offline."
        return ""

    async def _relay_to_endpoint(self, begun: bytes, reader: Reader, writer: Writer) -> None:
        there = await _open(*await asyncio.to_thread(self._endpoint))
        there[1].write(begun)
        await _relay(reader, writer, *there)

    async def _reach(self, host: str, port: int) -> tuple[Reader, Writer]:
        """Return a connection to a host outside, through the caller's own proxy where there is one."""
        proxy = self._proxy_for("https", host)
        if proxy is None:
            return await _open(host, port)
        there = await _open(proxy.hostname or "", proxy.port or 80)
        name = f"[{host}]" if ":" in host else host
        lines = [f"CONNECT {name}:{port} HTTP/1.1", f"Host: {name}:{port}", *_proxy_headers(proxy), "", ""]
        there[1].write("\r\n".join(lines).encode())
        status = (await there[0].readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        if status.split(b" ")[1:2] != [b"200"]:
            there[1].close()
            raise ConnectionError(f"the proxy {proxy.hostname} says {status.decode('latin-1')}")
        return there

    def _proxy_for(self, scheme: str, host: str) -> SplitResult | None:
        """Return the caller's own proxy for a host; None where it goes without one."""
        values = {name.lower(): value for name, value in self._outside.items() if value}
        url = values.get(f"{scheme}_proxy") or values.get("all_proxy")
        passed = {"no": values.get("no_proxy", "")}
        if not url or is_loopback(host) or proxy_bypass_environment(host, passed):
            return None
        return urlsplit(url if "://" in url else f"http://{url}")


def _running_loop() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="launcher-proxy", daemon=True)
    thread.start()
    return loop, thread


async def _head(reader: Reader) -> Head | None:
    """Read a request up to its body; None where the connection ended before."""
    try:
        text = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    return read_head(io.BytesIO(text))


def _request(head: Head, target: str, further: tuple[str, ...] = ()) -> bytes:
    """Return the head of a request for another server, after whose answer the connection ends."""
    lines = [f"{head.method} {target} HTTP/1.1", *further, "connection: close"]
    lines += [f"{name}: {value}" for name, value in head.headers.items() if name not in _HOP_HEADERS]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _proxy_headers(proxy: SplitResult) -> tuple[str, ...]:
    if proxy.username is None:
        return ()
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return (f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}",)


async def _open(host: str, port: int) -> tuple[Reader, Writer]:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_SECONDS)
    peer = writer.get_extra_info("peername")[0]
    if is_metadata_address(peer):  # by another name, such as instance-data.ec2.internal
        writer.close()
        raise ConnectionRefusedError(f"{host} is {peer}, where machines of AWS get their credentials")
    return reader, writer


async def _end_tls(reader: Reader, writer: Writer, context: ssl.SSLContext) -> tuple[Reader, Writer]:
    """Return what is inside the TLS of a connection that this side is the server of."""
    loop = asyncio.get_running_loop()
    await writer.drain()
    inner = Reader(limit=MAX_HEAD_BYTES)
    protocol = _Inside(inner)
    transport = await loop.start_tls(writer.transport, protocol, context, server_side=True)
    if transport is None:
        raise ConnectionError("the client is gone")
    return inner, Writer(transport, protocol, inner, loop)


class _Inside(asyncio.StreamReaderProtocol):
    """TLS knows no half-closed connection."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _refuse(service: str, host: str, reader: Reader, writer: Writer) -> None:
    head = await _head(reader)
    if head is None:
        return
    if head.expects_continue:  # the client may wait for this before it reads anything else
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.write(refusal(head, service, host))
    await _finish(reader, writer)


async def _say(writer: Writer, status: HTTPStatus, words: str) -> None:
    writer.write(answer(status, f"launcher: {words}\n".encode(), Connection="close"))
    await writer.drain()


async def _finish(reader: Reader, writer: Writer) -> None:
    """Send what is written, and read what the client still sends, so that it gets to read the answer."""
    await writer.drain()
    with contextlib.suppress(OSError, TimeoutError):
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(2):
            left = _DRAINED_BYTES
            while left > 0 and (data := await reader.read(_PIECE_BYTES)):
                left -= len(data)


async def _relay(reader: Reader, writer: Writer, other_reader: Reader, other_writer: Writer) -> None:
    """Hand bytes over in both directions until the other side has no more, or either is gone."""
    outwards = asyncio.create_task(_copy(reader, other_writer))
    try:
        await _copy(other_reader, writer)
    finally:
        outwards.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await outwards
        other_writer.close()


async def _copy(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(_PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def outside_variables() -> dict[str, str]:
    """Return the variables by which the caller itself gets outside."""
    names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() in names}
