"""Copies what the broker itself gave up into the dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from contracts.registry import Undecodable, envelope_of

from chassis.broker import Incoming, Subscription
from chassis.consumer import Patience, attempt_of
from chassis.message_store import MessageStore, Stream
from contracts import topology


class Ingester:
    """Consumes a service's dead-letter queue; a message is acknowledged once its dead letter is committed."""

    def __init__(self, service: str, store: MessageStore) -> None:
        self._service = service
        self._store = store
        self._patience = Patience(store, "dead letters")

    @property
    def subscription(self) -> Subscription:
        """What the subscriber consumes for it."""
        return Subscription(queue=topology.dead_letter_queue(self._service), handle=self.handle)

    async def handle(self, batch: list[Incoming]) -> None:
        """One transaction each: a batch that holds one message twice would touch its row twice."""
        for incoming in batch:
            await self._patience.surely(lambda incoming=incoming: self._keep(incoming))  # type: ignore[misc]

    async def _keep(self, incoming: Incoming) -> None:
        queue, reason = _last_death(incoming)
        await self._store.give_up(
            _named(incoming), RuntimeError(f"given up by the broker: {reason}"),
            consumer=queue.removeprefix(topology.queue(self._service, "")), queue=queue, reason="broker",
            attempts=attempt_of(incoming), stream=_stream(incoming),
        )  # fmt: skip


def _stream(incoming: Incoming) -> Stream | None:
    try:
        envelope = envelope_of(incoming.body)
    except Undecodable:
        return None
    return Stream(envelope.subject, envelope.aggregateversion)


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
