"""Claim due work, act outside any transaction, record what came of it; for everything that leaves the building."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.database import UNAVAILABLE_ERRORS, Database
from chassis.telemetry import log
from chassis.waking import woken

POLL_S_MAX = 1.0
W = TypeVar("W")


class Dispatcher(Generic[W]):
    """Keeps up to `slots` pieces of work going.

    `claim(n)` leases at most n due pieces in a short transaction of its own; `act(piece)` does one and records the
    result itself, also in a short transaction. A crash in between lets the lease run out, and the piece is due again.
    `pause_s` tells how long to wait before looking again when nothing was due and nobody gave a hint.
    """

    def __init__(
        self,
        database: Database,
        *,
        hint: str,
        slots: int,
        claim: Callable[[int], Awaitable[Sequence[W]]],
        act: Callable[[W], Awaitable[None]],
        pause_s: Callable[[], float] = lambda: POLL_S_MAX,
    ) -> None:
        self._slots = slots
        self._claim = claim
        self._act = act
        self._pause_s = pause_s
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        database.listen(hint, self._wake.set)

    async def run(self) -> None:
        """Dispatch until cancelled; what is under way is then finished, bounded by its own timeouts."""
        try:
            while True:
                started = await self._start_due()
                if not started or len(self._running) >= self._slots:
                    await woken(self._wake, within_s=self._pause_s())
        finally:
            if self._running:
                await asyncio.gather(*self._running, return_exceptions=True)

    async def _start_due(self) -> int:
        self._wake.clear()
        try:
            work = await self._claim(self._slots - len(self._running)) if len(self._running) < self._slots else []
        except UNAVAILABLE_ERRORS as error:
            log.warning("dispatch.database_unavailable", error=repr(error))
            return 0
        for piece in work:
            task = asyncio.create_task(self._guarded(piece))
            self._running.add(task)
            task.add_done_callback(self._finished)
        return len(work)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if len(self._running) == self._slots - 1:
            self._wake.set()

    async def _guarded(self, piece: W) -> None:
        try:
            await self._act(piece)
        except Exception as error:  # the lease runs out and the piece is due again; one failure must not stop the rest
            log.error("dispatch.failed", error=repr(error), exc_info=True)
