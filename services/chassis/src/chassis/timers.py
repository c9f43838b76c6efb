"""Durable timers: a due time and a payload in the database; firing and its effect are one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec

from chassis.crashpoints import reached
from chassis.database import UNAVAILABLE_ERRORS, Database, Row, Transaction
from chassis.kernel import new_id
from chassis.telemetry import in_context, log, start_context
from chassis.waking import woken

POLL_S_MAX = 1.0
RETRY_AFTER_S = 30  # a timer whose handler failed fires again after this long
HINT = "timers"

TimerHandler = Callable[[Transaction, dict[str, Any]], Awaitable[None]]

_SCHEDULE = """INSERT INTO timers (id, due_at, dedupe_key, payload) VALUES ($1, $2, $3, $4::text::jsonb)
ON CONFLICT (dedupe_key) DO UPDATE SET due_at = excluded.due_at, payload = excluded.payload"""
_CLAIM = """DELETE FROM timers WHERE id = (
    SELECT id FROM timers WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, dedupe_key, payload"""
_POSTPONE = "UPDATE timers SET due_at = now() + make_interval(secs => $1) WHERE due_at <= now() AND dedupe_key = $2"
_NEXT = "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM timers"


def schedule(tx: Transaction, *, due_at: datetime, key: str, payload: dict[str, Any]) -> None:
    """Queue a timer; one key has one timer, a later call moves it. `payload["kind"]` names its handler."""
    tx.write(_SCHEDULE, new_id(), due_at, key, msgspec.json.encode(payload).decode())
    tx.hints.add(HINT)


def cancel(tx: Transaction, *, key: str) -> None:
    """Queue the removal of a timer; none is no error."""
    tx.write("DELETE FROM timers WHERE dedupe_key = $1", key)


class Timers:
    """Fires due timers one by one; a handler re-checks the state it acts on, for a timer may be late or early."""

    def __init__(self, database: Database, handlers: dict[str, TimerHandler]) -> None:
        self._database = database
        self._handlers = handlers
        self._wake = asyncio.Event()
        database.listen(HINT, self._wake.set)

    async def run(self) -> None:
        """Fire until cancelled."""
        while True:
            try:
                while await self.fire_one():
                    pass
                due_in_s = await self._database.reading().fetchval(_NEXT)
            except UNAVAILABLE_ERRORS as error:
                log.warning("timers.database_unavailable", error=repr(error))
                due_in_s = POLL_S_MAX
            pause_s = POLL_S_MAX if due_in_s is None else max(0.005, min(due_in_s, POLL_S_MAX))
            await woken(self._wake, within_s=pause_s)

    async def fire_one(self) -> bool:
        """Fire the earliest due timer; False when none is due. A failing one is postponed and does not hold the others."""
        claimed: Row | None = None
        try:
            async with self._database.transaction() as tx:
                claimed = await tx.fetchrow(_CLAIM)
                if claimed is not None:
                    with in_context(start_context()):
                        await self._handlers[claimed["payload"]["kind"]](tx, claimed["payload"])
                    reached("timer.handled")
        except UNAVAILABLE_ERRORS:
            raise
        except Exception as error:
            if claimed is None:
                raise
            log.error("timer.failed", key=claimed["dedupe_key"], error=repr(error))
            async with self._database.command() as tx:
                tx.write(_POSTPONE, RETRY_AFTER_S, claimed["dedupe_key"])
        return claimed is not None
