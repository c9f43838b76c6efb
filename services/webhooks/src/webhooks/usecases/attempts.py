"""What the dispatcher does with the database: lease due messages, learn where they go, record what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from chassis.database import Transaction

from webhooks import repository
from webhooks.keyring import Keyring
from webhooks.repository import ENDPOINTS, Attempted, Claimed
from webhooks.signing import SigningKey
from webhooks.usecases.messages import MESSAGES_HINT

GONE_REASON = "gone"


@dataclass(frozen=True, slots=True)
class Target:
    """Where messages of an endpoint go, as of one version of it; `keys` sign, in this order, each until its time."""

    version: int
    url: str
    timeout_s: int
    keys: tuple[tuple[SigningKey, datetime | None], ...]

    def valid_keys(self, now: datetime) -> list[SigningKey]:
        """The keys that sign a request made now."""
        return [key for key, expires_at in self.keys if expires_at is None or now < expires_at]


async def claim(tx: Transaction, count: int, *, slots_per_endpoint: int, margin_s: float) -> list[Claimed]:
    """Lease at most `count` due messages, fairly over the endpoints."""
    return await repository.claim(tx, count, slots_per_endpoint=slots_per_endpoint, margin_s=margin_s)


async def release(tx: Transaction) -> None:
    """Let go of held messages whose endpoints are sent to again."""
    await repository.release(tx)


async def target_of(tx: Transaction, keyring: Keyring, endpoint_id: UUID) -> Target:
    """Where an endpoint is now, with its secrets in clear: keep it in memory only."""
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    settings, keys = endpoint.settings, keyring.signing_keys(endpoint)
    return Target(endpoint.version, settings.url, settings.timeout_s, keys)


def record(tx: Transaction, done: Sequence[Attempted], *, more_may_start: bool) -> None:
    """Log attempts and settle their messages; `more_may_start` wakes the dispatcher for what waited for a slot."""
    repository.record(tx, done)
    if more_may_start:
        tx.hints.add(MESSAGES_HINT)


async def disable_gone(tx: Transaction, endpoint_id: UUID) -> None:
    """The receiver said 410: nothing is sent there until its owner enables it again."""
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    endpoint.disable(GONE_REASON)
    ENDPOINTS.save(tx, endpoint, now=datetime.now(UTC))
