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
from chassis.database import TRANSIENT_ERRORS, UNAVAILABLE_ERRORS, Database
from chassis.dispatch import Dispatcher
from chassis.kernel import ConcurrentUpdate
from chassis.telemetry import LATENCY_BUCKETS_S, continue_context, in_context, log, span
from contracts.envelope import CONTENT_TYPE
from opentelemetry.trace import SpanKind
from prometheus_client import Counter as MetricCounter
from prometheus_client import Histogram

from webhooks import usecases
from webhooks.domain import JITTER_MAX, Attempt, next_attempt
from webhooks.keyring import Keyring
from webhooks.sender import Sender
from webhooks.signing import signed_headers
from webhooks.usecases import Attempted, Claimed, Target

SLOTS = 400  # POSTs under way in one process; forty hanging endpoints leave room for the others
SLOTS_PER_ENDPOINT = 10
CLAIMED_MAX = 100  # messages leased by one statement
RECORDED_MAX = 100  # attempts written by one statement
LEASE_MARGIN_S = 5.0  # between the end of the longest POST and the end of its lease, for recording it
RELEASE_EVERY_S = 1.0  # held messages whose endpoint another process enabled
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
                async with self._database.command() as tx:
                    usecases.record(tx, batch, more_may_start=more_may_start)
            except UNAVAILABLE_ERRORS:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)
            else:
                return


class Deliveries:
    """What the dispatcher claims and what it does with each message."""

    def __init__(self, database: Database, keyring: Keyring, sender: Sender, schedule: Sequence[timedelta]) -> None:
        self._database = database
        self._keyring = keyring
        self._sender = sender
        self._schedule = schedule
        self._recorder = Recorder(database)
        self._targets: OrderedDict[UUID, Target] = OrderedDict()
        self._under_way: Counter[UUID] = Counter()
        self._release_at = 0.0
        database.listen(usecases.ENDPOINTS_HINT, self._release_soon)

    async def claim(self, count: int) -> list[Claimed]:
        """Lease due messages."""
        async with self._database.command() as tx:
            if time.monotonic() >= self._release_at:
                self._release_at = time.monotonic() + RELEASE_EVERY_S
                await usecases.release(tx)
            claimed = await usecases.claim(
                tx, min(count, CLAIMED_MAX), slots_per_endpoint=SLOTS_PER_ENDPOINT, margin_s=LEASE_MARGIN_S
            )
        for piece in claimed:
            self._under_way[piece.endpoint_id] += 1
        return claimed

    async def act(self, piece: Claimed) -> None:
        """Attempt one message in the trace of its event, and record it."""
        context = continue_context(
            piece.traceparent, correlation_id=piece.correlation_id, causation_id=str(piece.event_id)
        )
        try:
            with (
                in_context(context),
                span(
                    "webhook attempt",
                    context,
                    SpanKind.CLIENT,
                    event_type=piece.event_type,
                    endpoint=str(piece.endpoint_id),
                ),
            ):
                await self._attempt(piece)
        finally:
            self._under_way -= Counter((piece.endpoint_id,))  # drops what reaches nothing

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
        attempt = await self._sender.send(target.url, headers, piece.body, target.timeout_s)
        now = datetime.now(UTC)
        jitter = random.uniform(0, JITTER_MAX)  # noqa: S311 - spreads load, hides nothing
        decision = next_attempt(piece.attempts + 1, attempt, now, jitter, schedule=self._schedule)
        if decision.disable_endpoint:
            await self._disable(piece.endpoint_id)
        wait = timedelta(0) if decision.next_at is None else decision.next_at - now
        done = Attempted(piece, attempt, decision, wait, started_at, target.url, list(headers.items()))
        await self._recorder.record(done, was_crowded=self._under_way[piece.endpoint_id] >= SLOTS_PER_ENDPOINT)
        _report(piece, attempt)

    async def _target(self, piece: Claimed) -> Target:
        known = self._targets.get(piece.endpoint_id)
        if known is None or known.version < piece.endpoint_version:
            known = await usecases.target_of(self._database.reading(), self._keyring, piece.endpoint_id)
            self._targets[piece.endpoint_id] = known
        self._targets.move_to_end(piece.endpoint_id)
        if len(self._targets) > TARGETS_KEPT_MAX:
            self._targets.popitem(last=False)
        return known

    async def _disable(self, endpoint_id: UUID) -> None:
        try:
            async with self._database.transaction() as tx:
                await usecases.disable_gone(tx, endpoint_id)
        except LATER_ERRORS as error:  # the next message hears 410 again
            log.warning("webhook.not_disabled", endpoint_id=str(endpoint_id), error=repr(error))

    def _release_soon(self) -> None:
        self._release_at = 0.0


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
            runtime.database, hint=usecases.MESSAGES_HINT, slots=SLOTS, claim=deliveries.claim, act=deliveries.act
        )
        await dispatcher.run()
