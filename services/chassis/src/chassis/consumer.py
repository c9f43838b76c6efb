"""From a message to its one effect: decode, inbox, transaction, handler; then acknowledge, retry later, or give up."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from contracts.envelope import Event
from contracts.registry import Received, Undecodable, decode
from opentelemetry.trace import SpanKind

from chassis import deadletters
from chassis.broker import BrokerUnavailable, Incoming, Outgoing, Publisher, PublishRefused, Subscription
from chassis.database import TRANSIENT_ERRORS, UNAVAILABLE_ERRORS, Database, Transaction
from chassis.inbox import first_time
from chassis.kernel import ConcurrentUpdate
from chassis.telemetry import (
    EVENT_LAG_SECONDS,
    EVENTS_HANDLED,
    HANDLE_SECONDS,
    Context,
    continue_context,
    in_context,
    log,
    span,
)
from contracts import topology

CONFLICT_TRIES = 3
UNAVAILABLE_PAUSE_S_MAX = 5.0
ATTEMPT_HEADER = "x-attempt"
OWN_HEADERS = (ATTEMPT_HEADER,)

Handler = Callable[[Transaction, Received], Awaitable[None]]


class Order(StrEnum):
    """What a consumer needs of the order of an aggregate's events."""

    ANY = "any"  # its effects commute: the inbox alone, each event once
    GATED = "gated"  # every event of the aggregate, one after the other: what is early waits, what is late was had
    MONOTONIC = "monotonic"  # each event carries all: the newest counts, an older one that comes late is passed over


class NotYet(Exception):
    """The event needs something that has not arrived here yet; it is tried again later."""


@dataclass
class Health:
    """What an operator asks of a queue; counts since the process started."""

    active: int = 0
    completed: int = 0
    failed: int = 0
    busy_s: float = 0.0
    within_sla: int = 0


@dataclass
class Consumer:
    """One queue of a service: which events it takes, and what each means. `sla_s` is the lag it is meant to keep."""

    name: str
    handlers: Mapping[type[Event], Handler]
    order: Order = Order.ANY
    sla_s: float = 5.0
    health: Health = field(default_factory=Health)

    @property
    def bindings(self) -> list[tuple[str, str]]:
        """(producer, routing key) of each event."""
        return sorted((event.producer, event.routing_key()) for event in self.handlers)


@dataclass(frozen=True, slots=True)
class _Decoded:
    incoming: Incoming
    received: Received

    @property
    def id(self) -> UUID:
        return self.received.envelope.id


