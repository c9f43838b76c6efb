"""Chunks decoded in other processes: the same as here; one that dies is replaced; none outlives who waits for it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from chassis.testing import eventually
from resources.catalogue.preparing import Rows, prepare
from resources.decoding import PROCESSES, DecoderLost, Decoders

from services.resources.tests.loading import ndjson, rows

ROWS = Rows(UUID(int=7), "11222333000181", 1, 1, [*ndjson(rows(40)).splitlines(), b'{"sku":"x"}'])
MANY = replace(ROWS, data=ROWS.data * 500)
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


async def test_what_kills_a_process_is_the_failure_of_its_own_rows_only(decoders: Decoders) -> None:
    """Whoever waits for the process is told; all other chunks are prepared, by those that are left and by new ones."""
    before = children()
    waiting = [asyncio.create_task(decoders.prepare(MANY)) for _ in range(20)]
    await eventually(lambda: len(set(children()) - set(before)) == PROCESSES)
    os.kill((set(children()) - set(before)).pop(), signal.SIGKILL)

    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(each) for each in found if isinstance(each, BaseException)] == [DecoderLost]
    assert await decoders.prepare(ROWS) == prepare(ROWS)


async def test_rows_that_take_for_ever_end_their_process() -> None:
    """The process is gone, not only forgotten."""
    hasty, before = Decoders(time_s_max=0.0001), children()

    with pytest.raises(DecoderLost):
        await hasty.prepare(MANY)

    assert not set(children()) - set(before)


async def test_a_process_that_hangs_is_ended(decoders: Decoders) -> None:
    """One that does not even take the rows is gone in time, and another takes its place."""
    before = children()
    await decoders.prepare(ROWS)
    (pid,) = set(children()) - set(before)
    os.kill(pid, signal.SIGSTOP)
    decoders.time_s_max = 0.1

    with pytest.raises(DecoderLost):
        await decoders.prepare(MANY)  # more than a pipe holds

    assert not is_alive(pid)
    decoders.time_s_max = 60
    assert await decoders.prepare(ROWS) == prepare(ROWS)


async def test_who_stops_waiting_leaves_no_process_behind(decoders: Decoders) -> None:
    """The answer to rows that nobody waits for is not taken for that to the next."""
    before = children()
    waiting = asyncio.create_task(decoders.prepare(MANY))
    await eventually(lambda: set(children()) - set(before))
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert not set(children()) - set(before)
    assert await decoders.prepare(ROWS) == prepare(ROWS)


async def test_what_decoding_raises_is_raised_here(decoders: Decoders) -> None:
    """A slip of ours keeps its name, and the process goes on."""
    with pytest.raises(TypeError):
        await decoders.prepare(replace(ROWS, data=None))  # type: ignore[arg-type]

    assert await decoders.prepare(ROWS) == prepare(ROWS)


async def test_none_outlives_its_parent() -> None:
    """Killed without a word, a worker leaves nobody behind."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == PROCESSES
    assert all(is_alive(pid) for pid in pids)

    parent.kill()

    await eventually(lambda: not any(is_alive(pid) for pid in pids))
    await parent.communicate()  # which waits for whoever has its output, too
