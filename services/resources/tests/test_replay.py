"""Resources' facts told again: the very bytes of the first time, whatever became of the requests meanwhile."""

from __future__ import annotations

from uuid import UUID

from chassis.testing import Bus, Callers, Tap, eventually
from chassis.testing.replays import Asking, same_as_first_told
from contracts.events import batches
from contracts.events import resources as events

from services.resources.tests.builders import (
    REASON,
    Grounds,
    Steps,
    a_batch,
    a_line,
    a_request,
    a_side_at,
    portions,
)

OF_NO_STREAM = "catalogue_chunk"  # the work of a load, told once


async def test_every_fact_is_told_again_as_it_was_told(steps: Steps, tap: Tap, broker_url: str) -> None:
    """A replay of everything this process ever published: the same bytes, once, in order; the end mark counts them."""
    request = await steps.opened(*(a_line(name=f"thing {n}") for n in range(9)))
    await steps.reserved(request, *range(1, 10))
    await steps.started(request, *[1] * 9)
    lines = [{**a_line(name="last"), "needed": 3}]
    shown = await steps.post(f"/v1/resource-requests/{request['id']}/cancel", REASON, steps.receiver.partner)
    other = await steps.opened(*lines)
    await steps.post(f"/v1/resource-requests/{other['id']}/close", {}, steps.receiver.partner)
    await tap.saw(events.ResourceRequestClosed, UUID(other["id"]))
    heard = [one for one in tap.received if one.event.aggregate != OF_NO_STREAM]

    async with Asking(broker_url, "resources") as asking:
        mark = await asking.replay(["resource_request", "match", "catalogue_load"])

    assert shown["status"] == "cancelled"
    assert same_as_first_told(asking.received, heard) >= 5
    assert (mark.sent, mark.total, mark.error) == (len(asking.received), len(asking.received), None)


async def test_promises_that_end_in_one_transaction_are_told_again_one_by_one(
    steps: Steps, callers: Callers, bus: Bus, tap: Tap, grounds: Grounds, broker_url: str
) -> None:
    """A batch is cancelled and two promises of one request end with it: each fact has the sums that it left."""
    spot = grounds.spot()
    provider, shelter = await a_side_at(callers, "provider", spot), await a_side_at(callers, "receiver", spot)
    wanted = a_request(shelter.place_id, portions(12), portions(5))
    request = await steps.post("/v1/resource-requests", wanted, shelter.manager, status=201)
    batch = await a_batch(bus, provider, 17)

    async def proposed() -> list[dict[str, str]]:
        found: list[dict[str, str]] = (await steps.get("/v1/matches?status=proposed", shelter.manager))["items"]
        return found if len(found) == 2 else []

    await eventually(proposed)
    for match in await proposed():
        await steps.post(f"/v1/matches/{match['id']}/accept", {}, shelter.manager)

    await batch.tell(batches.BatchCancelled, available=0, status="cancelled", reason="x")
    subject = UUID(request["id"])
    await eventually(lambda: len(tap.of(events.ReservationCancelled, subject)) == 2)
    heard = [one for one in tap.received if one.envelope.subject == subject]
    async with Asking(broker_url, "resources") as asking:
        await asking.replay(["resource_request"])

    again = [one for one in asking.received if one.envelope.subject == subject]
    assert same_as_first_told(again, heard) == len(again) == 5
