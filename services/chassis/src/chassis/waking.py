"""Waiting for work: what this process commits wakes it at once; what others do is seen after a pause."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def woken(wake: asyncio.Event, *, within_s: float) -> None:
    """Return once `wake` is set, at the latest after `within_s`; it is unset then.

    A task that was told to end ends here, even when a library swallowed the telling: `asyncio.wait_for` does
    before Python 3.12 when what it waits for is done in the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await wake.wait()
    wake.clear()
