"""A receiver that costs next to nothing: it accepts every POST and notes when which one came, in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, cast

import uvloop

HANG = b"POST /hang"
_ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"
_ID = b"webhook-id: "


class Taken(NamedTuple):
    """One POST that was accepted: its path, its `webhook-id`, and the moment on the clock that processes share."""

    target: str
    webhook_id: str
    at: float


class _Receiving(asyncio.Protocol):
    """One connection: requests come one after the other, each answered at once; those to `/hang` never."""

    def __init__(self, seen: list[Taken]) -> None:
        self._seen = seen
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        head_ends = self._buffer.find(b"\r\n\r\n")
        if head_ends < 0:
            return False
        head = bytes(self._buffer[:head_ends])
        ends = head_ends + 4 + _content_length(head)
        if len(self._buffer) < ends:
            return False
        del self._buffer[:ends]
        if not head.startswith(HANG):
            self._seen.append(Taken(_target(head), _webhook_id(head), time.monotonic()))
            assert self._transport is not None
            self._transport.write(_ACCEPTED)
        return True


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if rest else 0


def _target(head: bytes) -> str:
    return head.split(b" ", 2)[1].decode()


def _webhook_id(head: bytes) -> str:
    _, _, rest = head.partition(_ID)
    return rest[:36].decode()


class Sink:
    """The receiver as the bench sees it."""

    def __init__(self, port: int, pipe: Connection) -> None:
        self.url = f"http://127.0.0.1:{port}/take"
        self.hanging_url = f"http://127.0.0.1:{port}/hang"
        self._pipe = pipe

    def taken(self) -> list[Taken]:
        """What came since the last time it was asked."""
        self._pipe.send(None)
        seen: list[Taken] = self._pipe.recv()
        return seen


@contextmanager
def sink() -> Iterator[Sink]:
    """A running one."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Sink(ours.recv(), ours)
    finally:
        process.kill()
        process.join()


def _run(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    seen: list[Taken] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Receiving(seen), "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    threading.Thread(target=_tell, args=(pipe, seen), daemon=True).start()
    await asyncio.Event().wait()


def _tell(pipe: Connection, seen: list[Taken]) -> None:
    """Answer each question with what came since the one before."""
    while True:
        pipe.recv()
        count = len(seen)
        pipe.send(seen[:count])
        del seen[:count]
