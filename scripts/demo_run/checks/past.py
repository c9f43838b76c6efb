"""What was can be asked for: a batch as it was before its last command, and where all of it is by its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.client import Caller, Gateway, Json
from scripts.demo_run.evidence import Evidence, Stored

LOOKED_AT = 24  # batches: those with the longest stories, and one of each end
JUST_BEFORE = timedelta(microseconds=1)
PLAIN = ("version", "status", "storage", "lot_code", "temperature_dc")
BUCKETS = ("total", "available", "held", "in_transit", "delivered", "lost")
Folded = Callable[[Mapping[str, int]], Awaitable[Mapping[str, Any]]]


async def check(evidence: Evidence, gateway: Gateway, reader: Caller, folded: Folded) -> list[Check]:
    """`?at=` against the fold of the events until then, and the trace against the ledger; `folded` asks the service's own code."""
    streams: dict[UUID, list[Stored]] = {}
    for event in evidence.stores["batches"]:
        streams.setdefault(event.stream, []).append(event)
    whole = {batch: events for batch, events in streams.items() if events[0].version == 1 and len(events) > 1}
    rows = await evidence.rows("batches", "SELECT id, status, held, in_transit, delivered, lost FROM batches")
    chosen = _chosen(whole, {UUID(int=row["id"].int): row["status"] for row in rows})
    ledgers = {UUID(int=row["id"].int): row for row in rows}
    return [
        await _as_it_was(gateway, reader, {batch: whole[batch] for batch in chosen}, folded),
        await _traced(gateway, reader, {batch: ledgers[batch] for batch in chosen}),
    ]


def _chosen(streams: Mapping[UUID, Sequence[Stored]], status: Mapping[UUID, str]) -> list[UUID]:
    longest = sorted(streams, key=lambda batch: (-len(streams[batch]), batch))
    of_each = {status[batch]: batch for batch in reversed(longest)}
    return list(dict.fromkeys([*of_each.values(), *longest[:LOOKED_AT]]))[:LOOKED_AT]


async def _as_it_was(
    gateway: Gateway, reader: Caller, streams: Mapping[UUID, Sequence[Stored]], folded: Folded
) -> Check:
    moments = {batch: events[-1].at - JUST_BEFORE for batch, events in streams.items()}
    until = {str(batch): _count_until(moments[batch], events) for batch, events in streams.items()}
    before = {batch: count for batch, count in until.items() if count}
    expected = await folded(before)
    different = []
    for batch in before:
        at = moments[UUID(batch)].isoformat()
        shown = await gateway.get(reader, "/v1/batches/{}", batch, at=at)
        names = [name for name, (one, other) in _pairs(shown, expected[batch]).items() if one != other]
        different += [f"batch {batch} at {at}: {name}" for name in names]
    figures = f"{len(before):,} batches just before their last command, {len(different):,} differ from the fold"
    return counted("batches: ?at= == fold", figures, strange=different)


def _count_until(moment: datetime, events: Sequence[Stored]) -> int:
    """How many of a stream's events, from the first on, were there at that moment."""
    return next((number for number, event in enumerate(events) if event.at > moment), len(events))


def _pairs(shown: Json, folded: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is shown beside what was folded."""
    pairs = {name: (shown[name], folded[name]) for name in PLAIN}
    pairs |= {name: (shown["quantities"][name], folded[name]) for name in BUCKETS}
    pairs["use_by_at"] = (_moment(shown["use_by_at"]), _moment(folded["use_by_at"]))
    return pairs


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def _traced(gateway: Gateway, reader: Caller, ledgers: Mapping[UUID, Mapping[str, Any]]) -> Check:
    """The parts of all holders add up to what is held, on the road and delivered; what they lost is part of what is lost."""
    different, holders = [], 0
    for batch, row in ledgers.items():
        sums: Counter[str] = Counter()
        async for holder in _holders(gateway, reader, str(batch)):
            holders += 1
            sums.update({part["where"]: part["quantity"] for part in holder["parts"] if part["where"] != "delivered"})
            sums["delivered"] += sum(part["quantity"] for part in holder["parts"] if part["where"] == "delivered")
        wrong = [name for name in ("held", "in_transit", "delivered") if sums[name] != row[name]]
        wrong += ["lost"] if sums["lost"] > row["lost"] else []
        different += [f"batch {batch}: {name} {row[name]:,}, by its trace {sums[name]:,}" for name in wrong]
    figures = f"{len(ledgers):,} batches, {holders:,} holders, {len(different):,} differ from the ledger"
    return counted("batches: traces", figures, strange=different)


async def _holders(gateway: Gateway, reader: Caller, batch: str) -> Any:
    cursor: Json = {}
    while True:
        page = await gateway.get(reader, "/v1/batches/{}/trace", batch, limit=200, **cursor)
        for holder in page["items"]:
            yield holder
        if not page.get("next_cursor"):
            return
        cursor = {"cursor": page["next_cursor"]}
