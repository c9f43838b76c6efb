"""Waiting for work: what this process commits wakes it at once; what others do is seen after a pause."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def woken(wake: asyncio.Event, *, within_s: float) -> None:
    """Return once `wake` is set, at the latest after `within_s`; it is unset then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await wake.wait()
    wake.clear()