class ConsumerRunner:
    """Runs one consumer: batches in one transaction each; a failing batch again, message by message."""

    def __init__(self, service: str, consumer: Consumer, database: Database, publisher: Publisher) -> None:
        self._service = service
        self._consumer = consumer
        self._database = database
        self._publisher = publisher
        self._queue = topology.queue(service, consumer.name)

    @property
    def subscription(self) -> Subscription:
        """What the subscriber consumes for this consumer."""
        return Subscription(queue=self._queue, handle=self.handle)

    async def handle(self, batch: Sequence[Incoming]) -> None:
        """Return when every message of the batch has had its effect, waits in the retry ladder, or is a dead letter."""
        started, health = time.monotonic(), self._consumer.health
        health.active = len(batch)
        decoded = [message for message in [await self._decode(incoming) for incoming in batch] if message is not None]
        if decoded and not await self._apply(decoded):
            for message in decoded:
                await self._one(message)
        health.active = 0
        health.busy_s += time.monotonic() - started
        HANDLE_SECONDS.labels(self._consumer.name).observe(time.monotonic() - started)

    async def _decode(self, incoming: Incoming) -> _Decoded | None:
        try:
            return _Decoded(incoming, decode(incoming.body))
        except Undecodable as error:
            await self._give_up(incoming, error, reason="undecodable")
            return None

    async def _apply(self, messages: Sequence[_Decoded]) -> bool:
        try:
            await self._transact(messages)
        except Exception as error:  # every kind of failure leads to the same: one by one, where it is told apart
            if len(messages) > 1:
                log.warning(
                    "consumer.batch_failed", consumer=self._consumer.name, size=len(messages), error=repr(error)
                )
            return False
        return True

    async def _transact(self, messages: Sequence[_Decoded]) -> None:
        handled: list[tuple[_Decoded, Context]] = []
        async with self._database.transaction() as tx:
            fresh = await first_time(tx, self._consumer.name, [message.id for message in messages])
            for message in messages:
                if message.id in fresh:
                    fresh.discard(message.id)
                    handled.append((message, await self._run(tx, message)))
        self._count(handled, doubled=len(messages) - len(handled))

    async def _run(self, tx: Transaction, message: _Decoded) -> Context:
        envelope, handler = message.received.envelope, self._consumer.handlers[type(message.received.event)]
        context = continue_context(
            envelope.traceparent, correlation_id=envelope.correlationid, causation_id=str(envelope.id)
        )
        with in_context(context):
            if context.sampled:
                with span(f"{self._queue} process", context, SpanKind.CONSUMER, event_type=envelope.type):
                    await handler(tx, message.received)
                    await tx.flush()  # so that the span tells what the effect took
            else:
                await handler(tx, message.received)
                tx.end_step()
        return context

    def _count(self, handled: Sequence[tuple[_Decoded, Context]], *, doubled: int) -> None:
        now, name = datetime.now(UTC), self._consumer.name
        observe = EVENT_LAG_SECONDS.labels(name).observe
        for message, context in handled:
            envelope = message.received.envelope
            lag_s = (now - envelope.time).total_seconds()
            observe(max(0.0, lag_s))
            self._consumer.health.within_sla += lag_s <= self._consumer.sla_s
            with in_context(context):
                log.info("event.handled", consumer=name, type=envelope.type, event_id=str(envelope.id))
        self._consumer.health.completed += len(handled)
        EVENTS_HANDLED.labels(name, "handled").inc(len(handled))
        EVENTS_HANDLED.labels(name, "duplicate").inc(doubled)

    async def _one(self, message: _Decoded) -> None:
        conflicts = 0
        while True:
            try:
                await self._transact([message])
            except ConcurrentUpdate as error:
                conflicts += 1
                if conflicts >= CONFLICT_TRIES:
                    return await self._later(message.incoming, error)
            except NotYet as error:
                return await self._later(message.incoming, error)
            except TRANSIENT_ERRORS as error:
                if not await self._database_was_down(error):
                    return await self._later(message.incoming, error)
            except Exception as error:  # a defect: waiting cannot mend it
                return await self._give_up(message.incoming, error, reason="permanent")
            else:
                return None

    async def _database_was_down(self, error: BaseException) -> bool:
        """Wait in place until the own database answers; False when it answered at once, so the fault was elsewhere."""
        waited, pause_s = False, 0.1
        while True:
            try:
                await self._database.reading().fetchval("SELECT 1")
            except UNAVAILABLE_ERRORS:
                log.warning("consumer.paused", consumer=self._consumer.name, error=repr(error))
                waited = True
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, UNAVAILABLE_PAUSE_S_MAX)
            else:
                return waited

    async def _later(self, incoming: Incoming, error: BaseException) -> None:
        attempt = _attempt(incoming)
        if attempt > len(topology.ATTEMPT_DELAYS_S):
            return await self._give_up(incoming, error, reason="exhausted")
        delay_s = topology.ATTEMPT_DELAYS_S[attempt - 1]
        log.warning(
            "event.retry",
            consumer=self._consumer.name,
            message_id=incoming.message_id,
            attempt=attempt,
            error=repr(error),
        )
        EVENTS_HANDLED.labels(self._consumer.name, "retry").inc()
        message = Outgoing(
            exchange=topology.retry_queue(self._service, delay_s),
            routing_key=self._queue,
            message_id=incoming.message_id,
            body=incoming.body,
            headers={ATTEMPT_HEADER: attempt + 1},
        )
        await self._publish_surely(message)
        return None

    async def _publish_surely(self, message: Outgoing) -> None:
        """Until the broker has it; meanwhile the original stays unacknowledged, so nothing can be lost."""
        while True:
            try:
                return await self._publisher.publish(message)
            except (BrokerUnavailable, PublishRefused) as error:
                log.warning("consumer.retry_not_published", consumer=self._consumer.name, error=repr(error))
                await asyncio.sleep(0.5)

    async def _give_up(self, incoming: Incoming, error: BaseException, *, reason: str) -> None:
        self._consumer.health.failed += 1
        EVENTS_HANDLED.labels(self._consumer.name, "dead").inc()
        while True:
            try:
                async with self._database.command() as tx:
                    deadletters.keep(
                        tx, incoming, error, consumer=self._consumer.name, queue=self._queue, reason=reason,
                        attempts=_attempt(incoming), now=datetime.now(UTC),
                    )  # fmt: skip
            except UNAVAILABLE_ERRORS as failure:
                await self._database_was_down(failure)
            else:
                return


def _attempt(incoming: Incoming) -> int:
    value = incoming.headers.get(ATTEMPT_HEADER, 1)
    return value if isinstance(value, int) else 1


def dead_letter_ingester(service: str, database: Database) -> Subscription:
    """Copies what the broker itself gave up into the dead-letter table."""
    queue = topology.dead_letter_queue(service)

    async def handle(batch: list[Incoming]) -> None:
        for incoming in batch:  # one transaction each: a batch that holds one message twice would touch its row twice
            origin, reason = _last_death(incoming)
            async with database.command() as tx:
                deadletters.keep(
                    tx, _named(incoming), RuntimeError(f"given up by the broker: {reason}"),
                    consumer=origin.removeprefix(topology.queue(service, "")), queue=origin, reason="broker", attempts=_attempt(incoming),
                    now=datetime.now(UTC),
                )  # fmt: skip

    return Subscription(queue=queue, handle=handle)


def _last_death(incoming: Incoming) -> tuple[str, str]:
    """(queue, reason) of the last death; the first may have been a wait in the retry ladder."""
    deaths: Any = incoming.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping):
        return _text(deaths[0].get("queue", "")), _text(deaths[0].get("reason", "broker"))
    first = incoming.headers.get("x-first-death-queue", incoming.routing_key)
    return _text(first), _text(incoming.headers.get("x-first-death-reason", "broker"))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _named(incoming: Incoming) -> Incoming:
    if incoming.message_id:
        return incoming
    digest = str(UUID(bytes=hashlib.sha256(incoming.body).digest()[:16]))
    return Incoming(incoming.tag, digest, incoming.routing_key, incoming.body, incoming.headers)
