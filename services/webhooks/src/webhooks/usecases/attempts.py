"""What the dispatcher does with the database: lease due messages, learn where they go, record what came of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.outbox import enqueue

from webhooks import repository
from webhooks.domain import GONE_REASON, EndpointStatus, Health, MessageStatus, Outcome
from webhooks.keyring import Keyring
from webhooks.public_events import is_operational, message_exhausted
from webhooks.repository import ENDPOINTS, Attempted, Claimed, Condition, Forgetting
from webhooks.signing import SigningKey
from webhooks.usecases.messages import MESSAGES_HINT


@dataclass(frozen=True, slots=True)
class Target:
    """Where messages of an endpoint go, as of one version of it; `keys` sign, in this order, each until its time.

    `schedule` is the endpoint's own, None for the service's.
    """

    version: int
    url: str
    timeout_s: int
    schedule: tuple[timedelta, ...] | None
    keys: tuple[tuple[SigningKey, datetime | None], ...]

    def valid_keys(self, now: datetime) -> list[SigningKey]:
        """The keys that sign a request made now."""
        return [key for key, expires_at in self.keys if expires_at is None or now < expires_at]


async def claim(
    tx: Transaction, count: int, *, slots_per_endpoint: int, margin_s: float, without: Collection[UUID] = ()
) -> list[Claimed]:
    """Lease at most `count` due messages, fairly over organizations and their endpoints."""
    return await repository.claim(tx, count, slots_per_endpoint=slots_per_endpoint, margin_s=margin_s, without=without)


async def sweep(tx: Transaction) -> None:
    """Take back what stuck, and let go of held messages whose endpoints are sent to again."""
    await repository.sweep(tx)
    await repository.release(tx)


async def target_of(tx: Transaction, keyring: Keyring, endpoint_id: UUID) -> Target:
    """Where an endpoint is now, with its secrets in clear: keep it in memory only."""
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    settings, keys = endpoint.settings, keyring.signing_keys(endpoint)
    steps = settings.retry_schedule_s
    schedule = None if steps is None else tuple(timedelta(seconds=step) for step in steps)
    return Target(endpoint.version, settings.url, settings.timeout_s, schedule, keys)


def tells_of_trouble(done: Attempted) -> bool:
    """Whether it changes how the endpoint fares: a failure, or an acceptance after one."""
    return done.attempt.outcome is not Outcome.DELIVERED or done.claimed.is_ailing


def record(tx: Transaction, done: Sequence[Attempted], *, more_may_start: bool) -> None:
    """Log attempts and settle their messages; `more_may_start` wakes the dispatcher for what waited for a slot."""
    repository.record(tx, done)
    _hint(tx, done, more_may_start=more_may_start)


async def record_trouble(tx: Transaction, done: Sequence[Attempted], *, now: datetime, more_may_start: bool) -> None:
    """As `record`, in a real transaction: how the endpoints fare changes with it, and their owners hear of it."""
    repository.log(tx, done)
    settled = await repository.settle(tx, done)
    repository.wake_next(tx, done)
    of_endpoint: dict[UUID, list[Attempted]] = defaultdict(list)
    for one in done:
        of_endpoint[one.claimed.endpoint_id].append(one)
    found = await repository.conditions(tx, list(of_endpoint))
    healths = {
        endpoint_id: _health(condition.health, of_endpoint[endpoint_id], settled, now)
        for endpoint_id, condition in found.items()
    }
    repository.save_health(tx, healths)
    for endpoint_id, condition in found.items():
        gone = any(one.decision.disable_endpoint for one in of_endpoint[endpoint_id])
        await _judge(tx, endpoint_id, condition, healths[endpoint_id], gone=gone, now=now)
    for one in _exhausted(done, settled):
        _announce_exhausted(tx, one, now)
    _hint(tx, done, more_may_start=more_may_start)


def _health(health: Health, done: Sequence[Attempted], settled: Collection[UUID], now: datetime) -> Health:
    for one in done:
        if one.attempt.outcome is Outcome.DELIVERED:
            health = Health()
        elif one.attempt.tells_of_the_receiver:
            is_over = one.decision.status is MessageStatus.EXHAUSTED and one.claimed.message_id in settled
            health = health.after_failure(now, exhausted=is_over)
    return health


async def _judge(
    tx: Transaction, endpoint_id: UUID, before: Condition, health: Health, *, gone: bool, now: datetime
) -> None:
    """Record on the endpoint what its owner has to know; most failures are nothing of the kind."""
    recovers = before.status is EndpointStatus.FAILING and health == Health()
    reason = GONE_REASON if gone else health.disabled_reason
    if not recovers and reason is None and health.notice <= before.failing_percent:
        return
    endpoint = await ENDPOINTS.get(tx, endpoint_id)
    if recovers:
        endpoint.mark_recovered()
    if reason is not None:
        endpoint.disable(reason)
    elif health.notice:
        endpoint.mark_failing(health.failing_from or now, percent=health.notice)
    ENDPOINTS.save(tx, endpoint, now=now)


def _exhausted(done: Sequence[Attempted], settled: Collection[UUID]) -> Iterator[Attempted]:
    """Those that were given up, but for what tells of other endpoints: two that fail would tell each other for ever."""
    for one in done:
        is_over = one.decision.status is MessageStatus.EXHAUSTED and one.claimed.message_id in settled
        if is_over and not is_operational(one.claimed.event_type):
            yield one


def _announce_exhausted(tx: Transaction, done: Attempted, now: datetime) -> None:
    message = done.claimed
    announcement = message_exhausted(
        message.message_id, done.attempt, organization_id=message.organization_id, endpoint_id=message.endpoint_id,
        event_id=message.event_id, event_type=message.event_type, attempts=message.attempts + 1,
    )  # fmt: skip
    enqueue(tx, stream_id=message.message_id, messages=[(new_id(), message.attempts + 1, announcement)], now=now)


def _hint(tx: Transaction, done: Sequence[Attempted], *, more_may_start: bool) -> None:
    if more_may_start or any(one.claimed.ordered for one in done):
        tx.hints.add(MESSAGES_HINT)


async def forget(tx: Transaction, at: Forgetting, now: datetime) -> Forgetting | None:
    """Delete what has been over for 30 days among the next rows; None when a round has come to its end."""
    return await repository.forget(tx, at, now)


async def give_up_held(tx: Transaction, now: datetime) -> int:
    """End some messages that were held for 30 days; how many."""
    return await repository.give_up_held(tx, now)
