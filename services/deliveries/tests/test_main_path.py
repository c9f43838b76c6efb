"""The whole path, with the test playing the batches service: planned, held, open, claimed, carried, delivered."""

from __future__ import annotations

from uuid import UUID

import msgspec
from chassis.testing import LiveService, eventually
from contracts.events import deliveries as events
from contracts.events.deliveries import _DeliveryEvent
from deliveries.repository import DELIVERIES

from services.deliveries.tests.builders import PICKUP_POINT, World, dropped

PATH = (
    events.DeliveryPlanned,
    events.DeliveryOpened,
    events.DeliveryClaimed,
    events.PickupConfirmed,
    events.DeliveryCompleted,
)


async def test_goods_go_from_a_kitchen_to_a_shelter(world: World) -> None:
    """Each step is announced once with the delivery as it then is, and the row is what its events fold to."""
    soup, bread = await world.batch(), await world.batch(category="bakery", product_name="Pão")
    volunteer = await world.volunteer()

    delivery = await world.planned(soup, bread)
    assert (delivery["status"], len(delivery["lines"])) == ("planned", 2)
    planned = (await world.tap.saw(events.DeliveryPlanned, UUID(delivery["id"]))).envelope
    assert set(planned.party_ids) == {world.provider_id, world.receiver_id}
    assert planned.organizationid == world.provider_id

    await world.grant(delivery, [soup, bread])
    await world.becomes(delivery, "open")
    claimed = await world.done(volunteer, delivery, "claim")
    assert (claimed["pickup_point"]["lat"], claimed["pickup_point"]["lon"]) == PICKUP_POINT
    carried = await world.done(
        world.cook,
        delivery,
        "pickup",
        {
            "code": await world.code(volunteer, delivery, "pickup"),
            "lines": [{"line_id": line["line_id"], "picked": 4} for line in delivery["lines"]],
        },
    )
    assert carried["status"] == "in_transit"
    code = await world.code(world.keeper, delivery, "dropoff")
    ended = await world.done(volunteer, delivery, "dropoff", {"code": code, "lines": dropped(carried)})

    assert ended["status"] == "delivered"
    assert [(line["planned"], line["picked"], line["delivered"]) for line in ended["lines"]] == [(5, 4, 4), (5, 4, 4)]
    for kind in PATH:
        fact = (await world.tap.saw(kind, UUID(delivery["id"]))).event
        assert isinstance(fact, _DeliveryEvent)
        assert {line.product_name for line in fact.lines} == {"Sopa de legumes", "Pão"}
        assert len(world.tap.of(kind, UUID(delivery["id"]))) == 1
    reading = world.database.reading()
    row = await DELIVERIES.get(reading, UUID(delivery["id"]))
    assert row == await DELIVERIES.as_of(reading, UUID(delivery["id"]))
    assert await reading.fetchval("SELECT count(*) FROM custody_secrets WHERE delivery_id = $1", row.id) == 0

    async def quiet() -> bool:
        return not await reading.fetchval("SELECT count(*) FROM timers WHERE dedupe_key LIKE $1", f"%{row.id}")

    await eventually(quiet)


async def test_secrets_stay_inside(world: World, live: LiveService) -> None:
    """Neither secret nor codes are in events, history, messages, logs or, in clear, in any table."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    code = await world.code(volunteer, delivery, "pickup")
    lines = [{"line_id": line["line_id"], "picked": line["planned"]} for line in delivery["lines"]]
    sealed = await world.database.reading().fetchval(
        "SELECT sealed FROM custody_secrets WHERE delivery_id = $1", UUID(delivery["id"])
    )
    await world.done(world.cook, delivery, "pickup", {"code": code, "lines": lines})
    confirmed = await world.tap.saw(events.PickupConfirmed, UUID(delivery["id"]))

    stored = await world.database.reading().fetch(
        "SELECT data::text || meta::text AS text FROM events WHERE stream_id = $1"
        " UNION ALL SELECT convert_from(body, 'UTF8') FROM outbox WHERE order_key = $1"
        " UNION ALL SELECT state::text FROM deliveries WHERE id = $1",
        UUID(delivery["id"]),
    )
    published = [
        msgspec.json.encode(each.envelope.model_dump(mode="json")).decode()
        for each in world.tap.received
        if each.envelope.subject == UUID(delivery["id"])
    ]
    history = (await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.cook.headers)).text
    everything = [row["text"] for row in stored] + published + [history]

    assert confirmed.envelope.data["status"] == "in_transit"
    assert len(sealed) == 12 + 32 + 16
    assert all(f'"{code}"' not in text and 'secret"' not in text for text in everything)
    assert f'"{code}"' not in live.log_path.read_text()
