"""Waits until nothing moves any more: outboxes and queues empty, webhooks and e-mails settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

import aio_pika
from aio_pika.abc import AbstractConnection

from contracts import topology
from scripts.demo_run.evidence import Evidence
from scripts.demo_run.stack import SERVICES

POLL_S = 0.4
IN_A_ROW = 2  # what left a queue may be in somebody's hands: quiet must be seen twice
DEADLINE_S = 150.0

DUE_TIMERS = "SELECT count(*) FROM timers WHERE due_at <= now()"
# What is due or in hand, not what waits for quiet hours, a paused endpoint or one that has not answered for long.
UNSETTLED = {
    "webhooks": (
        "webhook messages unsettled",
        "SELECT count(*) FROM webhook_messages m LEFT JOIN webhook_gates g ON g.endpoint_id = m.endpoint_id"
        " WHERE m.status = 'delivering' OR (m.status IN ('pending', 'retrying') AND m.due_at < now() + interval '15 seconds'"
        " AND (g.open_until IS NULL OR g.open_until < now() + interval '15 seconds'))",
    ),
    "notifications": (
        "e-mails unsent",
        "SELECT count(*) FROM messages WHERE channel = 'email' AND status = 'queued' AND due_at < now() + interval '90 seconds'",
    ),
}


class NeverQuiet(Exception):
    """Something still moves when the time is over; says what."""


async def until_quiet(
    evidence: Evidence, settings: Mapping[str, str], consumers: Iterable[str], *, deadline_s: float = DEADLINE_S
) -> float:
    """Return the seconds it took; raises `NeverQuiet` with what is still on its way."""
    began, quiet = time.monotonic(), 0
    connection = await aio_pika.connect(settings["VAJ_BROKER_URL"], timeout=10)
    try:
        while quiet < IN_A_ROW:
            moving = await moving_now(evidence, connection, consumers)
            quiet = 0 if moving else quiet + 1
            if moving and time.monotonic() - began > deadline_s:
                still = ", ".join(f"{count:,} {what}" for what, count in moving.items())
                raise NeverQuiet(f"not quiet after {deadline_s:.0f} s: {still}")
            await asyncio.sleep(POLL_S)
    finally:
        await connection.close()
    return time.monotonic() - began


async def moving_now(evidence: Evidence, connection: AbstractConnection, consumers: Iterable[str]) -> dict[str, int]:
    """Everything that is on its way, by what it is; nothing when all is quiet."""
    found = {}
    for service in SERVICES:
        found[f"in the outbox of {service}"] = await evidence.value(service, "SELECT count(*) FROM outbox")
        found[f"due timers of {service}"] = await evidence.value(service, DUE_TIMERS)
    for service, (what, query) in UNSETTLED.items():
        found[what] = await evidence.value(service, query)
    for queue in await _queues(evidence, consumers):
        found[f"in {queue}"] = await _depth(connection, queue)
    return {what: count for what, count in found.items() if count}


async def _queues(evidence: Evidence, consumers: Iterable[str]) -> list[str]:
    named = [consumer.split(".", 1) for consumer in consumers]
    own = [
        topology.queue(service, each) for service, name in named for each in await evidence.generations(service, name)
    ]
    retries = [topology.retry_queue(service, delay) for service in SERVICES for delay in topology.RETRY_DELAYS_S]
    return [*own, *retries, *(topology.dead_letter_queue(service) for service in SERVICES)]


async def _depth(connection: AbstractConnection, queue: str) -> int:
    """Messages ready in a queue; one that does not exist has none, and the broker closes the channel that asked."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return 0
    finally:
        if not channel.is_closed:
            await channel.close()
