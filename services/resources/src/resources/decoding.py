"""Processes that decode: reading a load takes a whole core, and what else this process does must not wait for it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from resources.catalogue.preparing import Prepared, Rows, prepare

PROCESSES = 2
TIMEOUT_S = 60.0  # of one chunk, which takes some tens of milliseconds


class Decoders:
    """Prepares chunks in other processes, which start with the first one and end with this process, however it ends."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def prepare(self, rows: Rows) -> Prepared:
        """The chunk; raises `BrokenProcessPool` when the rows killed a process, `TimeoutError` when none answers."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                PROCESSES, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
        pool = self._pool
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(pool, prepare, rows)
        except (BrokenProcessPool, TimeoutError):
            if self._pool is pool:  # the next chunk gets new ones
                self._pool = None
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    def close(self) -> None:
        """Let the processes end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _end_with_parent() -> None:
    """A killed parent cannot say so, and its children would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise AssertionError("only a child is initialized")
    waiting = parent

    def end() -> None:
        waiting.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
