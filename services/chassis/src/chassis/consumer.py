"""From a message to its one effect: decode, inbox, transaction, handler; then acknowledge, retry later, or give up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from contracts.commands import REPLAY_HEADER
from contracts.envelope import Envelope, Event, producer_of
from contracts.registry import Received, Undecodable, envelope_of, typed
from opentelemetry.trace import SpanKind

from chassis.broker import BrokerUnavailable, Incoming, Outgoing, PublishRefused, Subscription
from chassis.crashpoints import reached
from chassis.database import TRANSIENT_ERRORS, UNAVAILABLE_ERRORS, Transaction
from chassis.kernel import ConcurrentUpdate
from chassis.message_store import MessageStore, Parked, Position, Stream
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
# How many are handled together of what came back that often: among them may be what kills the process, which is found in
# ever smaller company. Most of them only happened to be there, and would wait long if each were tried alone at once.
COMPANY_MAX = {2: 25, 3: 5}
ALONE_AFTER = 4
CRASHES_MAX = 3  # alone and still deadly this often: a dead letter, long before the broker gives up its neighbours too
ATTEMPT_HEADER = "x-attempt"
RETURNS_HEADER = "x-delivery-count"  # the broker's, on what it delivers again

T = TypeVar("T")
Handler = Callable[[Transaction, Received], Awaitable[None]]
Fence = Callable[[Transaction], Awaitable[bool]]  # False: messages have no effect here any more


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
    """One queue of a service: which events it takes, and what each means. `sla_s` is the lag it is meant to keep.

    A gated consumer hears every event of the aggregates it handles; those without a handler only move it on.
    A projection names the tables that its handlers write; they write nothing else, so it can be built again.
    """

    name: str
    handlers: Mapping[type[Event], Handler]
    order: Order = Order.ANY
    projection: Sequence[str] = ()
    sla_s: float = 5.0
    health: Health = field(default_factory=Health)

    @property
    def bindings(self) -> list[tuple[str, str]]:
        """(producer, routing key), the latter a pattern where every event of an aggregate counts."""
        if self.order is not Order.GATED:
            return sorted((event.producer, event.routing_key()) for event in self.handlers)
        every = {(event.producer, f"{event.aggregate}.*.v1") for event in self.handlers}
        return sorted(every | {(event.producer, event.routing_key()) for event in self.handlers if event.major > 1})


class Sender(Protocol):
    """What a runner needs of the broker: `chassis.broker.Publisher`, or a test's own."""

    async def publish(self, message: Outgoing) -> None: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message with its envelope; `received` is None when it only moves a gated consumer on."""

    incoming: Incoming
    envelope: Envelope
    received: Received | None

    @property
    def id(self) -> UUID:
        """The event's."""
        return self.envelope.id

    @property
    def stream(self) -> Stream:
        """What it is about."""
        return Stream(self.envelope.subject, self.envelope.aggregateversion)


def in_order(
    order: Order, positions: Mapping[UUID, Position], messages: Sequence[Decoded]
) -> tuple[list[Decoded], list[Decoded]]:
    """(due, early): which messages have their effect now, and which must wait for one that is missing.

    The rest was had. Moves `positions` on, and marks those that something waits behind.
    """
    due: list[Decoded] = []
    early: list[Decoded] = []
    for message in messages:
        position, version = positions[message.stream.id], message.stream.version
        if version <= position.version:
            continue
        if order is Order.GATED and version > position.version + 1:
            position.waiting = True
            early.append(message)
        else:
            position.version = version
            due.append(message)
    return due, early


def companies(messages: Sequence[Decoded]) -> Iterator[Sequence[Decoded]]:
    """Those to be handled together, in the order they came: all at once, or few when they came back."""
    company: list[Decoded] = []
    smallest = sys.maxsize
    for message in messages:
        returns = _returns(message.incoming)
        limit = 1 if returns >= ALONE_AFTER else COMPANY_MAX.get(returns, sys.maxsize)
        if company and len(company) >= min(smallest, limit):
            yield company
            company, smallest = [], sys.maxsize
        company.append(message)
        smallest = min(smallest, limit)
    if company:
        yield company


