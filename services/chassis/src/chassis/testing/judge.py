"""What was sent against what was applied, and whether everything is at rest: by plain SQL and AMQP, without the chassis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

import aio_pika
import asyncpg

from contracts import topology

SHOWN_MAX = 10  # ids of each kind in a message
EXACTLY_ONCE = ("any", "gated")
IN_ORDER = ("gated", "monotonic")

_SENT = "SELECT stream_id, version, event_id FROM events"
_APPLIED = "SELECT consumer, stream_id, version, event_id FROM applied ORDER BY seq"
_DEAD = "SELECT consumer, message_id FROM dead_letters WHERE status = 'open'"
_REDRIVEN = "dead_letters WHERE status = 'redriving'"
_EMPTY = ("outbox", "parked_messages", "retrying_messages", "suspects", _REDRIVEN)  # at rest, if there are such tables

Event = tuple[UUID, int, UUID]  # stream, version, id


@dataclass
class Verdict:
    """Counts, and every event by which the invariant is broken, as `consumer: stream version id`."""

    sent: int = 0
    applied: dict[str, int] = field(default_factory=dict)
    dead: dict[str, set[UUID]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    restless: list[str] = field(default_factory=list)
    overtaken: int = 0  # events that a consumer without an order applied after a later one; no fault

    @property
    def holds(self) -> bool:
        """Nothing lost, doubled, invented or out of order, and everything at rest."""
        return not (self.lost or self.doubled or self.out_of_order or self.invented or self.restless)

    def counts(self) -> str:
        """One line."""
        applied = ", ".join(f"{consumer} {count}" for consumer, count in sorted(self.applied.items()))
        dead = sum(map(len, self.dead.values()))
        broken = f"lost {len(self.lost)}, doubled {len(self.doubled)}, out of order {len(self.out_of_order)}"
        invented = f", invented {len(self.invented)}" if self.invented else ""
        return f"sent {self.sent}; applied {applied or 'nothing'}; {broken}{invented}; dead letters {dead}"

    def __str__(self) -> str:
        lines = [self.counts()]
        for kind in ("lost", "doubled", "out_of_order", "invented", "restless"):
            found: list[str] = getattr(self, kind)
            if found:
                more = f" … {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
                lines.append(f"{kind.replace('_', ' ')}: {'; '.join(found[:SHOWN_MAX])}{more}")
        return "\n".join(lines)


class Judge:
    """Looks at the databases of both sides and at the broker's queues."""

    def __init__(self, producer_url: str, consumer_url: str, broker_url: str, *, consumers: Sequence[str]) -> None:
        self._producer_url = producer_url
        self._consumer_url = consumer_url
        self._broker_url = broker_url
        self._consumers = consumers

    async def verdict(self) -> Verdict:
        """All of it, compared event by event."""
        sent = [_event(row) for row in await _rows(self._producer_url, _SENT)]
        applied: dict[str, list[Event]] = {consumer: [] for consumer in self._consumers}
        for row in await _rows(self._consumer_url, _APPLIED):
            applied[row["consumer"]].append(_event(row))
        found = Verdict(sent=len(sent), applied={name: len(events) for name, events in applied.items()})
        for row in await _rows(self._consumer_url, _DEAD):
            found.dead.setdefault(row["consumer"], set()).add(UUID(row["message_id"]))
        for consumer, events in applied.items():
            compare(found, consumer, sent, events)
        found.restless = await self.restless()
        return found

    async def restless(self) -> list[str]:
        """What is still under way: `what: how much`."""
        counts = await self.depths()
        for side, url in (("producer", self._producer_url), ("consumer", self._consumer_url)):
            counts |= {f"{side}'s {table}": count for table, count in (await _waiting(url)).items()}
        return [f"{what}: {count}" for what, count in counts.items() if count]

    async def depths(self) -> dict[str, int]:
        """Messages ready in every queue of both services that exists."""
        found = {}
        async with await aio_pika.connect(self._broker_url) as connection:
            for name in queues(self._consumers):
                async with connection.channel() as channel:  # a queue that is not there closes its channel
                    try:
                        found[name] = (await channel.declare_queue(name, passive=True)).declaration_result.message_count
                    except aio_pika.exceptions.ChannelNotFoundEntity:
                        continue
        return {name: count or 0 for name, count in found.items()}

    async def settled(self) -> bool:
        """Whether it is worth comparing: nothing is under way and as much was applied as was sent; cheap enough to ask often."""
        if await self.restless():
            return False
        [sent] = await _rows(
            self._producer_url, "SELECT count(*) AS events, count(DISTINCT stream_id) AS streams FROM events"
        )
        counts = {row["consumer"]: row["count"] for row in await _rows(self._consumer_url, _COUNTS)}
        least = {
            consumer: sent["events"] if consumer in EXACTLY_ONCE else sent["streams"] for consumer in self._consumers
        }
        return all(counts.get(consumer, 0) >= wanted for consumer, wanted in least.items())


