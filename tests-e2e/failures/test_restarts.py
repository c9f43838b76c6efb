"""Processes and servers that come and go while events flow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chassis.testing.processes import Process
from chassis.testing.rig import Rig

from scripts.chaos import Chaos

SMALL = 5_000


async def _start(rig: Rig) -> tuple[list[Process], list[Process]]:
    made = await asyncio.gather(*(rig.started(side) for side in ["producer"] * 2 + ["consumer"] * 3))
    return list(made[:2]), list(made[2:])


@pytest.mark.fault("rolling restart of everything under load")
async def test_every_process_is_restarted_in_turn_under_load(rig: Rig) -> None:
    """A release: each process is asked to leave, ends without an error, and the next one takes its place."""
    producers, workers = await _start(rig)
    async with rig.load(producers):
        codes = []
        for process in (*producers, *workers):
            codes.append(await process.stop())
            process.start()
            await process.ready()

    verdict = await rig.at_rest()

    assert codes == [0] * 5
    assert verdict.sent > 0


@pytest.mark.slow
@pytest.mark.fault("rolling restart of everything under load")
async def test_every_server_and_process_is_restarted_under_load(rig: Rig, stack: Any) -> None:
    """Broker, database and Redis are restarted in an orderly way, then every process, twice over."""
    producers, workers = await _start(rig)
    async with rig.load(producers):
        for _ in range(2):
            for server in ("rabbitmq", "postgres", "redis"):
                await asyncio.to_thread(stack.restart, server)
            for process in (*producers, *workers):
                assert await process.stop() == 0
                process.start()
                await process.ready()

    verdict = await rig.at_rest(timeout_s=90)

    assert verdict.sent > 0


@pytest.mark.slow
@pytest.mark.fault("rolling restart of everything under load")
async def test_random_kills_of_everything(rig: Rig, stack: Any) -> None:
    """`scripts/chaos` in small: kill -9 of every process again and again, of the broker and of the database once each."""
    chaos = Chaos(rig, stack, SMALL, seconds=25, seed=1, kill_pause_s=(0.2, 1.0))

    verdict = await chaos.run()

    assert verdict.sent >= SMALL
    assert chaos.restarts == ["rabbitmq", "postgres"]
    assert set(chaos.kills) == {process.name for process in chaos.processes}
