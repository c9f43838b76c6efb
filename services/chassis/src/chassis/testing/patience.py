"""Waiting for what must become true, with a deadline instead of a sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

STEP_S = 0.02
DEADLINE_S = 20.0  # a killed relay's partitions are another's after ten


async def eventually(check: Callable[[], Any], *, timeout_s: float = DEADLINE_S) -> Any:
    """Call `check` until it neither raises AssertionError nor returns a false value; then return what it returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            result = check()
            result = await result if inspect.isawaitable(result) else result
            if result or result is None:
                return result
            failure: AssertionError = AssertionError(f"still {result!r} after {timeout_s} s")
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        await asyncio.sleep(STEP_S)