# What is an open dead letter was not applied, and need not be.
_COUNTS = """SELECT consumer, sum(n)::int AS count FROM (
    SELECT consumer, count(*) AS n FROM applied GROUP BY consumer UNION ALL
    SELECT consumer, count(*) FROM dead_letters WHERE status = 'open' GROUP BY consumer) x GROUP BY consumer"""


def queues(consumers: Iterable[str]) -> list[str]:
    """Every queue of the probe's two services."""
    from chassis.testing.ledger import CONSUMER, PRODUCER

    own = [topology.queue(CONSUMER, consumer) for consumer in consumers]
    shared = [
        name
        for service in (CONSUMER, PRODUCER)
        for name in (
            topology.control_queue(service),
            topology.dead_letter_queue(service),
            *(topology.retry_queue(service, delay_s) for delay_s in topology.RETRY_DELAYS_S),
        )
    ]
    return [*own, *shared]


def compare(found: Verdict, consumer: str, sent: Sequence[Event], applied: Sequence[Event]) -> None:
    """Add to `found` what a consumer that applied these, in this order, did wrong."""
    known, times, dead = set(sent), Counter(applied), found.dead.get(consumer, set())
    told = _Teller(consumer)
    found.invented += [told(event) for event in times if event not in known]
    found.doubled += [told(event) for event, count in times.items() if count > 1]
    if consumer in EXACTLY_ONCE:
        found.lost += [told(event) for event in sent if event not in times and event[2] not in dead]
    else:
        newest = {stream: max(version for _, version, _ in events) for stream, events in _by_stream(applied).items()}
        found.lost += [
            told(events[-1])
            for stream, events in _by_stream(sorted(sent)).items()
            if newest.get(stream, 0) < events[-1][1] and events[-1][2] not in dead
        ]
    overtaken = [
        told(after)
        for events in _by_stream(applied).values()
        for before, after in pairwise(events)
        if after[1] < before[1]
    ]
    if consumer in IN_ORDER:
        found.out_of_order += overtaken
    else:
        found.overtaken += len(overtaken)


class _Teller:
    def __init__(self, consumer: str) -> None:
        self._consumer = consumer

    def __call__(self, event: Event) -> str:
        return f"{self._consumer}: {event[0]} v{event[1]} {event[2]}"


def _by_stream(events: Iterable[Event]) -> Mapping[UUID, list[Event]]:
    found: dict[UUID, list[Event]] = defaultdict(list)
    for event in events:
        found[event[0]].append(event)
    return found


def _event(row: asyncpg.Record) -> Event:
    return UUID(int=row["stream_id"].int), row["version"], UUID(int=row["event_id"].int)


async def _waiting(url: str) -> dict[str, int]:
    """Rows of the tables that must be empty, those of them that exist."""
    there = [
        rows for rows in _EMPTY if await _rows(url, f"SELECT 1 WHERE to_regclass('{rows.split()[0]}') IS NOT NULL")
    ]
    [counts] = await _rows(url, f"SELECT {', '.join(f'(SELECT count(*) FROM {rows})' for rows in there)}")
    return dict(zip(there, counts, strict=True))


async def _rows(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        found: list[asyncpg.Record] = await connection.fetch(query)
        return found
    finally:
        await connection.close()
