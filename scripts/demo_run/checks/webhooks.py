"""The partner's endpoint got every event that concerns it, genuine, and took each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from scripts.demo_run.checks import Check, counted
from scripts.demo_run.evidence import Evidence, Row
from scripts.demo_run.receiver import Receipt

# An event on its way while the endpoint was made may or may not be for it.
BIRTH = timedelta(seconds=30)
UNSETTLED = ("pending", "delivering", "retrying")
# About people, credentials and the parts of loads: nobody's. About endpoints themselves: only for those who ask by name.
UNTOLD = (
    "vouajudar.identity.user", "vouajudar.identity.api_key", "vouajudar.identity.signing",
    "vouajudar.resources.catalogue_chunk", "vouajudar.webhooks.",
)  # fmt: skip


async def check(evidence: Evidence, receipts: Sequence[Receipt], *, repeats_allowed: bool) -> list[Check]:
    """For every endpoint: events against messages; for those whose receipts are known, messages against receipts."""
    endpoints = await evidence.rows(
        "webhooks", "SELECT id, organization_id, event_types, created_at, status FROM webhook_endpoints"
    )
    heard = {receipt.endpoint_id for receipt in receipts}
    found = []
    for number, endpoint in enumerate(endpoints, 1):
        messages = await evidence.rows(
            "webhooks",
            "SELECT event_id, event_type, status FROM webhook_messages WHERE endpoint_id = $1",
            endpoint["id"],
        )
        if endpoint["status"] != "deleted":
            found.append(await _addressed(evidence, number, endpoint, messages))
        if str(endpoint["id"]) in heard:
            own = [receipt for receipt in receipts if receipt.endpoint_id == str(endpoint["id"])]
            found.append(_received(number, messages, own, repeats_allowed=repeats_allowed))
    return found


async def _addressed(evidence: Evidence, number: int, endpoint: Row, messages: Sequence[Row]) -> Check:
    rows = await evidence.rows(
        "analytics",
        "SELECT event_id, type, occurred_at FROM audit_events WHERE $1 = ANY(parties) AND occurred_at > $2",
        endpoint["organization_id"],
        endpoint["created_at"] - BIRTH,
    )
    wanted = [row for row in rows if _matches(endpoint["event_types"], row["type"])]
    possible = {UUID(int=row["event_id"].int) for row in wanted}
    after = endpoint["created_at"] + BIRTH
    expected = {UUID(int=row["event_id"].int) for row in wanted if row["occurred_at"] > after}
    made = [
        UUID(int=row["event_id"].int) for row in messages if not row["event_type"].startswith("vouajudar.webhooks.")
    ]
    doubled = [one for one, times in Counter(made).items() if times > 1]
    return counted(
        f"webhooks: endpoint {number}",
        f"{len(possible):,} events concern it, {len(made):,} messages{_undelivered(messages)}",
        lost=expected - set(made),
        doubled=doubled,
        strange=set(made) - possible if endpoint["created_at"] > evidence.since else (),
    )


def _undelivered(messages: Sequence[Row]) -> str:
    left = Counter(row["status"] for row in messages if row["status"] != "delivered")
    return "".join(f", {count:,} {status}" for status, count in sorted(left.items()))


def _matches(patterns: Sequence[str], event_type: str) -> bool:
    """A full type, or a prefix that ends in `.*`; no pattern at all means every type about tenants and goods."""
    if event_type.startswith(UNTOLD):
        return False
    return not patterns or any(
        event_type.startswith(one[:-1]) if one.endswith(".*") else one == event_type for one in patterns
    )


def _received(number: int, messages: Sequence[Row], receipts: Sequence[Receipt], *, repeats_allowed: bool) -> Check:
    by_status = Counter(row["status"] for row in messages)
    delivered = {str(row["event_id"]) for row in messages if row["status"] == "delivered"}
    taken = Counter(receipt.webhook_id for receipt in receipts if receipt.taken)
    forged = [receipt.webhook_id for receipt in receipts if not receipt.verified]
    doubled = [] if repeats_allowed else [one for one, times in taken.items() if times > 1]
    unsettled = {status: by_status[status] for status in (*UNSETTLED, "exhausted") if by_status[status]}
    held = f", {by_status['held']:,} held" if by_status["held"] else ""
    figures = f"{len(delivered):,} delivered{held}, {len(taken):,} received and verified, {len(forged):,} not genuine"
    return counted(
        f"webhooks: receipts of endpoint {number}",
        figures,
        lost=delivered - set(taken),
        doubled=doubled,
        strange=[*(set(taken) - {str(row["event_id"]) for row in messages}), *forged, *unsettled.items()],
    )
