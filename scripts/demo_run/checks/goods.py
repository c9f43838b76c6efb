"""Quantities: every ledger is conserved, deliveries and batches tell the same, rows are what their events fold to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.evidence import Evidence

WAITING, ON_THE_ROAD = {"open", "claimed"}, {"in_transit", "rerouting"}
Sums = dict[str, Counter[UUID]]


async def check(evidence: Evidence, folds: Mapping[str, Any]) -> list[Check]:
    """Conservation, agreement, and folds."""
    return [
        await _conserved(evidence),
        await _agreed(evidence),
        await _needs_kept(evidence),
        await _arrived_once(evidence),
        *(_folded(table, found) for table, found in sorted(folds.items())),
    ]


async def _conserved(evidence: Evidence) -> Check:
    rows = await evidence.rows(
        "batches",
        "SELECT count(*) AS batches, count(*) FILTER (WHERE total <> available + held + in_transit + delivered + lost"
        " OR least(available, held, in_transit, delivered, lost) < 0) AS broken FROM batches",
    )
    batches, broken = rows[0]["batches"], rows[0]["broken"]
    return Check("ledger conserved", not broken, f"{batches:,} batches, {broken:,} broken")


async def _agreed(evidence: Evidence) -> Check:
    """What deliveries say is held, on the road and delivered of each batch is what the batch says."""
    told: Sums = {name: Counter() for name in ("held", "in_transit", "delivered")}
    deliveries = await evidence.rows("deliveries", "SELECT status, state FROM deliveries")
    for row in deliveries:
        for line in row["state"]["lines"].values():
            _add(told, row["status"], line)
    rows = await evidence.rows("batches", "SELECT id, held, in_transit, delivered FROM batches")
    different = [
        f"batch {row['id']}: {name} {row[name]:,}, by deliveries {told[name][UUID(int=row['id'].int)]:,}"
        for row in rows
        for name in told
        if row[name] != told[name][UUID(int=row["id"].int)]
    ]
    total = sum(row["delivered"] for row in rows)
    figures = f"{total:,} delivered by {len(rows):,} batches, {sum(told['delivered'].values()):,} by deliveries"
    return counted("deliveries and batches agree", figures, strange=different)


def _add(told: Sums, status: str, line: Mapping[str, Any]) -> None:
    batch = UUID(line["batch_id"])
    in_hand = line["picked"] - line["delivered"] - line["returned"] - line["discarded"] - line["lost"]
    told["delivered"][batch] += line["delivered"]
    if status in WAITING:
        told["held"][batch] += line["planned"]
    if status in ON_THE_ROAD:
        told["in_transit"][batch] += in_hand


async def _needs_kept(evidence: Evidence) -> Check:
    """Promised and received together never exceed what is needed."""
    rows = await evidence.rows("resources", "SELECT id, state FROM resource_requests")
    lines = [(row["id"], line) for row in rows for line in row["state"]["lines"].values()]
    over = [request for request, line in lines if line["reserved"] + line["received"] > line["needed"]]
    return counted("needs never exceeded", f"{len(lines):,} lines of {len(rows):,} requests", strange=over)


async def _arrived_once(evidence: Evidence) -> Check:
    """A delivery made for a request is told to the request once when it arrives at the organization that asked."""
    rows = await evidence.rows("resources", "SELECT id, organization_id FROM resource_requests")
    asked = {str(row["id"]): str(row["organization_id"]) for row in rows}
    rows = await evidence.rows(
        "deliveries", "SELECT id, state FROM deliveries WHERE status = 'delivered' AND state->>'request_id' IS NOT NULL"
    )
    expected = {
        UUID(int=row["id"].int)
        for row in rows
        if row["state"]["receiving_organization_id"] == asked.get(row["state"]["request_id"])
        and any(line["delivered"] for line in row["state"]["lines"].values())
    }
    told = [UUID(event.data["delivery_id"]) for event in evidence.of("resources", "ResourceRequestDeliveryReceived")]
    doubled = [one for one, times in Counter(told).items() if times > 1]
    return counted("deliveries for requests arrived", f"{len(expected):,} delivered, {len(set(told)):,} counted",
                   lost=expected - set(told), doubled=doubled, strange=set(told) - expected)  # fmt: skip


def _folded(table: str, found: Mapping[str, Any]) -> Check:
    figures = f"{found['rows']:,} rows, {len(found['different']):,} differ from the fold of their events"
    return counted(f"{table}: fold == row", figures, strange=found["different"])
