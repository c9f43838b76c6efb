"""The link that tests break: what is set is what happens, else a fault would be tested that never was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from chassis.testing.links import Link

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """To a server that says again what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Link(f"amqp://user:secret@127.0.0.1:{port}/host") as opened:
        yield opened
    server.close()


async def connected(link: Link) -> Streams:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def said(streams: Streams, text: bytes) -> bytes:
    """What comes back within a short time."""
    reader, writer = streams
    writer.write(text)
    try:
        return await asyncio.wait_for(reader.readexactly(len(text)), 0.5)
    except TimeoutError:
        return b""


async def test_the_address_is_the_servers_but_for_host_and_port(link: Link) -> None:
    """Credentials and path stay."""
    assert link.url == f"amqp://user:secret@127.0.0.1:{link.port}/host"


async def test_what_is_sent_arrives(link: Link) -> None:
    """Unless told otherwise."""
    assert await said(await connected(link), b"hello") == b"hello"


async def test_cut_connections_are_reset_and_new_ones_pass(link: Link) -> None:
    """As by a router that lost its state."""
    streams = await connected(link)
    assert await said(streams, b"hello")
    link.cut()

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said(streams, b"again")
    assert await said(await connected(link), b"hello") == b"hello"


@pytest.mark.parametrize(("to_server", "to_client"), [(True, True), (True, False), (False, True)])
async def test_a_silent_connection_stays_open_and_new_ones_pass(link: Link, to_server: bool, to_client: bool) -> None:
    """Half-open: nobody is told anything."""
    streams = await connected(link)
    assert await said(streams, b"hello")
    link.silence(to_server=to_server, to_client=to_client)

    assert await said(streams, b"again") == b""
    assert not streams[0].at_eof()
    assert await said(await connected(link), b"hello") == b"hello"


async def test_a_refused_connection_is_refused_until_it_is_accepted(link: Link) -> None:
    """On the same port."""
    await link.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connected(link)
    await link.accept()

    assert await said(await connected(link), b"hello") == b"hello"


async def test_delay_and_bandwidth_take_their_time(link: Link) -> None:
    """There and back."""
    link.delay_s, link.bytes_per_s = 0.05, 100_000
    streams, began = await connected(link), time.monotonic()

    assert await said(streams, b"x" * 10_000)
    assert time.monotonic() - began >= 0.2


async def test_the_first_occurrence_is_replaced(link: Link) -> None:
    """And no other."""
    link.replace_once(b"one", b"two")

    assert await said(await connected(link), b"one one") == b"two one"
