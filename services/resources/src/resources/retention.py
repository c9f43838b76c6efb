"""Lets go once an hour of payloads, chunks and rejects of catalogue loads that are kept no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis.database import TRANSIENT_ERRORS, Database
from chassis.telemetry import log

from resources import usecases
from resources.objects import ObjectStore, ObjectStoreUnavailable
from resources.usecases import LoadPolicy

EVERY_S = 3600
PASSING_ERRORS: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, ObjectStoreUnavailable)
BREATH_S = 0.05  # between two statements: what is due goes first
AT_ONCE = 500  # objects looked at together
PAYLOADS, CHUNKS = "payloads", "chunks"


class Retention:
    """Forgets until cancelled; any number of processes may do so at once."""

    def __init__(self, database: Database, objects: ObjectStore, policy: LoadPolicy) -> None:
        self._database = database
        self._objects = objects
        self._policy = policy

    async def run(self) -> None:
        """A round now and then; what is away is looked at the next time."""
        while True:
            try:
                await self.round_of(datetime.now(UTC))
            except PASSING_ERRORS as error:
                log.warning("retention.postponed", error=repr(error))
            await asyncio.sleep(EVERY_S)

    async def round_of(self, now: datetime) -> None:
        """Once through everything that is old; what belongs to a load that is not over stays."""
        chunks, payloads = now - self._policy.chunks, now - self._policy.payloads
        await self._forget_objects(CHUNKS, chunks)
        await self._forget_objects(PAYLOADS, payloads)
        await self._forget_rows(usecases.CHUNK_TABLES, chunks)
        await self._forget_rows(usecases.REJECT_TABLES, payloads)

    async def _forget_objects(self, prefix: str, moment: datetime) -> None:
        keys: list[str] = []
        async for key in self._objects.older_than(prefix, moment):
            keys.append(key)
            if len(keys) == AT_ONCE:
                await self._delete(keys)
                keys = []
        await self._delete(keys)

    async def _delete(self, keys: Sequence[str]) -> None:
        owners = {key: UUID(key.split("/")[1]) for key in keys}
        running = await usecases.running(self._database.reading(), list(owners.values()))
        for key, load_id in owners.items():
            if load_id not in running:
                await self._objects.delete(key)

    async def _forget_rows(self, tables: Sequence[str], moment: datetime) -> None:
        for table in tables:
            more = True
            while more:
                async with self._database.command() as tx:
                    more = await usecases.forget(tx, table, before=moment)
                await asyncio.sleep(BREATH_S)
