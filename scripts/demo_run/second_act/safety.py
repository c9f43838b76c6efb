"""Scenes about unsafe goods: a reading out of band, a recall, a time that is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scripts.demo_run.client import Json
from scripts.demo_run.hands import eventually
from scripts.demo_run.second_act.stage import Goods, Scene, Setting, Stage, holds

CHILLED_DC, WARM_DC, COOLED_DC = 40, 95, 50
ANNOUNCED = timedelta(seconds=8)
SAFE_TIME = timedelta(minutes=30)  # what the platform wants left before goods are offered or claimed
OPEN_FOR = timedelta(seconds=20)
MINUTE_S = 60.0


async def alarm(stage: Stage, setting: Setting) -> Scene:
    """A reading out of band alarms who carries and who waits; nothing changes hands until it is in band again."""
    goods = await stage.offer(
        setting.pickup,
        "Iogurte natural",
        18,
        temperature_dc=CHILLED_DC,
        product={"name": "Iogurte natural", "category": "dairy"},
        unit="unit",
        storage="chilled",
    )
    to = setting.near[0]
    delivery = await stage.bring(goods, 18, to)
    volunteer = await stage.volunteer(delivery)
    carried = await stage.hands.pick_up(goods.giver.manager, volunteer, delivery, temperature_dc=CHILLED_DC)
    await stage.on_the_road(to.organization.manager, delivery)
    holds("the alarm", (await _read(stage, goods, WARM_DC))["temperature_alarm"], True)
    await stage.alarmed((volunteer, to.organization.manager), "temperature_alarm", goods)
    code = await stage.hands.code(to.organization.manager, delivery, "dropoff")
    lines = [{"line_id": line["line_id"], "delivered": line["picked"], "rejected": 0} for line in carried["lines"]]
    body: Json = {"code": code, "lines": lines, "temperature_dc": WARM_DC}
    await stage.refused("temperature-out-of-band", volunteer, "/v1/deliveries/{}/dropoff", delivery, json=body)
    holds("the alarm", (await _read(stage, goods, COOLED_DC))["temperature_alarm"], False)
    await stage.hands.drop_off(to.organization.manager, volunteer, carried, temperature_dc=COOLED_DC)
    await stage.ledger(goods, delivered=18, lost=0)
    stage.pool.give_back(volunteer)
    return Scene("temperature alarm", "9.5 °C in transit: volunteer and receiver told, drop-off refused until 5.0 °C")


async def _read(stage: Stage, goods: Goods, temperature_dc: int) -> Json:
    body = {"temperature_dc": temperature_dc, "stage": "transit"}
    answer: Json = await stage.gateway.post(goods.giver.manager, "/v1/batches/{}/temperatures", goods.id, json=body)
    return answer


async def recall(stage: Stage, setting: Setting) -> Scene:
    """One part is delivered, one on the road, one claimed, one open: a recall reaches all of them, and the trace says so."""
    goods = await stage.offer(setting.pickup, "Patê de frango", 60)
    eaten, carried, waiting, offered = [await stage.bring(goods, 10, place) for place in setting.near[:4]]
    giver = goods.giver.manager
    people = [await stage.volunteer(delivery) for delivery in (eaten, carried, waiting)]
    receivers = [place.organization.manager for place in setting.near]
    on_the_road = await stage.hands.pick_up(giver, people[0], eaten)
    await stage.hands.drop_off(receivers[0], people[0], on_the_road)
    await stage.hands.pick_up(giver, people[1], carried)
    await stage.ledger(goods, delivered=10, in_transit=10, held=20, available=20)
    await stage.on_the_road(receivers[1], carried)
    body: Json = {"severity": "critical", "reason": "Salmonela na amostra"}
    await stage.gateway.post(giver, "/v1/batches/{}/recall", goods.id, json=body)
    await stage.hands.until(giver, carried, "rerouting")
    for delivery in (waiting, offered):
        await stage.hands.until(giver, delivery, "cancelled")
    await stage.alarmed((*people[:2], *receivers[:2]), "batch_recalled", goods)
    for person, delivery in ((people[2], waiting), (receivers[2], waiting), (receivers[3], offered)):
        await stage.told(person, "delivery_cancelled", delivery)
    body = {"place_id": setting.near[4].id}
    await stage.refused("goods-recalled", people[1], "/v1/deliveries/{}/reroute", carried, json=body)
    await stage.gateway.post(people[1], "/v1/deliveries/{}/discard", carried, json={"reason": "Recolhido"})
    await stage.ledger(goods, delivered=10, in_transit=0, held=0, available=0, lost=50)
    await _traced(stage, goods, {eaten: {"delivered": 10}, carried: {"lost": 10}, waiting: {}, offered: {}})
    stage.pool.give_back(*people)
    return Scene(
        "recall", "4 holders traced: 10 eaten, 10 stopped on the road and discarded, 20 called off; 50 lost in all"
    )


async def _traced(stage: Stage, goods: Goods, expected: dict[str, dict[str, int]]) -> None:
    """The trace names every delivery that held any of it, and where each part is."""

    async def look() -> bool | None:
        holders = (await stage.gateway.get(goods.giver.manager, "/v1/batches/{}/trace", goods.id))["items"]
        found = {
            holder["delivery_id"]: {part["where"]: part["quantity"] for part in holder["parts"]} for holder in holders
        }
        return found == expected or None

    await eventually(f"the trace of batch {goods.id}", look)


async def expiry(stage: Stage, setting: Setting) -> Scene:
    """Announced goods pass their use-by time; an open delivery ends when its safe time is over, and its goods are free again."""
    now = datetime.now(UTC)
    announced = await stage.announce(
        setting.pickup, "Salada de frutas", 12, use_by_at=(now + ANNOUNCED).isoformat()
    )  # never ready: for that the platform wants half an hour of safe time
    offered = await stage.offer(setting.pickup, "Sanduíches", 12, use_by_at=(now + SAFE_TIME + OPEN_FOR).isoformat())
    delivery = await stage.hands.plan(setting.near[0].organization.manager, offered.id, 8, setting.near[0])
    await stage.hands.until(offered.giver.manager, delivery, "expired", within_s=MINUTE_S)
    await stage.ledger(offered, available=12, held=0)

    async def look() -> Json | None:
        batch: Json = await stage.gateway.get(announced.giver.manager, "/v1/batches/{}", announced.id)
        return batch if batch["status"] == "expired" else None

    expired = await eventually(f"batch {announced.id} is expired", look)
    holds("what is lost of expired goods", expired["quantities"]["lost"], 12)
    return Scene("expiry", "12 portions expired before they were offered; 8 nobody fetched in time are free again")
