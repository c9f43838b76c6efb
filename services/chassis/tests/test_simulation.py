"""Relay and consumers keep their promises in every world that a seed makes, and a broken promise is found."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
import structlog
from chassis.testing.simulation.explore import explore, run_some
from chassis.testing.simulation.loop import OWNER, NothingLeft, VirtualLoop
from chassis.testing.simulation.plants import PLANTS
from chassis.testing.simulation.run import run
from chassis.testing.simulation.schedule import schedule_of

SCHEDULES = 400
FOUND_WITHIN = 400  # schedules, whatever is planted
BROKEN, KEPT = 1, 0  # exit codes of the command


@pytest.fixture
def quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def _simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.simulation", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})


def test_every_promise_is_kept_through_hundreds_of_schedules() -> None:
    """Each committed event has its effect once in each consumer, in order, and everything comes to rest."""
    report = explore(0, SCHEDULES, workers=2)

    assert report.broken == []
    assert report.schedules == SCHEDULES
    assert report.applied > 10 * SCHEDULES
    assert report.deaths > SCHEDULES // 2


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(quiet: None, plant: str) -> None:
    """With one piece of the logic or the store broken, one of a few hundred schedules breaks a promise."""
    report = run_some(range(FOUND_WITHIN), plant, 1)

    assert len(report.broken) == 1


def test_a_seed_is_the_same_run_in_every_process(quiet: None) -> None:
    """Whatever the order in memory and of hashes: the same effects at the same instants, the same number of draws."""
    here = run_some(range(1_000, 1_020), None, 1)
    elsewhere = explore(1_000, 20, workers=1)

    assert here.digests == elsewhere.digests
    assert len(set(here.digests.values())) == 20


def test_being_watched_changes_nothing(quiet: None) -> None:
    """A traced run is the run that was seen to fail."""
    assert run(7, traced=True).digest == run(7).digest


def test_the_command_tells_the_seed_that_breaks_a_promise_and_reproduces_it() -> None:
    """Its schedule and a line to repeat it; alone, the seed tells all that happened and ends with the same violation."""
    found = _simulate("--schedules", "50", "--first", "0", "--workers", "1", "--plant", "gate-skips-gap")
    [violation] = [line for line in found.stdout.splitlines() if line.startswith("BROKEN")]
    [again] = [line for line in found.stdout.splitlines() if line.startswith("reproduce with")]
    alone = _simulate(*again.split()[3:])

    assert (found.returncode, alone.returncode) == (BROKEN, BROKEN)
    assert f"seed {again.split()[4]}" in found.stdout
    assert violation in alone.stdout
    assert "dies" in alone.stdout


def test_the_command_says_when_every_promise_was_kept() -> None:
    """Exit code 0 and the figures."""
    done = _simulate("--schedules", "10", "--workers", "1")

    assert done.returncode == KEPT, done.stdout
    assert "10 schedules" in done.stdout
    assert "broken: 0" in done.stdout


REACHED = {
    "applies", "is parked", "is noted for the ladder", "is tried alone", "is lost in", "facts.resent", "refused, yet in",
    "permanent", "exhausted", "crashed", "broker", "redriving", "discarded", "told to leave", "goes on",
    "outbox.lease_lapsed", "outbox.refused", "outbox.quarantined", "outbox.leases_kept", "outbox.database_unavailable",
    "event.retry", "consumer.batch_failed", "consumer.paused", "consumer.retry_not_published", "gap.asked",
    "gap.not_asked", "gaps.postponed", "reached outbox.read", "reached outbox.confirmed", "reached consumer.handled",
    "reached consumer.committed", "reached consumer.parked", "reached consumer.retry_published",
    "reached deadletter.kept",
}  # fmt: skip


def test_what_the_chassis_does_in_trouble_is_done() -> None:
    """Every way out of the logic, and every place to crash, is taken by one of a few hundred runs."""
    missing = set(REACHED)
    for seed in range(FOUND_WITHIN):
        told = "\n".join(run(seed, traced=True).trace)
        missing -= {text for text in missing if text in told}
        if not missing:
            break

    assert missing == set()


def test_schedules_differ_and_leave_things_out() -> None:
    """Half of the seeds do without any one kind of trouble; some have none at all."""
    schedules = [schedule_of(seed) for seed in range(400)]

    calm = [s for s in schedules if s.weather.nack == 0]
    assert 120 < len(calm) < 280
    assert {kind for s in schedules for kind in (fault.kind for fault in s.faults)} == set(_kinds())
    assert {(s.relays, s.consumers) for s in schedules} == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)}


def _kinds() -> tuple[str, ...]:
    from chassis.testing.simulation.schedule import DISTURBANCES

    return DISTURBANCES


class _Owner:
    stopped = False

    def __init__(self) -> None:
        self.held: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []


def test_time_is_what_is_waited_for() -> None:
    """An hour passes at once, deadlines hold, and things happen in the order of their times."""
    loop, seen = VirtualLoop(), []

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, loop.time()))

    async def whole() -> None:
        await asyncio.gather(wait(3_600), wait(1), wait(60))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()

    loop.run_until_complete(whole())
    assert seen == [(1, 1), (60, 60), (3_600, 3_600)]
    assert loop.time() == 3_610
    loop.close()


def test_a_stopped_process_takes_no_step_and_then_takes_them_all() -> None:
    """Its timers run out meanwhile; what happens outside of it happens."""
    loop, owner, seen = VirtualLoop(), _Owner(), []

    async def steps() -> None:
        for number in range(3):
            await asyncio.sleep(1)
            seen.append((number, loop.time()))

    async def whole() -> None:
        context = copy_context()
        context.run(OWNER.set, owner)
        task = loop.create_task(steps(), context=context)
        await asyncio.sleep(1.5)
        owner.stopped = True
        await asyncio.sleep(10)
        assert seen == [(0, 1)]
        loop.go_on(owner)
        await task

    loop.run_until_complete(whole())
    assert owner.tasks
    assert seen == [(0, 1), (1, 11.5), (2, 12.5)]
    loop.close()


def test_a_world_in_which_nothing_can_happen_any_more_is_an_error() -> None:
    """Everybody waits for somebody: told, not slept through."""
    loop = VirtualLoop()

    async def wait() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(wait())
    with pytest.raises(NothingLeft):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
