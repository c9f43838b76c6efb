"""A scene about need: the platform proposes a batch to those who lack it, one declines, the next accepts and is served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scripts.demo_run.client import Json
from scripts.demo_run.hands import eventually
from scripts.demo_run.people import Place
from scripts.demo_run.second_act.stage import Goods, Scene, Setting, Stage, holds

CATEGORY, UNIT = "bakery", "portion"  # bakery goods of other batches and needs are counted in pieces
LOAVES = 16


async def match(stage: Stage, setting: Setting) -> Scene:
    """Proposed, declined, proposed to the next, accepted, delivered: with the drop-off the request is fulfilled."""
    places = {place.id: place for place in setting.near[:2]}
    requests = {place.id: await _asked(stage, place) for place in places.values()}
    product = {"name": "Pão caseiro", "category": CATEGORY}
    goods = await stage.offer(setting.pickup, "Pão caseiro", LOAVES, product=product)
    first = await _proposed(stage, goods)
    declining, body = places[first["place_id"]], {"reason": "Já temos pão para hoje"}
    await stage.gateway.post(declining.organization.manager, "/v1/matches/{}/decline", first["id"], json=body)
    second = await _proposed(stage, goods)
    accepting = places[second["place_id"]]
    holds("who is asked next", accepting is declining, False)
    taker = accepting.organization.manager
    await stage.gateway.post(taker, "/v1/matches/{}/accept", second["id"], json={})
    delivery = await stage.bring(goods, second["quantity"], accepting, request=requests[accepting.id])
    volunteer = await stage.volunteer(delivery)
    carried = await stage.hands.pick_up(goods.giver.manager, volunteer, delivery)
    await stage.hands.drop_off(taker, volunteer, carried)
    await _fulfilled(stage, accepting, requests[accepting.id])
    stage.pool.give_back(volunteer)
    body = {"reason": "Padaria do bairro trouxe"}
    route = "/v1/resource-requests/{}/cancel"
    await stage.gateway.post(declining.organization.manager, route, requests[declining.id], json=body)
    away_km = next(reason for reason in second["reasons"] if reason["word"] == "distance")["facts"]["distance_m"] / 1000
    return Scene(
        "match", f"{LOAVES} loaves declined by one, accepted by the next {away_km:.1f} km away, request fulfilled"
    )


async def _asked(stage: Stage, place: Place) -> str:
    needed_by_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=12)
    body: Json = {
        "place_id": place.id,
        "title": f"Pão para o café — {place.name}"[:120],
        "urgency": "emergency",
        "needed_by_at": needed_by_at.isoformat(),
        "lines": [{"category": CATEGORY, "name": "Pão caseiro", "unit": UNIT, "needed": LOAVES}],
    }
    answer = await stage.gateway.post(place.organization.manager, "/v1/resource-requests", json=body)
    return str(answer["id"])


async def _proposed(stage: Stage, goods: Goods) -> Json:
    """The newest proposal of the batch that nobody has answered."""

    async def look() -> Json | None:
        wanted: Json = {"batch_id": goods.id, "status": "proposed"}
        found: list[Json] = (await stage.gateway.get(goods.giver.manager, "/v1/matches", **wanted))["items"]
        return found[0] if found else None

    return await eventually(f"batch {goods.id} is proposed to somebody", look)


async def _fulfilled(stage: Stage, place: Place, request: str) -> None:
    async def look() -> Json | None:
        found: Json = await stage.gateway.get(place.organization.manager, "/v1/resource-requests/{}", request)
        return found if found["status"] == "fulfilled" else None

    found = await eventually(f"request {request} is fulfilled", look)
    holds("what was received", found["lines"][0]["received"], LOAVES)
