"""A programmable receiver over a real socket: it verifies signatures and answers as badly as a test asks.

    async with Receiver(keys=[key]) as receiver:
        receiver.script(reply(503, headers=[("Retry-After", "7")]), reply(204))
        ...
        assert receiver.requests[0].verified

What the script does not cover is answered by `reply(204)`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from webhooks.signing import verify

HEAD_BYTES_MAX = 64 * 1024
CHUNK = b"x" * 16 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; `connection` counts from 1, `verified` tells whether a key fits the signature."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    verified: bool


@dataclass(slots=True)
class Exchange:
    """What an answer works with: the two ends of the connection; returning False closes it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, data: bytes) -> None:
        """Send these bytes now."""
        self.writer.write(data)
        await self.writer.drain()

    async def pause(self, seconds: float) -> bool:
        """Wait, but no longer than the client stays; True while the client is there."""
        gone = asyncio.ensure_future(self.reader.read(1))
        done, _ = await asyncio.wait({gone}, timeout=seconds)
        gone.cancel()
        await asyncio.wait({gone})  # else the next request would find somebody reading
        return not done

    def reset(self) -> None:
        """Cut the connection without a goodbye."""
        self.writer.transport.abort()


Answer = Callable[[Exchange], Awaitable[bool]]


def reply(
    status: int = 204,
    *,
    headers: Sequence[tuple[str, str | bytes]] = (),
    body: bytes = b"",
    delay_s: float = 0,
    keep_alive: bool = True,
) -> Answer:
    """An honest response, perhaps late; with `keep_alive=False` the connection ends after it."""

    async def answer(exchange: Exchange) -> bool:
        if delay_s and not await exchange.pause(delay_s):
            return False
        await exchange.write(head(status, headers, len(body)) + body)
        return keep_alive

    return answer


def head(status: int, headers: Sequence[tuple[str, str | bytes]] = (), length: int | None = None) -> bytes:
    """The bytes of a response head; header values given as bytes go out untouched."""
    lines = [f"HTTP/1.1 {status} Status".encode()]
    lines += [f"{k}: ".encode() + (v if isinstance(v, bytes) else v.encode()) for k, v in headers]
    if length is not None and status != 204:
        lines.append(f"Content-Length: {length}".encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"


def raw(data: bytes, *, keep_alive: bool = False) -> Answer:
    """Exactly these bytes, whatever they are."""

    async def answer(exchange: Exchange) -> bool:
        await exchange.write(data)
        return keep_alive

    return answer


def drip(status: int = 200, *, interval_s: float = 0.02) -> Answer:
    """A body that comes one byte at a time and never ends."""

    async def answer(exchange: Exchange) -> bool:
        await exchange.write(head(status, (), 1_000_000))
        while await exchange.pause(interval_s):
            await exchange.write(b".")
        return False

    return answer


def endless(status: int = 200) -> Answer:
    """A body that comes as fast as it is read and never ends."""

    async def answer(exchange: Exchange) -> bool:
        await exchange.write(head(status, [("Transfer-Encoding", "chunked")]))
        while not exchange.writer.is_closing():
            await exchange.write(f"{len(CHUNK):x}\r\n".encode() + CHUNK + b"\r\n")
        return False

    return answer


def silence() -> Answer:
    """No answer for as long as the client waits."""

    async def answer(exchange: Exchange) -> bool:
        await exchange.pause(3600)
        return False

    return answer


def hang_up() -> Answer:
    """The request is read and the connection closed, as by a server whose keep-alive time was over."""

    async def answer(exchange: Exchange) -> bool:
        return False

    return answer


def reset(*, after: bytes = b"") -> Answer:
    """The connection is cut, perhaps after these bytes."""

    async def answer(exchange: Exchange) -> bool:
        if after:
            await exchange.write(after)
            await exchange.pause(0.05)
        exchange.reset()
        return False

    return answer


@dataclass
class Receiver:
    """An HTTP/1.1 server on loopback whose every answer can be scripted; an async context manager."""

    keys: Sequence[bytes] = ()
    ssl_context: ssl.SSLContext | None = None
    default: Answer = field(default_factory=reply)
    requests: list[Received] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._script: deque[Answer] = deque()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.ssl_context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where to post to by address."""
        return f"{'https' if self.ssl_context else 'http'}://127.0.0.1:{self.port}/hook"

    def script(self, *answers: Answer) -> None:
        """Answer the next requests in this way, in this order."""
        self._script.extend(answers)

    async def received(self, count: int, *, timeout_s: float = 10) -> list[Received]:
        """All requests once there are `count` of them; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._answer_all(self.connections, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            return  # the client left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_all(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self._read_request(connection, reader)
            async with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            answer = self._script.popleft() if self._script else self.default
            if not await answer(Exchange(reader, writer)):
                return

    async def _read_request(self, connection: int, reader: asyncio.StreamReader) -> Received:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Received(method, target, headers, body, connection, self._is_signed(headers, body))

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        if not self.keys or not all(name in headers for name in names):
            return False
        message_id, timestamp, signature = (headers[name] for name in names)
        return verify(message_id, int(timestamp), body, signature, self.keys)
