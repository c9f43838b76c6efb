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
    """What a delivery made for a request hands over to the organization that asked is told to the request, once."""
    rows = await evidence.rows("resources", "SELECT id, organization_id FROM resource_requests")
    asked = {str(row["id"]): str(row["organization_id"]) for row in rows}
    expected = {delivery: quantity for delivery, quantity in _handed_over(evidence, asked).items() if quantity}
    told: dict[UUID, int] = {}
    for event in evidence.of("resources", "ResourceRequestDeliveryReceived"):
        told[UUID(event.data["delivery_id"])] = sum(goods["quantity"] for goods in event.data.get("totals", ()))
    lost = [one for one, quantity in expected.items() if told.get(one, 0) < quantity]
    strange = [one for one, quantity in told.items() if expected.get(one, 0) < quantity]
    return counted("deliveries for requests arrived", f"{len(expected):,} delivered, {len(told):,} counted",
                   lost=lost, strange=strange)  # fmt: skip


def _handed_over(evidence: Evidence, asked: Mapping[str, str]) -> dict[UUID, int]:
    """Of each delivery made for a request, what the organization that asked was given, door by door."""
    receiver: dict[UUID, str] = {}
    wanted: dict[UUID, str] = {}
    so_far: Counter[UUID] = Counter()
    here: Counter[UUID] = Counter()
    for event in evidence.stores["deliveries"]:
        if event.kind == "DeliveryPlanned" and event.data.get("request_id") in asked:
            wanted[event.stream] = asked[event.data["request_id"]]
        receiver[event.stream] = event.data.get("receiving_organization_id", receiver.get(event.stream, ""))
        if event.kind in ("DropoffRefused", "DeliveryCompleted") and event.stream in wanted:
            delivered = sum(line["delivered"] for line in event.data["lines"])
            if receiver[event.stream] == wanted[event.stream]:
                here[event.stream] += delivered - so_far[event.stream]
            so_far[event.stream] = delivered
    return dict(here)


def _folded(table: str, found: Mapping[str, Any]) -> Check:
    figures = f"{found['rows']:,} rows, {len(found['different']):,} differ from the fold of their events"
    return counted(f"{table}: fold == row", figures, strange=found["different"])
