"""What happens to identity from elsewhere: it listens to no other service; time makes it forget old sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chassis.database import Transaction

from identity.usecases import sessions


async def forget_old_sessions(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `sessions.FORGET`."""
    await sessions.forget_old(tx, now=datetime.now(UTC))
