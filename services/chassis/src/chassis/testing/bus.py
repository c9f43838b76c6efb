"""The bus as the other services see it: publish facts, listen to what a service publishes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

import aio_pika
from contracts.envelope import Event
from contracts.registry import Received, decode
from contracts.topology import exchange

from chassis.kernel import new_id
from chassis.outbox import Announcement, envelope_bytes
from chassis.telemetry import in_context, start_context
from chassis.testing.patience import eventually


async def purge(broker_url: str, queues: Sequence[str]) -> None:
    """Empty queues."""
    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        for name in queues:
            await (await channel.declare_queue(name, passive=True)).purge()


class Bus:
    """Publishes facts of any service, each with a fresh id unless told otherwise."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def publish(
        self, event: Event, *, subject: UUID, version: int = 1, event_id: UUID | None = None,
        organization_id: UUID | None = None, parties: Sequence[UUID] = (),
    ) -> UUID:  # fmt: skip
        """Send one fact to its producer's exchange; returns its id."""
        event_id = event_id or new_id()
        with in_context(start_context()):
            body = envelope_bytes(
                Announcement(event, organization_id, tuple(parties)), subject, event_id, version, datetime.now(UTC)
            )
        await self.send(body, producer=event.producer, routing_key=event.routing_key(), message_id=str(event_id))
        return event_id

    async def send(self, body: bytes, *, producer: str, routing_key: str, message_id: str) -> None:
        """Send bytes as they are: poison included."""
        target = await self._channel.declare_exchange(exchange(producer), aio_pika.ExchangeType.TOPIC, durable=True)
        await target.publish(aio_pika.Message(body, message_id=message_id, delivery_mode=2), routing_key)


class Tap:
    """Keeps every fact a service publishes, in order of arrival."""

    def __init__(self, broker_url: str, service: str) -> None:
        self._url = broker_url
        self._service = service
        self.received: list[Received] = []

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        source = await channel.declare_exchange(exchange(self._service), aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(source, "#")
        await queue.consume(self._keep, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def _keep(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.received.append(decode(message.body))

    def of(self, kind: type[Event], subject: UUID | None = None) -> list[Received]:
        """The facts of one type, about one aggregate when named."""
        return [r for r in self.received if isinstance(r.event, kind) and subject in (None, r.envelope.subject)]

    async def saw(self, kind: type[Event], subject: UUID | None = None) -> Received:
        """The first such fact, once it has come."""
        await eventually(lambda: bool(self.of(kind, subject)))
        return self.of(kind, subject)[0]