class Patience:
    """Waits in place while the own database is away: nothing is retried elsewhere, nothing is lost meanwhile."""

    def __init__(self, store: MessageStore, name: str) -> None:
        self._store = store
        self._name = name

    async def was_away(self, error: BaseException) -> bool:
        """Wait until the database answers; False when it answered at once, so the fault was elsewhere."""
        waited, pause_s = False, 0.1
        while True:
            try:
                await self._store.ping()
            except UNAVAILABLE_ERRORS:
                log.warning("consumer.paused", consumer=self._name, error=repr(error))
                waited = True
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, UNAVAILABLE_PAUSE_S_MAX)
            else:
                return waited

    async def surely(self, act: Callable[[], Awaitable[T]]) -> T:
        """What `act` returns, once the database lets it; other errors rise."""
        while True:
            try:
                return await act()
            except UNAVAILABLE_ERRORS as error:
                if not await self.was_away(error):
                    await asyncio.sleep(UNAVAILABLE_PAUSE_S_MAX)


class ConsumerRunner:
    """Runs one consumer: batches in one transaction each; a failing batch again, message by message.

    Runners of one process share `alone`: of what may kill it one message is tried at a time, else an innocent one
    that another consumer tries just then would be blamed as well.
    """

    def __init__(
        self, service: str, consumer: Consumer, store: MessageStore, publisher: Sender, *,
        alone: asyncio.Lock | None = None, fence: Fence | None = None,
    ) -> None:  # fmt: skip
        self.consumer = consumer
        self.store = store
        self.queue = topology.queue(service, consumer.name)
        self.over = False
        self._service = service
        self._publisher = publisher
        self._by_itself = alone or asyncio.Lock()
        self._fence = fence
        self._name = consumer.name
        self._patience = Patience(store, consumer.name)
        self._handlers = {event.type_name(): handler for event, handler in consumer.handlers.items()}
        self._facts = {name.rpartition(".v")[0] for name in self._handlers}
        self._waiting: set[UUID] = set()

    @property
    def subscription(self) -> Subscription:
        """What the subscriber consumes for this consumer."""
        return Subscription(queue=self.queue, handle=self.handle)

    async def handle(self, batch: Sequence[Incoming]) -> None:
        """Return when every message of the batch has had its effect, waits for its turn or in the ladder, or is a dead letter."""
        started, health = time.monotonic(), self.consumer.health
        health.active = len(batch)
        decoded = [message for message in [await self._decode(incoming) for incoming in batch] if message is not None]
        for company in companies(decoded):
            if _returns(company[0].incoming) >= ALONE_AFTER:
                await self._alone(company[0])
            elif not await self._apply(company):
                for message in company:
                    await self._one(message)
        while self._waiting:
            await self.drain(self._waiting.pop())
        health.active = 0
        health.busy_s += time.monotonic() - started
        HANDLE_SECONDS.labels(self._name).observe(time.monotonic() - started)

    async def drain(self, stream_id: UUID) -> None:
        """Handle what is parked behind this aggregate's position, as far as its turn has come."""
        while not self.over:
            parked = await self._patience.surely(lambda: self.store.next_parked(self._name, stream_id))
            if parked is None:
                return None
            message = await self._decode(Incoming(0, parked.message_id, "", parked.body, {RETURNS_HEADER: 1}))
            attempt = self._alone if parked.suspect else self._one
            if message is None or not await attempt(message):  # it is in the ladder now, or a dead letter
                unpark = partial(self.store.unpark, self._name, stream_id, parked.version)
                return await self._patience.surely(unpark)
        return None

    async def _decode(self, incoming: Incoming) -> Decoded | None:
        if REPLAY_HEADER in incoming.headers and not self.consumer.projection:
            log.error("replay.refused", consumer=self._name, message_id=incoming.message_id)  # effects are not repeated
            return None
        envelope: Envelope | None = None
        try:
            envelope = envelope_of(incoming.body)
            handled, gated = envelope.type in self._handlers, self.consumer.order is Order.GATED
            if REPLAY_HEADER in incoming.headers and not handled and not gated:
                return None  # a replay tells everything of an aggregate
            if handled or not gated:
                return Decoded(incoming, envelope, typed(envelope, incoming.body))
        except Undecodable as error:
            stream = None if envelope is None else Stream(envelope.subject, envelope.aggregateversion)
            await self._give_up(incoming, error, reason="undecodable", stream=stream)
            return None
        if envelope.type.rpartition(".v")[0] in self._facts:
            return None  # another major of a fact that is handled: the same event, published side by side
        return Decoded(incoming, envelope, None)

    async def _apply(self, messages: Sequence[Decoded]) -> bool:
        try:
            await self._transact(messages)
        except Exception as error:  # every kind of failure leads to the same: one by one, where it is told apart
            if len(messages) > 1:
                log.warning("consumer.batch_failed", consumer=self._name, size=len(messages), error=repr(error))
            return False
        return True

    async def _transact(self, messages: Sequence[Decoded]) -> None:
        handled: list[tuple[Decoded, Context]] = []
        async with self.store.transaction() as tx:
            self.over = self._fence is not None and not await self._fence(tx)
            due, early = ([], []) if self.over else await self._sort_out(tx, messages)
            for message in due:
                if message.received is not None:
                    handled.append((message, await self._run(tx, message, message.received)))
            self._keep_early(tx, early)
            self.store.tried(tx, self._name, [m.incoming.message_id for m in messages if _tried_before(m.incoming)])
            reached("consumer.handled")
        reached("consumer.parked" if early else "consumer.committed")
        self._count(
            handled, parked=len(early), passed=len(due) - len(handled), had=len(messages) - len(due) - len(early)
        )

    async def _sort_out(self, tx: Transaction, messages: Sequence[Decoded]) -> tuple[list[Decoded], list[Decoded]]:
        if self.consumer.order is Order.ANY:
            fresh = await self.store.first_time(tx, self._name, [message.id for message in messages])
            return [message for message in messages if _taken(fresh, message.id)], []
        positions = await self.store.positions(tx, self._name, [message.stream.id for message in messages])
        due, early = in_order(self.consumer.order, positions, messages)
        moved = {message.stream.id: positions[message.stream.id] for message in (*due, *early)}
        self.store.advance(tx, self._name, moved)
        self._waiting |= {stream_id for stream_id, position in moved.items() if position.waiting}
        return due, early

    def _keep_early(self, tx: Transaction, early: Sequence[Decoded]) -> None:
        parked = [
            Parked(
                message.stream.id, message.stream.version, message.incoming.message_id,
                producer_of(message.envelope.source), message.incoming.body,
            )
            for message in early
        ]  # fmt: skip
        self.store.park(tx, self._name, parked)

    async def _run(self, tx: Transaction, message: Decoded, received: Received) -> Context:
        envelope, handler = message.envelope, self._handlers[message.envelope.type]
        context = continue_context(
            envelope.traceparent, correlation_id=envelope.correlationid, causation_id=str(envelope.id)
        )
        with in_context(context):
            if context.sampled:
                with span(f"{self.queue} process", context, SpanKind.CONSUMER, event_type=envelope.type):
                    await handler(tx, received)
                    await tx.flush()  # so that the span tells what the effect took
            else:
                await handler(tx, received)
                tx.end_step()
        return context

    def _count(self, handled: Sequence[tuple[Decoded, Context]], *, parked: int, passed: int, had: int) -> None:
        now, name, health = datetime.now(UTC), self._name, self.consumer.health
        observe = EVENT_LAG_SECONDS.labels(name).observe
        for message, context in handled:
            lag_s = (now - message.envelope.time).total_seconds()
            observe(max(0.0, lag_s))
            health.within_sla += lag_s <= self.consumer.sla_s
            with in_context(context):
                log.info("event.handled", consumer=name, type=message.envelope.type, event_id=str(message.id))
        health.completed += len(handled)
        for outcome, count in (("handled", len(handled)), ("duplicate", had), ("parked", parked), ("passed", passed)):
            EVENTS_HANDLED.labels(name, outcome).inc(count)

    async def _alone(self, message: Decoded) -> bool:
        """As `_one`, of what may kill the process: each try is on record before it is made, until how it went is."""
        async with self._by_itself:
            message_id = message.incoming.message_id
            tries = await self._patience.surely(lambda: self.store.suspect(self._name, message_id))
            if tries > CRASHES_MAX:
                error = RuntimeError(f"the process did not survive it {CRASHES_MAX} times")
                return await self._give_up(message.incoming, error, reason="crashed", stream=message.stream)
            return await self._one(message)

    async def _one(self, message: Decoded) -> bool:
        """True when the message needs nothing more here, False when it is in the ladder or a dead letter."""
        conflicts = 0
        while True:
            try:
                await self._transact([message])
            except ConcurrentUpdate as error:
                conflicts += 1
                if conflicts >= CONFLICT_TRIES:
                    return await self._later(message, error)
            except NotYet as error:
                return await self._later(message, error)
            except (
                ValueError
            ) as error:  # asyncpg's word for an argument that cannot be sent is one of its transient ones
                return await self._give_up(message.incoming, error, reason="permanent", stream=message.stream)
            except TRANSIENT_ERRORS as error:
                if not await self._patience.was_away(error):
                    return await self._later(message, error)
            except Exception as error:  # a defect: waiting cannot mend it
                return await self._give_up(message.incoming, error, reason="permanent", stream=message.stream)
            else:
                return True

    async def _later(self, message: Decoded, error: BaseException) -> bool:
        incoming, attempt = message.incoming, attempt_of(message.incoming)
        if attempt > len(topology.ATTEMPT_DELAYS_S):
            return await self._give_up(incoming, error, reason="exhausted", stream=message.stream)
        delay_s = topology.ATTEMPT_DELAYS_S[attempt - 1]
        log.warning(
            "event.retry", consumer=self._name, message_id=incoming.message_id, attempt=attempt, error=repr(error)
        )
        EVENTS_HANDLED.labels(self._name, "retry").inc()
        await self._patience.surely(
            lambda: self.store.retrying(self._name, incoming.message_id, message.stream, delay_s=delay_s)
        )
        reached("consumer.retry_noted")
        copy = Outgoing(
            exchange=topology.retry_queue(self._service, delay_s),
            routing_key=self.queue,
            message_id=incoming.message_id,
            body=incoming.body,
            headers={ATTEMPT_HEADER: attempt + 1},
        )
        await self._publish_surely(copy)
        reached("consumer.retry_published")
        return False

    async def _publish_surely(self, message: Outgoing) -> None:
        """Until the broker has it; meanwhile the original stays unacknowledged, so nothing can be lost."""
        while True:
            try:
                return await self._publisher.publish(message)
            except (BrokerUnavailable, PublishRefused) as error:
                log.warning("consumer.retry_not_published", consumer=self._name, error=repr(error))
                await asyncio.sleep(0.5)

    async def _give_up(
        self, incoming: Incoming, error: BaseException, *, reason: str, stream: Stream | None
    ) -> bool:  # fmt: skip
        self.consumer.health.failed += 1
        EVENTS_HANDLED.labels(self._name, "dead").inc()
        await self._patience.surely(
            lambda: self.store.give_up(
                incoming, error, consumer=self._name, queue=self.queue, reason=reason, attempts=attempt_of(incoming),
                stream=stream,
            )
        )  # fmt: skip
        reached("deadletter.kept")
        return False


def _taken(fresh: set[UUID], message_id: UUID) -> bool:
    """Whether it is fresh; from now on it is not."""
    was = message_id in fresh
    fresh.discard(message_id)
    return was


def _returns(incoming: Incoming) -> int:
    value = incoming.headers.get(RETURNS_HEADER, 0)
    return value if isinstance(value, int) else 0


def _tried_before(incoming: Incoming) -> bool:
    """It may be on record as waiting in the ladder, even when its process died before it was sent there, or as suspect."""
    return attempt_of(incoming) > 1 or _returns(incoming) > 0


def attempt_of(incoming: Incoming) -> int:
    """Which attempt this delivery is; ours to count, not the broker's."""
    value = incoming.headers.get(ATTEMPT_HEADER, 1)
    return value if isinstance(value, int) else 1
