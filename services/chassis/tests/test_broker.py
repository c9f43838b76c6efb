"""A connection is rebuilt whatever became of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
import uvloop
from chassis.broker import Publisher
from chassis.testing import eventually
from chassis.testing.links import Link

TIMES = 20
HANGING_UP = f"""
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
for _ in range({TIMES}):
    listener.accept()[0].close()
"""


@pytest.fixture
def starting() -> Iterator[subprocess.Popen[str]]:
    """A server that takes connections and hangs up at once, some times; a process of its own, so that it is fast enough."""
    with subprocess.Popen([sys.executable, "-c", HANGING_UP], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def test_a_server_that_hangs_up_during_the_handshake_is_tried_again(
    broker_url: str, starting: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is starting does, or what stands before it: the process stays, and is connected once it is let in."""
    monkeypatch.setattr("chassis.broker.RECONNECT_DELAYS_S", (0.01,))
    assert starting.stdout is not None
    link = Link(broker_url)
    link.port = int(starting.stdout.readline())

    async def connect() -> None:
        publisher = Publisher(link.url, name="patient")
        running = asyncio.ensure_future(publisher.run())
        await asyncio.wait(
            {running, asyncio.ensure_future(publisher.ready.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        assert not running.done(), running.exception()
        running.cancel()

    connecting = asyncio.ensure_future(asyncio.to_thread(uvloop.run, connect()))  # the loop that services run on
    await eventually(lambda: starting.poll() is not None)
    async with link:
        await connecting
