"""Deliveries' facts told again: the very bytes of the first time, whatever became of the deliveries meanwhile."""

from __future__ import annotations

from uuid import UUID

from chassis.testing.replays import Asking, same_as_first_told
from contracts.events import deliveries as events

from services.deliveries.tests.builders import World, dropped


async def test_every_fact_is_told_again_as_it_was_told(world: World, broker_url: str) -> None:
    """A replay of everything there is: the same bytes, once, in order; the end mark counts them.

    Other tests say facts in the service's name; only what became of this one's deliveries is compared.
    """
    parts = [await world.batch() for _ in range(9)]
    volunteer, other = await world.volunteer(), await world.volunteer()
    carried = await world.carried(volunteer, *parts)
    code = await world.code(world.keeper, carried, "dropoff")
    body = {"code": code, "lines": dropped(carried, rejected=1)}
    rerouted = await world.done(volunteer, carried, "dropoff", body)
    await world.done(volunteer, rerouted, "discard", {"reason": "spoiled"})
    claimed = await world.claimed(other)
    await world.done(other, claimed, "release", {"reason": "ill"})
    cancelled = await world.opened()
    await world.done(world.cook, cancelled, "cancel", {"reason": "test"})
    await world.tap.saw(events.DeliveryDiscarded, UUID(carried["id"]))
    await world.tap.saw(events.ClaimReleased, UUID(claimed["id"]))
    own = {UUID(delivery["id"]) for delivery in (carried, claimed, cancelled)}
    heard = [received for received in world.tap.received if getattr(received.event, "delivery_id", None) in own]

    async with Asking(broker_url, "deliveries") as asking:
        mark = await asking.replay(["delivery", "follow_up", "task", "task_templates"])

    assert same_as_first_told(asking.received, heard) >= 12
    assert (mark.sent, mark.total, mark.error) == (len(asking.received), len(asking.received), None)
