"""The database's one way in: what hangs is not trusted again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from chassis import database as module
from chassis.database import Database
from chassis.testing.links import Link

CONNECTIONS = 4
LOCK = "SELECT pg_advisory_xact_lock(4711)"


async def _by_itself(database: Database) -> None:
    await database.reading().fetchval("SELECT 1")


async def _in_a_transaction(database: Database, query: str = "SELECT 1") -> None:
    async with database.transaction() as tx:
        await tx.fetchval(query)


@pytest.mark.parametrize("ask", [_by_itself, _in_a_transaction])
async def test_after_one_connection_hung_none_is_used_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Database], Awaitable[None]]
) -> None:
    """A link that died in silence took all of them with it: the next statement goes over a new one, at once."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.5)
    async with Link(database.url) as link:
        linked = Database(link.url, pool_max=CONNECTIONS)
        await linked.open()
        await asyncio.gather(*(linked.reading().fetchval("SELECT pg_sleep(0.1)") for _ in range(CONNECTIONS)))
        assert link.opened == CONNECTIONS
        link.silence()

        with pytest.raises(module.UNAVAILABLE_ERRORS):
            await ask(linked)

        await ask(linked)
        assert link.opened > CONNECTIONS
        await linked.close()


async def test_locks_of_whoever_went_silent_are_let_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lost its power in the middle of a transaction says goodbye to nobody; others wait a moment, not hours."""
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_S", 1)
    waits_s: list[float] = []
    async with Link(database.url) as link:
        linked = Database(link.url)
        await linked.open()

        async def goes_silent() -> None:
            async with linked.transaction() as lost:
                await lost.fetchval(LOCK)
                link.silence()
                began = time.monotonic()
                await _in_a_transaction(database, LOCK)
                waits_s.append(time.monotonic() - began)
                link.cut()

        with pytest.raises(module.UNAVAILABLE_ERRORS):
            await goes_silent()
        await linked.close()

    assert len(waits_s) == 1
    assert 0.5 < waits_s[0] < 10  # held until then, and let go
