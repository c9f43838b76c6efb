"""Quantities: every ledger is conserved, deliveries and batches tell the same, rows are what their events fold to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.evidence import Evidence

WAITING, ON_THE_ROAD = {"open", "claimed"}, {"in_transit", "rerouting"}
ENDED = ["delivered", "returned", "discarded", "cancelled", "expired", "failed"]
Sums = dict[str, Counter[UUID]]


async def check(evidence: Evidence, folds: Mapping[str, Any]) -> list[Check]:
    """Conservation, agreement, and folds."""
    return [
        await _conserved(evidence),
        await _agreed(evidence),
        await _accounted(evidence),
        await _hold_by_hold(evidence),
        await _parts_add_up(evidence),
        await _recalled_everywhere(evidence),
        await _needs_kept(evidence),
        await _arrived_once(evidence),
        *(_folded(table, found) for table, found in sorted(folds["tables"].items())),
        _kept(folds["streams"]),
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
    told["delivered"][batch] += line["delivered"]
    if status in WAITING:
        told["held"][batch] += line["planned"]
    if status in ON_THE_ROAD:
        told["in_transit"][batch] += _in_hand(line)


def _in_hand(line: Mapping[str, Any]) -> int:
    return int(line["picked"] - line["delivered"] - line["returned"] - line["discarded"] - line["lost"])


async def _accounted(evidence: Evidence) -> Check:
    """At the end nothing is in hand any more: all that was picked up was delivered, returned, discarded or lost."""
    rows = await evidence.rows("deliveries", "SELECT id, status, state FROM deliveries WHERE status = ANY($1)", ENDED)
    lines = [(row["id"], line) for row in rows for line in row["state"]["lines"].values()]
    open_ended = [f"delivery {delivery}: {_in_hand(line):,} in hand" for delivery, line in lines if _in_hand(line)]
    picked = sum(line["picked"] for _, line in lines)
    figures = f"{picked:,} picked up by {len(rows):,} deliveries that ended, all accounted for"
    return counted(
        "deliveries accounted for", figures if not open_ended else f"{picked:,} picked up", strange=open_ended
    )


async def _hold_by_hold(evidence: Evidence) -> Check:
    """A line of a delivery is a hold of its batch: what was picked, delivered, came back and was lost is the same in both."""
    deliveries = await evidence.rows("deliveries", "SELECT state FROM deliveries")
    lines = {line["line_id"]: line for row in deliveries for line in row["state"]["lines"].values()}
    rows = await evidence.rows("batches", "SELECT state FROM batches")
    holds = {hold_id: hold for row in rows for hold_id, hold in row["state"]["holds"].items()}
    granted = {hold_id for hold_id, hold in holds.items() if hold["state"] != "rejected"}
    lost = [
        f"line {one} has no hold" for one, line in lines.items() if line["hold"] == "granted" and one not in granted
    ]
    different = [f"line {one}" for one in granted & lines.keys() if _of_hold(holds[one]) != _of_line(lines[one])]
    moved = {one for one in granted if holds[one]["state"] in ("held", "in_transit", "settled")}
    stray = [f"hold {one} has no line" for one in moved - lines.keys()]
    figures = f"{len(granted):,} holds, {len(lines):,} lines, {len(different):,} differ"
    return counted("hold by hold", figures, lost=lost, strange=[*different, *stray])


def _of_hold(hold: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(hold[name] for name in ("picked", "delivered", "returned", "lost"))


def _of_line(line: Mapping[str, Any]) -> tuple[int, ...]:
    return (line["picked"], line["delivered"], line["returned"], line["discarded"] + line["lost"])


async def _parts_add_up(evidence: Evidence) -> Check:
    """However often a delivery was split, its parts are planned to bring as much of each batch as the whole was."""
    rows = await evidence.rows("deliveries", "SELECT id, state FROM deliveries")
    parents = {str(row["id"]): row["state"]["parent_id"] for row in rows}
    now: dict[str, Counter[str]] = {}
    for row in rows:
        whole = str(row["id"])
        while parents.get(whole):
            whole = parents[whole]
        planned = now.setdefault(whole, Counter())
        for line in row["state"]["lines"].values():
            planned[line["batch_id"]] += line["planned"]
    first = {str(event.stream): _quantities(event.data) for event in evidence.of("deliveries", "DeliveryPlanned")}
    different = [f"delivery {one}" for one, planned in first.items() if planned != now.get(one)]
    split = sum(parent is not None for parent in parents.values())
    return counted("parts add up", f"{len(first):,} plans, {split:,} parts split off", strange=different)


def _quantities(planned: Mapping[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in planned["lines"]:
        found[line["batch_id"]] += line["quantity"]
    return found


async def _recalled_everywhere(evidence: Evidence) -> Check:
    """A recall names every delivery that ever held any of the batch, and stops those that were not over."""
    rows = await evidence.rows("deliveries", "SELECT id, status, state FROM deliveries")
    status = {UUID(int=row["id"].int): row["status"] for row in rows}
    held: dict[UUID, set[UUID]] = {}
    for event in evidence.of("batches", "BatchHeld", "BatchHoldSplit"):
        delivery = event.data.get("sibling_delivery_id") or event.data["delivery_id"]
        held.setdefault(event.stream, set()).add(UUID(delivery))
    recalls = evidence.of("batches", "BatchRecalled")
    lost, going = [], []
    for recall in recalls:
        named = {UUID(one) for one in recall.data["delivery_ids"]}
        lost += [f"delivery {one} of batch {recall.stream}" for one in held.get(recall.stream, set()) - named]
        going += [
            f"delivery {one} is {status[one]}" for one in named if status[one] in (*WAITING, "planned", "in_transit")
        ]
    holders = sum(len(recall.data["delivery_ids"]) for recall in recalls)
    return counted(
        "recalls reached every holder", f"{len(recalls):,} recalls, {holders:,} holders", lost=lost, strange=going
    )


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
        if event.kind in ("DeliveryPlanned", "DeliverySplitOff") and event.data.get("request_id") in asked:
            wanted[event.stream] = asked[event.data["request_id"]]
        receiver[event.stream] = event.data.get("receiving_organization_id", receiver.get(event.stream, ""))
        if event.kind in ("DropoffRefused", "DeliveryCompleted") and event.stream in wanted:
            delivered = sum(line["delivered"] for line in event.data["lines"])
            if receiver[event.stream] == wanted[event.stream]:
                here[event.stream] += delivered - so_far[event.stream]
            so_far[event.stream] = delivered
    return dict(here)


def _kept(streams: Mapping[str, Any]) -> Check:
    """Nothing that ever happened is without its row: no kind of aggregate is forgotten above."""
    total = sum(found["count"] for found in streams.values())
    without = [f"{service}: stream {one}" for service, found in streams.items() for one in found["without"]]
    return counted("every stream has its row", f"{total:,} streams of {len(streams)} services", lost=without)


def _folded(table: str, found: Mapping[str, Any]) -> Check:
    figures = f"{found['rows']:,} rows, {len(found['different']):,} differ from the fold of their events"
    return counted(f"{table}: fold == row", figures, strange=found["different"])
