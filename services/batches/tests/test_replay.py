"""Batches' facts told again: the very bytes of the first time, whatever became of the batches meanwhile."""

from __future__ import annotations

from typing import Any

import httpx
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, Tap
from chassis.testing.callers import Caller
from chassis.testing.replays import Asking, same_as_first_told
from contracts.commands import Resend
from contracts.events import batches as own
from contracts.events import deliveries as events

from services.batches.tests.builders import a_batch
from services.batches.tests.test_consumers import Supply


async def _story(client: httpx.AsyncClient, partner: Caller, place_id: Any, bus: Bus, tap: Tap) -> Supply:
    """A batch measured, enlarged, held whole, carried, partly brought back and recalled."""
    batch = (await client.post("/v1/batches", json=a_batch(place_id), headers=partner.headers)).json()
    supply = Supply(batch, partner.headers)
    for command, body in (
        ("ready", {}), ("temperatures", {"stage": "storage", "temperature_dc": 655}), ("adjust", {"quantity": 50, "reason": "more"}),
    ):  # fmt: skip
        answer = await client.post(f"/v1/batches/{supply.id}/{command}", json=body, headers=supply.headers)
        assert answer.status_code < 300, answer.text
    delivery_id, step = new_id(), {"line_id": new_id(), "planned": 50}
    step["delivery_id"] = delivery_id
    await bus.publish(supply.fact(events.DeliveryPlanned, **step), subject=delivery_id, version=1)
    await tap.saw(own.BatchHeld, supply.id)
    await bus.publish(supply.fact(events.PickupConfirmed, **step, picked=48), subject=delivery_id, version=2)
    done = supply.fact(events.DeliveryCompleted, **step, picked=48, delivered=30, returned=18)
    await bus.publish(done, subject=delivery_id, version=3)
    await tap.saw(own.BatchDelivered, supply.id)
    recall = {"severity": "high", "reason": "test"}
    await client.post(f"/v1/batches/{supply.id}/recall", json=recall, headers=supply.headers)
    await tap.saw(own.BatchRecalled, supply.id)
    return supply


async def test_every_fact_is_told_again_as_it_was_told(
    client: httpx.AsyncClient, callers: Callers, bus: Bus, tap: Tap, broker_url: str
) -> None:
    """A replay of everything this process ever published: the same bytes, once, in order; the end mark counts them."""
    organization_id = await callers.organization()
    partner, place_id = await callers.partner(organization_id), await callers.place(organization_id)
    supplies = [await _story(client, partner, place_id, bus, tap) for _ in range(2)]
    heard = [*tap.received]

    async with Asking(broker_url, "batches") as asking:
        mark = await asking.replay(["batch"])

    assert same_as_first_told(asking.received, heard) >= 16
    assert (mark.sent, mark.total, mark.error) == (len(asking.received), len(asking.received), None)
    assert asking.replays == {str(mark.replay_id)}
    assert {each.id for each in supplies} <= {each.envelope.subject for each in asking.received}


async def test_some_versions_of_one_batch_are_told_again(
    client: httpx.AsyncClient, callers: Callers, bus: Bus, tap: Tap, broker_url: str
) -> None:
    """A resend tells those versions alone, to the asking queue alone, and not as a replay: effects may follow from it."""
    organization_id = await callers.organization()
    partner, place_id = await callers.partner(organization_id), await callers.place(organization_id)
    supply = await _story(client, partner, place_id, bus, tap)
    heard = len(tap.received)

    async with Asking(broker_url, "batches") as asking:
        await asking.listen()
        await asking.ask(Resend(queue=asking.queue, subject=supply.id, from_version=2, to_version=4))
        await asking.came(3)

    assert [each.envelope.aggregateversion for each in asking.received] == [2, 3, 4]
    first = {each.envelope.aggregateversion: each.body for each in tap.received if each.envelope.subject == supply.id}
    assert [each.body for each in asking.received] == [first[2], first[3], first[4]]
    assert asking.replays == {"None"}
    assert len(tap.received) == heard
