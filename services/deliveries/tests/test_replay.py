"""Deliveries' facts told again: the very bytes of the first time, whatever became of the deliveries meanwhile."""

from __future__ import annotations

from uuid import UUID

from chassis.testing.replays import Asking, same_as_first_told
from contracts.events import deliveries as events

from services.deliveries.tests.builders import World, dropped


async def test_every_fact_is_told_again_as_it_was_told(world: World, broker_url: str) -> None:
    """A replay of everything there is: the same bytes, once, in order; the end mark counts them."""
    parts = [await world.batch() for _ in range(9)]
    volunteer, other = await world.volunteer(), await world.volunteer()
    carried = await world.carried(volunteer, *parts)
    code = await world.code(world.keeper, carried, "dropoff")
    body = {"code": code, "lines": dropped(carried, rejected=1)}
    rerouted = await world.done(volunteer, carried, "dropoff", body)
    await world.done(volunteer, rerouted, "discard", {"reason": "spoiled"})
    claimed = await world.claimed(other)
    await world.done(other, claimed, "release", {"reason": "ill"})
    await world.done(world.cook, await world.opened(), "cancel", {"reason": "test"})
    await world.tap.saw(events.DeliveryDiscarded, UUID(carried["id"]))
    await world.tap.saw(events.ClaimReleased, UUID(claimed["id"]))
    stored = {row["event_id"] for row in await world.database.reading().fetch("SELECT event_id FROM events")}
    # Other tests tell some of the facts again, in an envelope of their own: what came first is the service's.
    heard = {each.envelope.id: each for each in reversed(world.tap.received) if each.envelope.id in stored}

    async with Asking(broker_url, "deliveries") as asking:
        mark = await asking.replay(["delivery", "follow_up", "task", "task_templates"])

    assert same_as_first_told(asking.received, list(heard.values())) >= 12
    assert (mark.sent, mark.total, mark.error) == (len(asking.received), len(asking.received), None)
