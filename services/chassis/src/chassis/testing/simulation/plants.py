"""Broken pieces, to be planted one at a time: each breaks a promise that the simulation must find broken."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from chassis import consumer
from chassis.broker import Acknowledging, BrokerUnavailable, Incoming, Outgoing, PublishRefused, Subscription
from chassis.confirms import Answer
from chassis.consumer import ConsumerRunner, Decoded
from chassis.database import Transaction
from chassis.gaps import Gaps
from chassis.message_store import Position
from chassis.outbox import PARTITIONS, Relay
from chassis.testing.simulation import service, stores
from chassis.testing.simulation.database import Database
from chassis.testing.simulation.service import Leased
from chassis.testing.simulation.stores import SimulatedMessages

_send = Leased.publish_all
_keep_leases = Relay._keep_leases


async def _every_time_first(_: SimulatedMessages, tx: Transaction, name: str, message_ids: Sequence[UUID]) -> set[UUID]:
    """The inbox says of everything that it was never had."""
    return set(message_ids)


async def _confirmed_at_once(publisher: Leased, messages: Sequence[Outgoing]) -> list[Answer]:
    """Rows are deleted as soon as they are sent."""
    sending = asyncio.ensure_future(_send(publisher, messages))
    sending.add_done_callback(lambda done: done.cancelled() or done.exception())
    return [None for _ in messages]


async def _taken_as_confirmed(publisher: Leased, messages: Sequence[Outgoing]) -> list[Answer]:
    """What the broker refuses is deleted like what it took."""
    answers = await _send(publisher, messages)
    return [None if isinstance(answer, PublishRefused) else answer for answer in answers]


async def _leases_for_ever(relay: Relay) -> None:
    """The relay never asks itself whether its leases still last."""
    await _keep_leases(relay)
    relay._sure_until = math.inf


def _lease_everything(database: Database, owner: UUID, seconds: float) -> list[int]:
    """Leases are taken from whoever has them."""
    database.tables.leases = [(owner, database.now + seconds)] * PARTITIONS
    return list(range(PARTITIONS))


async def _acknowledged_first(
    channel: Acknowledging, arrived: asyncio.Queue[Incoming], subscription: Subscription
) -> None:  # fmt: skip
    """A message is acknowledged before it had its effect."""
    while True:
        batch = [await arrived.get()]
        await channel.basic_ack(batch[-1].tag, multiple=True)
        await subscription.handle(batch)


def _nothing_is_early(
    order: object, positions: Mapping[UUID, Position], messages: Sequence[Decoded]
) -> tuple[list[Decoded], list[Decoded]]:  # fmt: skip
    """The gate lets pass what is ahead of its turn."""
    due = []
    for message in messages:
        position = positions[message.stream.id]
        if message.stream.version > position.version:
            position.version = message.stream.version
            due.append(message)
    return due, []


def _nothing_was_had(
    order: object, positions: Mapping[UUID, Position], messages: Sequence[Decoded]
) -> tuple[list[Decoded], list[Decoded]]:  # fmt: skip
    """An older version than the one that is had is applied all the same."""
    for message in messages:
        positions[message.stream.id].version = max(positions[message.stream.id].version, message.stream.version)
    return list(messages), []


async def _positions_unlocked(
    store: SimulatedMessages, tx: Transaction, name: str, streams: Sequence[UUID]
) -> dict[UUID, Position]:  # fmt: skip
    """Two workers may look at the same position at once."""
    kept = await store._act(lambda: {stream: store._kept(name, stream) for stream in streams})
    return {stream: Position(row.version, row.waiting) for stream, row in kept.items()}


async def _published_perhaps(runner: ConsumerRunner, message: Outgoing) -> None:
    """The original is acknowledged whether or not its copy is in the ladder."""
    try:
        await runner._publisher.publish(message)
    except (BrokerUnavailable, PublishRefused):
        return


def _forgotten(*_: Any, **__: Any) -> None:
    """Nothing is kept."""


async def _forgotten_later(*_: Any, **__: Any) -> None:
    """Nothing is kept, or done."""


_BROKEN: dict[str, tuple[Any, str, Any]] = {
    "no-inbox": (SimulatedMessages, "first_time", _every_time_first),
    "delete-before-confirm": (Leased, "publish_all", _confirmed_at_once),
    "delete-refused": (Leased, "publish_all", _taken_as_confirmed),
    "no-lease-check": (Relay, "_keep_leases", _leases_for_ever),
    "lease-steals": (stores, "lease", _lease_everything),
    "ack-before-commit": (service, "handle_for_ever", _acknowledged_first),
    "gate-skips-gap": (consumer, "in_order", _nothing_is_early),
    "old-after-new": (consumer, "in_order", _nothing_was_had),
    "positions-unlocked": (SimulatedMessages, "positions", _positions_unlocked),
    "park-forgets": (SimulatedMessages, "park", _forgotten),
    "drain-forgets": (ConsumerRunner, "drain", _forgotten_later),
    "ladder-unconfirmed": (ConsumerRunner, "_publish_surely", _published_perhaps),
    "gap-not-asked": (Gaps, "_ask", _forgotten_later),
    "dead-letter-forgets": (SimulatedMessages, "give_up", _forgotten_later),
}
PLANTS = tuple(_BROKEN)


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """With one piece broken, or none."""
    if name is None:
        yield
        return
    owner, attribute, broken = _BROKEN[name]
    whole: Callable[..., Any] = getattr(owner, attribute)
    setattr(owner, attribute, broken)
    try:
        yield
    finally:
        setattr(owner, attribute, whole)
