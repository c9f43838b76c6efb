"""Resources' facts told again: the very bytes of the first time, whatever became of the requests meanwhile."""

from __future__ import annotations

from uuid import UUID

from chassis.testing import Tap
from chassis.testing.replays import Asking, same_as_first_told
from contracts.events import resources as events

from services.resources.tests.builders import REASON, Steps, a_line

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
