"""Every published event took effect once in every consumer that binds it, and nothing waits or was given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from scripts.demo_run.checks import Check, counted, examples
from scripts.demo_run.evidence import Evidence, Stored, is_private
from scripts.demo_run.stack import SERVICES

# Of no stream: that one was handled cannot be compared with any store, so its consumer's inbox may hold more than those have.
STREAMLESS = frozenset({
    "vouajudar.webhooks.message.exhausted.v1",
    "vouajudar.resources.catalogue_chunk.stored.v1", "vouajudar.resources.catalogue_chunk.products_changed.v1",
})  # fmt: skip
ENDED = ("delivered", "returned", "discarded", "cancelled", "expired", "failed")
LATE_PROCESSES = (
    "SELECT kind, key FROM processes WHERE status = 'running' AND deadline < now() - interval '1 minute' LIMIT 100"
)
PROCESSES_OF_NOTHING = (
    "SELECT p.kind, p.key, d.status FROM processes p JOIN deliveries d ON d.id = p.key"
    " WHERE p.status = 'running' AND d.status = ANY($1::text[]) LIMIT 100"
)


async def check(evidence: Evidence, bindings: Mapping[str, Sequence[str]]) -> list[Check]:
    """The stores, the outboxes, each inbox, what waits, the dead letters, the audit trail."""
    found = [_named(evidence, service) for service in SERVICES if evidence.stores[service]]
    found.append(await _outboxes(evidence))
    found.append(await _waiting(evidence))
    found.append(await _dead_letters(evidence))
    found.append(await _processes(evidence))
    for consumer, types in sorted(bindings.items()):
        found.append(await _inbox(evidence, consumer, types))
    found.append(await _audit_trail(evidence, bindings))
    return found


def _named(evidence: Evidence, producer: str) -> Check:
    store = evidence.stores[producer]
    unknown = [event for event in store if event.public is None and not is_private(producer, event.kind)]
    public = sum(event.public is not None for event in store)
    figures = f"{len(store):,} stored, {public:,} published"
    return Check(f"{producer}: event store", not unknown, figures, examples=examples({one.kind for one in unknown}))


async def _outboxes(evidence: Evidence) -> Check:
    left = {service: await evidence.value(service, "SELECT count(*) FROM outbox") for service in SERVICES}
    waiting = {service: count for service, count in left.items() if count}
    return Check("outboxes empty", not waiting, f"{sum(left.values()):,} waiting", examples=examples(waiting.items()))


async def _waiting(evidence: Evidence) -> Check:
    found = {}
    for service in SERVICES:
        for table in ("parked_messages", "retrying_messages", "suspects"):
            found[f"{service}: {table}"] = await evidence.value(service, f"SELECT count(*) FROM {table}")
    waiting = {where: count for where, count in found.items() if count}
    return Check("nothing waits for its turn", not waiting, f"{sum(waiting.values()):,} waiting",
                 examples=examples(waiting.items()))  # fmt: skip


async def _dead_letters(evidence: Evidence) -> Check:
    found = []
    for service in SERVICES:
        rows = await evidence.rows(
            service,
            "SELECT consumer, error_type, left(error_message, 120) AS why, count(*) AS times FROM dead_letters"
            " WHERE status IN ('open', 'redriving') GROUP BY 1, 2, 3 ORDER BY times DESC",
        )
        found += [(row["times"], f"{service}.{row['consumer']}: {row['error_type']}: {row['why']}") for row in rows]
    total = sum(times for times, _ in found)
    return Check(
        "no dead letters", not total, f"{total:,} open", examples=examples(f"{n} times {why}" for n, why in found)
    )


async def _processes(evidence: Evidence) -> Check:
    """No process manager is late, and none still follows a delivery that is over."""
    counts, wrong = [], []
    for service in SERVICES:
        counts.append(await evidence.value(service, "SELECT count(*) FROM processes"))
        late = await evidence.rows(service, LATE_PROCESSES)
        wrong += [f"{service}: {row['kind']} of {row['key']} is late" for row in late]
    left = await evidence.rows("deliveries", PROCESSES_OF_NOTHING, list(ENDED))
    wrong += [f"deliveries: {row['kind']} of {row['key']}, which is {row['status']}" for row in left]
    return counted("processes go on", f"{sum(counts):,} begun, {len(wrong):,} stuck", strange=wrong)


async def _inbox(evidence: Evidence, consumer: str, types: Sequence[str]) -> Check:
    """Each message id, or each position, is a primary key there, so nothing is handled twice; it can be missing, or strange."""
    service, _, base = consumer.rpartition(".")
    name = (await evidence.generations(service, base))[0]
    wanted = set(types)
    expected = {event.id for event in evidence.published.values() if event.public in wanted}
    rows = await evidence.rows(
        service, "SELECT message_id FROM inbox WHERE consumer = $1 AND processed_at > $2", name, evidence.since
    )
    handled = {UUID(int=row["message_id"].int) for row in rows}
    positions = await evidence.rows(
        service, "SELECT stream_id, version FROM stream_positions WHERE consumer = $1", name
    )
    had = {UUID(int=row["stream_id"].int): row["version"] for row in positions}
    handled |= {
        one for one in expected if evidence.published[one].version <= had.get(evidence.published[one].stream, 0)
    }
    lost = [_shown(evidence.published[one]) for one in expected - handled]
    strange = set() if wanted & STREAMLESS else handled - expected
    return counted(f"{consumer}: inbox", f"{len(expected):,} published, {len(handled & expected):,} handled",
                   lost=lost, strange=strange)  # fmt: skip


async def _audit_trail(evidence: Evidence, bindings: Mapping[str, Sequence[str]]) -> Check:
    """The audit trail has each event once, as its producer has it."""
    wanted = set(bindings["analytics.events"])
    expected = {event.id: event for event in evidence.published.values() if event.public in wanted}
    rows = await evidence.rows(
        "analytics",
        "SELECT event_id, type, subject, version FROM audit_events WHERE occurred_at > $1",
        evidence.since,
    )
    kept = {UUID(int=row["event_id"].int) for row in rows}
    lost = [_shown(event) for event in expected.values() if event.id not in kept]
    streams = Counter((_aggregate(row["type"]), row["subject"], row["version"]) for row in rows)
    doubled = [stream for stream, times in streams.items() if times > 1]
    altered = [
        row["event_id"]
        for row in rows
        if (event := expected.get(UUID(int=row["event_id"].int))) is None
        or (row["type"], row["version"]) != (event.public, event.version)
        or UUID(int=row["subject"].int) != event.stream
    ]
    return counted("audit trail", f"{len(expected):,} published, {len(kept):,} kept",
                   lost=lost, doubled=doubled, strange=altered)  # fmt: skip


def _aggregate(event_type: str) -> str:
    """`vouajudar.<producer>.<aggregate>` of a type: an organization and its task templates have one id."""
    return ".".join(event_type.split(".")[:3])


def _shown(event: Stored) -> str:
    return f"{event.producer} {event.kind} {event.id}"
