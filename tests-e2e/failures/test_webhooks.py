"""Webhooks whose worker is killed while it sends: all arrive, and twice only what was under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scripts import webhook_chaos

SMALL = 3_000


@pytest.mark.fault("worker of webhooks killed in the middle of sends")
async def test_webhooks_arrive_through_kills_of_their_worker_and_servers(
    stack: Any, tell: Callable[[str], None]
) -> None:
    """`scripts/chaos --webhooks` in small: kill -9 of the worker again and again, of the broker and of the database once."""
    chaos, balance = await webhook_chaos.run(stack, SMALL, kill_every_s=2.5)

    tell(str(balance))
    assert balance.holds, str(balance)
    assert balance.messages == SMALL
    assert chaos.kills > 0
    assert chaos.restarts == ["rabbitmq", "postgres"]
