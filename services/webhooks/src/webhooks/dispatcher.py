"""Sends due messages: claims them fairly, signs and posts the stored bytes, records what came of it.

Nothing is held during a POST but the lease. A crash anywhere lets the lease run out, and the message goes again with
the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.app import Runtime
from chassis.database import TRANSIENT_ERRORS, Database
from chassis.dispatch import POLL_S_MAX, Dispatcher
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.telemetry import LATENCY_BUCKETS_S, continue_context, in_context, log, span
from contracts.envelope import CONTENT_TYPE
from opentelemetry.trace import SpanKind
from prometheus_client import Counter as MetricCounter
from prometheus_client import Histogram

from webhooks import usecases
from webhooks.domain import JITTER_MAX, PAYLOAD_BYTES_MAX, Attempt, next_attempt, too_large
from webhooks.keyring import Keyring
from webhooks.sender import Sender
from webhooks.signing import signed_headers
from webhooks.usecases import Attempted, Claimed, Target

SLOTS = 400  # POSTs under way in one process; twenty hanging endpoints of one organization leave half to the others
SLOTS_PER_ORGANIZATION = 200
SLOTS_PER_ENDPOINT = 10
CLAIMED_MAX = 100  # messages leased by one statement
RECORDED_MAX = 100  # attempts written by one statement
LEASE_MARGIN_S = 5.0  # between the end of the longest POST and the end of its lease, for recording it
SWEEP_EVERY_S = 1.0  # for leases that ran out, and held messages whose endpoint another process enabled
PACED_S = 0.05  # between looks while endpoints with a rate have had messages: twice per burst
TARGETS_KEPT_MAX = 10_000
UNAVAILABLE_PAUSE_S = 0.2
LATER_ERRORS: tuple[type[BaseException], ...] = (ConcurrentUpdate, *TRANSIENT_ERRORS)

ATTEMPTS = MetricCounter("webhook_attempts_total", "Attempts to deliver", ["outcome"])
ATTEMPT_SECONDS = Histogram("webhook_attempt_seconds", "Time of one POST", buckets=LATENCY_BUCKETS_S)


class Recorder:
    """Commits finished attempts; those that finish while a statement is under way share the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Attempted, bool, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(self, done: Attempted, *, was_crowded: bool) -> None:
        """Return when the attempt is committed; an unavailable database is waited for until the lease has ended."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((done, was_crowded, committed))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        await committed

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:RECORDED_MAX], self._waiting[RECORDED_MAX:]
            try:
                await self._write([done for done, _, _ in batch], any(crowded for _, crowded, _ in batch))
            except Exception as error:  # whoever waits is told; their leases run out and the messages are due again
                _tell(batch, error)
            else:
                _tell(batch, None)

    async def _write(self, batch: Sequence[Attempted], more_may_start: bool) -> None:
        deadline = time.monotonic() + LEASE_MARGIN_S
        while True:
            try:
                return await self._commit(batch, more_may_start)
            except LATER_ERRORS:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)

    async def _commit(self, batch: Sequence[Attempted], more_may_start: bool) -> None:
        if any(usecases.tells_of_trouble(done) for done in batch):
            async with self._database.transaction() as tx:
                await usecases.record_trouble(tx, batch, now=datetime.now(UTC), more_may_start=more_may_start)
        else:
            async with self._database.command() as tx:
                usecases.record(tx, batch, more_may_start=more_may_start)


class Deliveries:
    """What the dispatcher claims and what it does with each message."""

    def __init__(self, database: Database, keyring: Keyring, sender: Sender, schedule: Sequence[timedelta]) -> None:
        self._database = database
        self._keyring = keyring
        self._sender = sender
        self._schedule = schedule
        self._recorder = Recorder(database)
        self._targets: OrderedDict[UUID, Target] = OrderedDict()
        self._under_way: Counter[UUID] = Counter()  # of endpoints and of organizations
        self._sweep_at = self._paced_until = 0.0
        database.listen(usecases.ENDPOINTS_HINT, self._sweep_soon)

    async def claim(self, count: int) -> list[Claimed]:
        """Lease due messages."""
        full = [key for key, taken in self._under_way.items() if taken >= SLOTS_PER_ORGANIZATION]
        async with self._database.command() as tx:
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_EVERY_S
                await usecases.sweep(tx)
            claimed = await usecases.claim(
                tx, min(count, CLAIMED_MAX), slots_per_endpoint=SLOTS_PER_ENDPOINT, margin_s=LEASE_MARGIN_S, without=full
            )  # fmt: skip
        for piece in claimed:
            self._under_way.update((piece.endpoint_id, piece.organization_id))
            if piece.is_paced:
                self._paced_until = time.monotonic() + POLL_S_MAX
        return claimed

    def pause_s(self) -> float:
        """How long nothing has to be looked at: a rate lets more through before anybody gives a hint."""
        return PACED_S if time.monotonic() < self._paced_until else POLL_S_MAX

    async def act(self, piece: Claimed) -> None:
        """Attempt one message in the trace of its event, and record it."""
        context = continue_context(
            piece.traceparent, correlation_id=piece.correlation_id, causation_id=str(piece.event_id)
        )
        try:
            with in_context(context):
                if context.sampled:
                    named = {"event_type": piece.event_type, "endpoint": str(piece.endpoint_id)}
                    with span("webhook attempt", context, SpanKind.CLIENT, **named):
                        await self._attempt(piece)
                else:
                    await self._attempt(piece)
        finally:
            self._free(piece.endpoint_id)
            self._free(piece.organization_id)

    async def _attempt(self, piece: Claimed) -> None:
        if time.monotonic() - piece.claimed_at > LEASE_MARGIN_S:
            log.warning("webhook.lease_lost", message_id=str(piece.message_id))
            return  # this process stood still; by the end of a POST somebody else could have the message
        target = await self._target(piece)
        started_at = datetime.now(UTC)
        headers = signed_headers(
            str(piece.event_id), int(started_at.timestamp()), piece.body, target.valid_keys(started_at)
        )
        headers["Content-Type"] = CONTENT_TYPE
        attempt = await self._send(target, headers, piece.body)
        now = datetime.now(UTC)
        jitter = random.uniform(0, JITTER_MAX)  # noqa: S311 - spreads load, hides nothing
        schedule = self._schedule if target.schedule is None else target.schedule
        decision = next_attempt(piece.attempts - piece.attempts_before + 1, attempt, now, jitter, schedule=schedule)
        wait = timedelta(0) if decision.next_at is None else decision.next_at - now
        done = Attempted(new_id(), piece, attempt, decision, wait, started_at, target.url, list(headers.items()))
        await self._recorder.record(done, was_crowded=self._is_crowded(piece))
        _report(piece, attempt)

    async def _send(self, target: Target, headers: dict[str, str], body: bytes) -> Attempt:
        if len(body) > PAYLOAD_BYTES_MAX:
            return too_large(len(body))
        return await self._sender.send(target.url, headers, body, target.timeout_s)

    def _is_crowded(self, piece: Claimed) -> bool:
        """Whether something may have waited for its place."""
        return (
            self._under_way[piece.endpoint_id] >= SLOTS_PER_ENDPOINT
            or self._under_way[piece.organization_id] >= SLOTS_PER_ORGANIZATION
        )

    def _free(self, key: UUID) -> None:
        self._under_way[key] -= 1
        if self._under_way[key] <= 0:
            del self._under_way[key]

    async def _target(self, piece: Claimed) -> Target:
        known = self._targets.get(piece.endpoint_id)
        if known is None or known.version < piece.endpoint_version:
            known = await usecases.target_of(self._database.reading(), self._keyring, piece.endpoint_id)
            self._targets[piece.endpoint_id] = known
        self._targets.move_to_end(piece.endpoint_id)
        if len(self._targets) > TARGETS_KEPT_MAX:
            self._targets.popitem(last=False)
        return known

    def _sweep_soon(self) -> None:
        self._sweep_at = 0.0


Waiting = tuple[Attempted, bool, asyncio.Future[None]]


def _tell(batch: Sequence[Waiting], error: Exception | None) -> None:
    for _, _, committed in batch:
        if committed.done():
            continue
        if error is None:
            committed.set_result(None)
        else:
            committed.set_exception(error)


def _report(piece: Claimed, attempt: Attempt) -> None:
    ATTEMPTS.labels(attempt.outcome).inc()
    ATTEMPT_SECONDS.observe(attempt.duration_ms / 1000)
    log.info(
        "webhook.attempted", endpoint_id=str(piece.endpoint_id), message_id=str(piece.message_id),
        event_id=str(piece.event_id), event_type=piece.event_type, attempt=piece.attempts + 1, outcome=attempt.outcome,
        status=attempt.status, error=attempt.error, duration_ms=attempt.duration_ms,
    )  # fmt: skip


async def run(runtime: Runtime) -> None:
    """Deliver until cancelled."""
    settings: Any = runtime.settings
    async with Sender(settings.allowed_networks) as sender:
        deliveries = Deliveries(runtime.database, Keyring(runtime.secret), sender, settings.retry_schedule)
        dispatcher = Dispatcher(
            runtime.database, hint=usecases.MESSAGES_HINT, slots=SLOTS, claim=deliveries.claim, act=deliveries.act,
            pause_s=deliveries.pause_s,
        )  # fmt: skip
        await dispatcher.run()
