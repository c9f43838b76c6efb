"""Quotas are exact for quiet callers and for busy ones, over all replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chassis import ratelimit
from chassis.kernel import new_id
from chassis.problems import QuotaExceeded
from chassis.ratelimit import Quotas


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Quotas]]:
    monkeypatch.setattr(ratelimit, "TIMEOUT_S", 5)  # a busy machine must not open the quota here
    made = [Quotas(redis_url) for _ in range(2)]
    yield made
    for quotas in made:
        await quotas.close()


async def test_a_busy_caller_gets_its_limit_and_no_more(replicas: list[Quotas]) -> None:
    """Two replicas asked as fast as they can: what is granted is the limit and what came back meanwhile."""
    key, limit, granted, started = str(new_id()), 3_000, 0, time.monotonic()

    async def ask(quotas: Quotas) -> None:
        nonlocal granted
        for _ in range(3_000):
            try:
                await quotas.take(key, limit=limit)
            except QuotaExceeded:
                return
            granted += 1

    await asyncio.gather(*(ask(quotas) for quotas in replicas))

    refilled = (time.monotonic() - started) * limit / 60
    assert limit * 0.95 <= granted <= limit + refilled + 1


async def test_a_quiet_caller_loses_nothing_to_leases(replicas: list[Quotas]) -> None:
    """One request after the other on different replicas counts one each."""
    key = str(new_id())

    left = [(await quotas.take(key, limit=60)).remaining for quotas in replicas * 3]

    assert left == [59, 58, 57, 56, 55, 54]


async def test_without_redis_reads_pass_and_logins_do_not() -> None:
    """Open for what can do no harm, closed where guessing would."""
    nowhere = Quotas("redis://127.0.0.1:1/0")

    assert (await nowhere.take("a", limit=10)).remaining == 10
    with pytest.raises(QuotaExceeded):
        await nowhere.take("a", limit=10, fail_open=False)
    await nowhere.close()
