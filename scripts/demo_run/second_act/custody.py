"""Scenes on the road: less than planned, several who carry, refusals, somebody who does not come, no network."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from scripts.demo_run.client import Json, Person
from scripts.demo_run.hands import eventually, in_hand
from scripts.demo_run.people import Place
from scripts.demo_run.second_act.stage import Goods, Scene, Setting, Stage, holds

REPORTED, CONTESTED = "VolunteerNoShow", "NoShowContested"


async def partial_pickup(stage: Stage, setting: Setting) -> Scene:
    """Twenty were planned, fourteen are there: the other six are available again."""
    goods, to = await stage.offer(setting.pickup, "Marmitas de feijão", 30), setting.near[0]
    delivery = await stage.bring(goods, 20, to)
    volunteer = await stage.volunteer(delivery)
    carried = await stage.hands.pick_up(goods.giver.manager, volunteer, delivery, missing=6)
    await stage.ledger(goods, available=16, held=0, in_transit=14)
    await stage.hands.drop_off(to.organization.manager, volunteer, carried)
    await stage.ledger(goods, available=16, in_transit=0, delivered=14, lost=0)
    stage.pool.give_back(volunteer)
    return Scene("partial pickup", "14 of 20 portions picked up, 6 back in the ledger, 14 delivered")


async def split(stage: Stage, setting: Setting) -> Scene:
    """One takes a part, another the rest; who waits is called when the rest is given back."""
    goods, to = await stage.offer(setting.pickup, "Sopa de legumes", 40), setting.near[1]
    delivery = await stage.bring(goods, 30, to)
    line = (await stage.gateway.get(to.organization.manager, "/v1/deliveries/{}", delivery))["lines"][0]["line_id"]
    first = await stage.volunteer(delivery, lines=[{"line_id": line, "quantity": 18}])
    rest = (await stage.gateway.get(first, "/v1/deliveries/{}", delivery))["sibling_ids"][0]
    second = await stage.volunteer(rest)
    third = await stage.pool.take()
    waiting = await stage.gateway.post(third, "/v1/deliveries/{}/waiting-list", rest, json={})
    holds("the place in line", waiting["waiting_position"], 1)
    await stage.gateway.post(second, "/v1/deliveries/{}/release", rest, json={"reason": "Pneu furado"})
    await stage.told(third, "waiting_called", rest)
    stage.pool.give_back(second, third)
    carrier = await stage.volunteer(rest)
    for part, person in ((delivery, first), (rest, carrier)):
        carried = await stage.hands.pick_up(goods.giver.manager, person, part)
        await stage.hands.drop_off(to.organization.manager, person, carried)
    await stage.ledger(goods, available=10, held=0, in_transit=0, delivered=30)
    stage.pool.give_back(first, carrier)
    return Scene("split claim", "18 + 12 of one plan by two volunteers; one gave 12 back, who waited was called")


async def rerouted(stage: Stage, setting: Setting) -> Scene:
    """The shelter is full: the volunteer is asked where to, and brings it to the nearest place that takes it."""
    goods, to = await stage.offer(setting.pickup, "Arroz carreteiro", 25), setting.near[0]
    delivery, volunteer, carried = await _on_the_road(stage, goods, to)
    await stage.hands.refuse(to.organization.manager, delivery, "Abrigo lotado")
    elsewhere = await _where_to(stage, delivery, volunteer, setting, besides=to)
    await stage.hands.reroute(volunteer, delivery, elsewhere)
    await stage.hands.drop_off(elsewhere.organization.manager, volunteer, carried)
    await stage.ledger(goods, in_transit=0, delivered=goods.quantity, lost=0)
    stage.pool.give_back(volunteer)
    return Scene("refused, rerouted", f"25 portions refused at the door, brought to {elsewhere.name}")


async def returned(stage: Stage, setting: Setting) -> Scene:
    """The receiver refuses, nobody else wants it: the provider takes it back, and it is on offer again."""
    goods, to = await stage.offer(setting.pickup, "Bolo de fubá", 20), setting.near[1]
    delivery, volunteer, _ = await _on_the_road(stage, goods, to)
    await stage.hands.refuse(to.organization.manager, delivery, "Ninguém para receber")
    back = await stage.hands.give_back(goods.giver.manager, volunteer, delivery)
    holds("a delivery given back", back["status"], "returned")
    await stage.ledger(goods, available=goods.quantity, in_transit=0, delivered=0, lost=0)
    stage.pool.give_back(volunteer)
    return Scene("refused, returned", "20 portions back with the provider by code, available again")


async def discarded(stage: Stage, setting: Setting) -> Scene:
    """Some is lost on the road, some accepted, the rest refused and thrown away: every portion is accounted for."""
    goods, to = await stage.offer(setting.pickup, "Galinhada", 20), setting.near[2]
    delivery, volunteer, carried = await _on_the_road(stage, goods, to)
    line = carried["lines"][0]["line_id"]
    body: Json = {"lines": [{"line_id": line, "quantity": 2}], "reason": "Caixa caiu"}
    carried = await stage.gateway.post(volunteer, "/v1/deliveries/{}/lost", delivery, json=body)
    await stage.hands.drop_off(to.organization.manager, volunteer, carried, rejected=5)
    body = {"reason": "Embalagem aberta"}
    ended = await stage.gateway.post(volunteer, "/v1/deliveries/{}/discard", delivery, json=body)
    holds("a delivery that was partly accepted", ended["status"], "delivered")
    await stage.ledger(goods, available=0, in_transit=0, delivered=13, lost=7)
    stage.pool.give_back(volunteer)
    return Scene("refused in part, discarded", "20 = 13 delivered + 2 lost on the road + 5 rejected and discarded")


async def no_show(stage: Stage, setting: Setting) -> Scene:
    """Reported by the provider, contested by the volunteer, decided by the coordinator."""
    goods, to = await stage.offer(setting.pickup, "Polenta com molho", 15), setting.near[0]
    coordinator = stage.cast.coordinator
    delivery = await stage.bring(goods, 15, to)
    volunteer = await stage.volunteer(delivery)
    await stage.gateway.post(goods.giver.manager, "/v1/deliveries/{}/no-show", delivery, json={})
    body: Json = {"reason": "Estive no portão dos fundos"}
    await stage.gateway.post(volunteer, "/v1/deliveries/{}/no-show/contest", delivery, json=body)
    history = await stage.gateway.get(coordinator, "/v1/deliveries/{}/history", delivery)
    kinds = [event["type"] for event in history if event["type"] in (REPORTED, CONTESTED)]
    holds("what the coordinator reads", kinds, [REPORTED, CONTESTED])
    body = {"volunteer_id": volunteer.id, "reason": "Portão errado no cadastro"}
    await stage.gateway.post(coordinator, "/v1/deliveries/{}/reassign", delivery, json=body)
    carried = await stage.hands.pick_up(goods.giver.manager, volunteer, delivery)
    await stage.hands.drop_off(to.organization.manager, volunteer, carried)
    stage.pool.give_back(volunteer)
    return Scene("no-show", "reported, contested, given back by the coordinator, 15 portions delivered")


async def offline(stage: Stage, setting: Setting) -> Scene:
    """Both sides have no network: their apps queue commands; sent twice, each has one effect and one answer."""
    goods, to = await stage.offer(setting.pickup, "Feijoada", 24), setting.near[1]
    delivery, another = await stage.bring(goods, 12, to), await stage.bring(goods, 12, to)
    volunteer = await stage.volunteer(delivery)
    giver, taker = goods.giver.manager, to.organization.manager
    found = await stage.gateway.get(giver, "/v1/deliveries/{}", delivery)
    picked = [{"line_id": line["line_id"], "picked": line["planned"]} for line in found["lines"]]
    body: Json = {"code": await stage.hands.code(volunteer, delivery, "pickup"), "lines": picked}
    await _synced(stage, giver, [_queued(delivery, "pickup", body)], [200])
    dropped = [{"line_id": line["line_id"], "delivered": line["picked"], "rejected": 0} for line in picked]
    queue = [
        _queued(delivery, "dropoff", {"code": await stage.hands.code(taker, delivery, "dropoff"), "lines": dropped}),
        _queued(another, "claim", {}),
        _queued(another, "lost", {"lines": [{"line_id": delivery, "quantity": 1}], "reason": "Ainda não retirado"}),
        _queued(another, "release", {"reason": "Depende do comando anterior"}),
    ]
    answers = await _synced(stage, volunteer, queue, [200, 200, 409, 409])
    stage.claims[volunteer.email] += 1
    holds("what follows a refused command", answers[3]["problem"]["code"], "earlier-command-failed")
    again = await _synced(stage, volunteer, queue, [200, 200, 409, 409])
    holds("commands sent twice", [answer["replayed"] for answer in again[:2]], [True, True])
    carried = await stage.hands.pick_up(giver, volunteer, another)
    await stage.hands.drop_off(taker, volunteer, carried)
    await stage.ledger(goods, available=0, held=0, in_transit=0, delivered=24)
    stage.pool.give_back(volunteer)
    return Scene(
        "no network", "5 queued commands, 4 of them sent twice: 3 took effect once, 2 refused, all replayed alike"
    )


def _queued(delivery: str, command: str, body: Json) -> Json:
    return {
        "id": uuid4().hex,
        "idempotency_key": str(uuid4()),
        "path": f"/v1/deliveries/{delivery}/{command}",
        "body": body,
        "client_time": datetime.now(UTC).isoformat(),
    }


async def _synced(stage: Stage, who: Person, queue: list[Json], statuses: list[int]) -> list[Json]:
    answer = await stage.gateway.post(who, "/v1/sync", json={"commands": queue})
    results: list[Json] = answer["results"]
    holds("the answers to a queue", [result["status"] for result in results], statuses)
    return results


async def _on_the_road(stage: Stage, goods: Goods, to: Place) -> tuple[str, Person, Json]:
    """All of it is with a volunteer: the delivery, who carries it, and its lines."""
    delivery = await stage.bring(goods, goods.quantity, to)
    volunteer = await stage.volunteer(delivery)
    carried = await stage.hands.pick_up(goods.giver.manager, volunteer, delivery)
    holds("what is in hand", sum(in_hand(line) for line in carried["lines"]), goods.quantity)
    return delivery, volunteer, carried


async def _where_to(stage: Stage, delivery: str, volunteer: Person, setting: Setting, *, besides: Place) -> Place:
    """The nearest place that the platform names; where it knows none, the nearest other one."""
    known = {place.id: place for place in stage.cast.shelters}

    async def look() -> list[str] | None:
        options = await stage.gateway.get(volunteer, "/v1/deliveries/{}/reroute-options", delivery)
        return [one["place_id"] for one in options["places"]] if options["decide_by"] else None

    asked = await eventually(f"where refused delivery {delivery} may go", look)
    elsewhere = next(place for place in setting.near if place is not besides)
    return next((known[one] for one in asked if one in known), elsewhere)
