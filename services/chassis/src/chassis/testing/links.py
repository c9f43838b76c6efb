"""A TCP link that tests can cut, refuse, slow down or let go silent, for AMQP and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65_536
SLICES_PER_S = 20  # a narrow link sends this many pieces a second


class Link:
    """A proxy on loopback towards the server of `url`; `self.url` is the same address through the link.

    What is set holds for connections that are open and for those that come, but for `silence`: a connection that
    swallowed bytes cannot be mended, so it stays silent until somebody closes it, while new ones pass again.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._target = (self._parts.hostname or "127.0.0.1", self._parts.port or 0)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.accepts_silently = False
        self.replaces: tuple[bytes, bytes] | None = None
        self.opened = 0

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    @property
    def url(self) -> str:
        """The server's address through this link."""
        credentials = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    async def accept(self) -> None:
        """Take connections (again), on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Reset all connections and refuse new ones, as a server that is not there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset all connections now; new ones pass."""
        for connection in list(self._connections):
            connection.abort()

    def silence(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Half-open: whoever is connected stays so, and what is sent from now on vanishes; new connections pass."""
        for connection in self._connections:
            connection.swallows_to_server |= to_server
            connection.swallows_to_client |= to_client

    def replace_once(self, sent: bytes, arrived: bytes) -> None:
        """Have the first `sent` that a client sends from now on arrive as `arrived`, which is of the same length."""
        self.replaces = sent, arrived

    def changed(self, data: bytes) -> bytes:
        """What arrives at the server of what a client sent."""
        if self.replaces is not None and self.replaces[0] in data:
            data, self.replaces = data.replace(*self.replaces, 1), None
        return data

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self._connections.add(connection)
        self.opened += 1
        try:
            await connection.run(reader, self._target)
        finally:
            connection.abort()
            self._connections.discard(connection)


class _Connection:
    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link = link
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self.swallows_to_server = self.swallows_to_client = link.accepts_silently

    async def run(self, reader: asyncio.StreamReader, target: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            far_reader, self._server = await asyncio.open_connection(*target)
            to_server = asyncio.ensure_future(self._pump(reader, self._server, "swallows_to_server"))
            to_client = asyncio.ensure_future(self._pump(far_reader, self._client, "swallows_to_client"))
            await asyncio.gather(to_server, to_client, return_exceptions=True)

    def abort(self) -> None:
        for writer in (self._client, self._server):
            if writer is not None:
                writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallows: str) -> None:
        while data := await reader.read(self._chunk_bytes()):
            if getattr(self, swallows):
                continue
            await asyncio.sleep(self._pause_s(len(data)))
            if not getattr(self, swallows):
                writer.write(self._link.changed(data) if writer is self._server else data)
                await writer.drain()
        if not getattr(self, swallows):
            writer.close()

    def _chunk_bytes(self) -> int:
        rate = self._link.bytes_per_s
        return CHUNK_BYTES if rate is None else max(1, int(rate / SLICES_PER_S))

    def _pause_s(self, size: int) -> float:
        rate = self._link.bytes_per_s
        return self._link.delay_s + (0.0 if rate is None else size / rate)
