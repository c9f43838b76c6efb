"""Loops that wait for work look again in time, and end when told to."""

from __future__ import annotations

import asyncio

import pytest
from chassis.waking import woken


async def test_a_set_event_is_unset_at_once() -> None:
    """What comes later wakes once more."""
    wake = asyncio.Event()
    wake.set()

    await woken(wake, within_s=60)

    assert not wake.is_set()


async def test_the_pause_ends_by_itself() -> None:
    """Nobody needs to set anything."""
    wake = asyncio.Event()

    await asyncio.wait_for(woken(wake, within_s=0.01), 5)

    assert not wake.is_set()


async def test_a_loop_whose_cancellation_was_swallowed_ends_all_the_same() -> None:
    """As by a library: the task goes on with its work, and ends before it waits again."""
    swallowed = asyncio.Event()

    async def loop() -> None:
        while True:
            try:
                await asyncio.Event().wait() if not swallowed.is_set() else None
            except asyncio.CancelledError:
                swallowed.set()
            await woken(asyncio.Event(), within_s=60)

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert swallowed.is_set()
