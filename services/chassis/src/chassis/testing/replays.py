"""Facts told again: a test asks a service for them, or plays the producer that is asked."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import UUID, uuid4

import aio_pika
from contracts.commands import (
    REPLAY_HEADER,
    REPLAY_MARK_HEADER,
    CancelReplay,
    Replay,
    ReplayMark,
    Resend,
    command_of,
)
from contracts.envelope import Event
from contracts.registry import Received, decode
from contracts.topology import control_queue, exchange

from chassis.broker import declare_topology
from chassis.kernel import new_id
from chassis.outbox import Announcement, envelope_bytes
from chassis.telemetry import in_context, start_context
from chassis.testing.patience import eventually


class Asking:
    """A queue of the test, to which a service's facts come once more; keeps them in order of arrival."""

    def __init__(self, broker_url: str, service: str) -> None:
        self._url = broker_url
        self._control = control_queue(service)
        self._stack = AsyncExitStack()
        self.queue = f"q.test.told_again_{uuid4().hex[:8]}"
        self.received: list[Received] = []
        self.replays: set[str] = set()
        self.marks: list[ReplayMark] = []

    async def __aenter__(self) -> Self:
        connection = await self._stack.enter_async_context(await aio_pika.connect(self._url))
        self.channel = await connection.channel()
        await self.channel.set_qos(prefetch_count=500)
        self.declared = await self.channel.declare_queue(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.queue_delete(self.queue)
        await self._stack.aclose()

    async def listen(self) -> None:
        """Take what comes from now on."""
        await self.declared.consume(self._keep)

    async def ask(self, command: Resend | Replay | CancelReplay) -> None:
        """Give the service a command."""
        await self.send(command.model_dump_json().encode())

    async def send(self, body: bytes) -> None:
        """Give the service bytes."""
        message = aio_pika.Message(body, message_id=str(new_id()), delivery_mode=2)
        await self.channel.default_exchange.publish(message, self._control)

    async def replay(self, aggregates: Iterable[str]) -> ReplayMark:
        """Everything of these aggregates; returns the end mark once it is there."""
        await self.listen()
        await self.ask(Replay(queue=self.queue, replay_id=new_id(), aggregates=list(aggregates)))
        await eventually(lambda: bool(self.marks) and self.marks[-1].ended, timeout_s=60)
        return self.marks[-1]

    async def came(self, count: int) -> None:
        """Wait for so many facts."""
        await eventually(lambda: len(self.received) >= count, timeout_s=30)

    async def _keep(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        if REPLAY_MARK_HEADER in message.headers:
            self.marks.append(ReplayMark.model_validate_json(message.body))
        else:
            self.replays.add(str(message.headers.get(REPLAY_HEADER)))
            self.received.append(decode(message.body))
        await message.ack()


@dataclass(frozen=True, order=True)
class Told:
    """A fact as a producer keeps it."""

    subject: UUID
    version: int
    body: bytes = field(compare=False)
    routing_key: str = field(compare=False)
    event_id: UUID = field(compare=False)


class Playing:
    """Plays a producer: publishes its facts, keeps them, and tells them again to whoever asks for a replay.

    A replay goes stream by stream, as the real one, beside what is told meanwhile. It ends when `may_end` is set, or
    with `fails_with`.
    """

    def __init__(self, broker_url: str, producer: str, *, pace_s: float = 0.0, page: int = 20) -> None:
        self._url = broker_url
        self._producer = producer
        self.pace_s = pace_s
        self._page = page
        self._stack = AsyncExitStack()
        self._replays: dict[UUID, asyncio.Task[None]] = {}
        self.kept: list[Told] = []
        self.asked: list[Replay] = []
        self.cancelled: set[UUID] = set()
        self.resends: list[Resend] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.fails_with: str | None = None

    async def __aenter__(self) -> Self:
        await declare_topology(self._url, self._producer, {})
        connection = await self._stack.enter_async_context(await aio_pika.connect(self._url))
        self._channel = await connection.channel()
        self._exchange = await self._channel.get_exchange(exchange(self._producer))
        control = await self._channel.get_queue(control_queue(self._producer))
        await control.purge()
        await control.consume(self._answer)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._replays.values():
            task.cancel()
        await asyncio.gather(*self._replays.values(), return_exceptions=True)
        await self._stack.aclose()

    async def tell(
        self, event: Event, subject: UUID, version: int, *, owner: UUID | None = None, at: datetime | None = None
    ) -> None:
        """Commit and publish a fact."""
        event_id = new_id()
        with in_context(start_context()):
            body = envelope_bytes(Announcement(event, owner), subject, event_id, version, at or datetime.now(UTC))
        await self.say(Told(subject, version, body, event.routing_key(), event_id))

    async def say(self, told: Told) -> None:
        """Commit and publish a fact whose bytes are made."""
        bisect.insort(self.kept, told)
        await self._exchange.publish(_message(told.body, told.event_id), told.routing_key)

    async def _answer(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        command = command_of(message.body)
        if isinstance(command, Replay):
            self.asked.append(command)
            self._replays[command.replay_id] = asyncio.create_task(self._replay(command))
        elif isinstance(command, CancelReplay):
            self.cancelled.add(command.replay_id)
        else:
            self.resends.append(command)
        await message.ack()

    async def _replay(self, command: Replay) -> None:
        sent, last = 0, None
        while command.replay_id not in self.cancelled:
            start = 0 if last is None else bisect.bisect_right(self.kept, last)
            page = [*self.kept[start : start + self._page]]
            if not page and self.may_end.is_set():
                return await self._mark(command, sent, ended=True)
            for told in page:
                last = told
                if told.routing_key.partition(".")[0] in command.aggregates:
                    sent += 1
                    headers = {REPLAY_HEADER: str(command.replay_id)}
                    await self._send(command.queue, _message(told.body, told.event_id, headers))
            if page or self.fails_with is not None:
                await self._mark(command, sent, ended=self.fails_with is not None)
            if self.fails_with is not None:
                return None
            await asyncio.sleep(self.pace_s)
        return None

    async def _mark(self, command: Replay, sent: int, *, ended: bool) -> None:
        mark = ReplayMark(
            replay_id=command.replay_id, producer=self._producer, sent=sent, total=max(sent, len(self.kept)),
            ended=ended, error=self.fails_with,
        )  # fmt: skip
        headers = {REPLAY_MARK_HEADER: str(command.replay_id)}
        await self._send(command.queue, _message(mark.model_dump_json().encode(), new_id(), headers))

    async def _send(self, queue: str, message: aio_pika.Message) -> None:
        with contextlib.suppress(aio_pika.exceptions.DeliveryError):  # the queue is gone: nobody waits for it
            await self._channel.default_exchange.publish(message, queue)


def _message(body: bytes, message_id: UUID, headers: dict[str, str] | None = None) -> aio_pika.Message:
    return aio_pika.Message(body, message_id=str(message_id), delivery_mode=2, headers=dict(headers or {}))


def same_as_first_told(again: Iterable[Received], first: Sequence[Received]) -> int:
    """How many facts there were at first; each was told again once, byte for byte, each aggregate's in order."""
    told: dict[UUID, Received] = {}
    versions: dict[UUID, int] = {}
    for received in again:
        envelope = received.envelope
        assert envelope.id not in told, f"{envelope.type} twice"
        assert envelope.aggregateversion > versions.get(envelope.subject, 0), f"{envelope.type} out of order"
        told[envelope.id] = received
        versions[envelope.subject] = envelope.aggregateversion
    for received in first:
        envelope = received.envelope
        assert envelope.id in told, f"{envelope.type} version {envelope.aggregateversion} is missing"
        assert told[envelope.id].body == received.body, f"\n{received.body.decode()}\n{told[envelope.id].body.decode()}"
    return len(first)
