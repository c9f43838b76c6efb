"""Forgets once an hour what has been over for 30 days, a few thousand rows at a time, and gives up what was held as long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from chassis.app import Runtime
from chassis.database import TRANSIENT_ERRORS, Database
from chassis.telemetry import log

from webhooks import usecases

EVERY_S = 3600
BREATH_S = 0.05  # between two statements: what is due goes first


async def round_of(database: Database, now: datetime) -> None:
    """Once through everything that is old."""
    while await _given_up(database, now):
        await asyncio.sleep(BREATH_S)
    for begin in usecases.Forgetting.round():
        at: usecases.Forgetting | None = begin
        while at is not None:
            async with database.command() as tx:
                at = await usecases.forget(tx, at, now)
            await asyncio.sleep(BREATH_S)


async def _given_up(database: Database, now: datetime) -> int:
    async with database.command() as tx:
        return await usecases.give_up_held(tx, now)


async def run(runtime: Runtime) -> None:
    """Forget until cancelled."""
    while True:
        try:
            await round_of(runtime.database, datetime.now(UTC))
        except TRANSIENT_ERRORS as error:
            log.warning("retention.postponed", error=repr(error))
        await asyncio.sleep(EVERY_S)
