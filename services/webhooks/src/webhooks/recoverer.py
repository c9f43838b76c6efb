"""Moves recoveries on, a page at a time, as often interrupted as you like."""

from __future__ import annotations

import asyncio

from chassis.app import Runtime
from chassis.database import TRANSIENT_ERRORS, Database, Row
from chassis.kernel import ConcurrentUpdate
from chassis.telemetry import log
from chassis.waking import woken

from webhooks import usecases

POLL_S = 0.5
_PASSING_ERRORS: tuple[type[Exception], ...] = (ConcurrentUpdate, *TRANSIENT_ERRORS)


class Recoverer:
    """A page is one transaction with the job's progress, so a crash repeats nothing and leaves nothing out.

    Several processes share the jobs: a job's row is locked while its page is made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wake = asyncio.Event()
        database.listen(usecases.RECOVERY_HINT, self._wake.set)

    async def run(self) -> None:
        """Recover until cancelled."""
        while True:
            try:
                while await self.step():
                    pass
            except _PASSING_ERRORS as error:
                log.warning("webhook.recovery_postponed", error=repr(error))
            await woken(self._wake, within_s=POLL_S)

    async def step(self) -> bool:
        """One page of the recovery whose turn it is; False when none is due. One that cannot go on fails, and holds no other."""
        due: Row | None = None
        try:
            async with self._database.transaction() as tx:
                due = await usecases.due_recovery(tx)
                if due is not None:
                    await usecases.advance_recovery(tx, due)
        except _PASSING_ERRORS:
            raise
        except Exception as error:
            if due is None:
                raise
            log.error("webhook.recovery_failed", job_id=str(due["id"]), error=repr(error), exc_info=True)
            async with self._database.transaction() as tx:
                usecases.fail_recovery(tx, due["id"], repr(error))
        return due is not None


async def run(runtime: Runtime) -> None:
    """Recover until cancelled."""
    await Recoverer(runtime.database).run()
