"""Chunks decoded in other processes: the same as here; a process that dies is replaced; none outlives its parent."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from uuid import UUID

import pytest
from chassis.testing import eventually
from resources.catalogue.preparing import Rows, prepare
from resources.decoding import Decoders, DecodersAtHand

from services.resources.tests.loading import ndjson, rows

ROWS = Rows(UUID(int=7), "11222333000181", 1, 1, [*ndjson(rows(40)).splitlines(), b'{"sku":"x"}'])
PARENT = """
import asyncio, multiprocessing, time
from services.resources.tests.test_decoding import ROWS
from resources.decoding import Decoders

async def main():
    decoders = Decoders()
    await asyncio.gather(*(decoders.prepare(ROWS) for _ in range(4)))
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """Some of our own."""
    own = Decoders()
    yield own
    own.close()


def children() -> list[int]:
    """The processes of our own that decode."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def is_alive(pid: int) -> bool:
    """The process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_other_processes_prepare_the_same(decoders: Decoders) -> None:
    """Products, rejects and counts, whichever process does it."""
    chunks = await asyncio.gather(*(decoders.prepare(ROWS) for _ in range(6)))

    assert all(chunk == prepare(ROWS) for chunk in chunks)
    assert chunks[0].rows == len(chunks[0].keys) + len(chunks[0].rejected) == 41


async def test_a_process_that_dies_is_replaced(decoders: Decoders) -> None:
    """Whoever waits for it is told; the next chunk is prepared by another."""
    before = children()
    await decoders.prepare(ROWS)
    waiting = [asyncio.create_task(decoders.prepare(ROWS)) for _ in range(50)]
    for pid in set(children()) - set(before):
        os.kill(pid, signal.SIGKILL)

    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert any(isinstance(each, BrokenProcessPool) for each in found)
    assert await decoders.prepare(ROWS) == prepare(ROWS)


async def test_rows_that_take_for_ever_end_their_process() -> None:
    """The process is gone, not only forgotten."""
    hasty = Decoders(time_s_max=0.0001)
    before = children()
    many = Rows(ROWS.load_id, ROWS.cnpj, 1, 1, ROWS.data * 2000)

    with pytest.raises(BrokenProcessPool):
        await hasty.prepare(many)

    await eventually(lambda: not set(children()) - set(before))


async def test_none_outlives_its_parent() -> None:
    """Killed without a word, a worker leaves nobody behind."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert pids
    assert all(is_alive(pid) for pid in pids)

    parent.kill()
    await parent.wait()

    await eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_loads_do_not_share_decoders() -> None:
    """Rows that kill a process are nobody else's failure; what one load had the next one gets."""
    at_hand = DecodersAtHand()

    with at_hand.taken() as first, at_hand.taken() as second:
        assert first is not second
    with at_hand.taken() as again:
        assert again in (first, second)
