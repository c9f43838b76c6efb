"""Processes that decode: reading a load takes a whole core, and what else this process does must not wait for it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from resources.catalogue.preparing import Prepared, Rows, prepare

PROCESSES = 2
TIME_S_MAX = 60.0  # for one chunk, which takes some tens of milliseconds


class Decoders:
    """Prepares chunks in other processes, which start with the first one and end with this process, however it ends.

    Rows that kill a process, or take longer than `time_s_max`, end all of its processes: so one load has them to itself.
    """

    def __init__(self, *, time_s_max: float = TIME_S_MAX) -> None:
        self._time_s_max = time_s_max
        self._pool: ProcessPoolExecutor | None = None

    async def prepare(self, rows: Rows) -> Prepared:
        """The chunk; raises `BrokenProcessPool` when these rows, or others under way, killed a process."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                PROCESSES, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _prepare_within, self._time_s_max, rows)
        except BrokenProcessPool:
            if self._pool is pool:
                self.close()  # the next chunk gets new ones
            raise

    def close(self) -> None:
        """Let the processes end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


class DecodersAtHand:
    """Decoders for each load that is read, kept for the next one: starting them takes half a second."""

    def __init__(self) -> None:
        self._idle: list[Decoders] = []

    @contextmanager
    def taken(self) -> Iterator[Decoders]:
        """Some that nobody else has meanwhile; as many are kept as there were loads at once."""
        decoders = self._idle.pop() if self._idle else Decoders()
        try:
            yield decoders
        finally:
            self._idle.append(decoders)

    def close(self) -> None:
        """Let all processes end that nobody has."""
        while self._idle:
            self._idle.pop().close()


def _prepare_within(seconds: float, rows: Rows) -> Prepared:
    """Rows that take longer end this process: a timeout of the parent would leave it behind, busy for ever."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return prepare(rows)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


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
