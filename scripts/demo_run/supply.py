"""Providers publish batches: members through the app, the partner through its API key, repeating safely."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scripts.demo_run import data
from scripts.demo_run.client import Caller, Gateway, Json
from scripts.demo_run.people import NEW_TENANT, Cast, Place
from scripts.demo_run.progress import Stages

BATCHES, BATCHES_LATER = 230, 130  # in the first run, in each later one
BY_KEY_EVERY = 5  # every fifth batch comes from the partner's system
REPEATED_EVERY = 3  # of those: sent twice with the same key, as after a lost answer
CHILLED_DC = 40
PICKUP_OPEN = timedelta(hours=8)
USE_WITHIN_DAYS = {"dairy": 4, "meat_fish": 3, "prepared": 1, "produce": 5, "bakery": 3}
SHELF_DAYS = 90
# What is announced but not offered yet, withdrawn, or counted again: a few of each.
STILL_PRODUCING, CANCELLED, ADJUSTED, MEASURED = 13, 29, 31, 17


@dataclass
class Batch:
    """A batch that is ready; `left` is what no delivery was planned for."""

    id: str
    place: Place
    product: data.Product
    quantity: int
    left: int


@dataclass
class Published:
    """What became of the batches."""

    ready: list[Batch]
    created: int = 0
    by_key: int = 0
    repeated: int = 0


async def publish(gateway: Gateway, stages: Stages, cast: Cast, *, run: int) -> Published:
    """Create the batches and make most of them ready."""
    published = Published([])
    pickup_places = [place for organization in cast.providers for place in organization.places]
    products = data.products()

    async def one(number: int) -> None:
        product = products[(run * BATCHES + number) % len(products)]
        by_key = number % BY_KEY_EVERY == 0
        own = cast.partner.places if by_key else pickup_places
        place = own[number % len(own)]
        caller: Caller = cast.partner_key if by_key else place.organization.somebody(number)
        body = _body(place, product, number)
        created = await gateway.post(caller, "/v1/batches", json=body, patience=NEW_TENANT) if not by_key else None
        if created is None:
            created = await _by_key(gateway, caller, body, published, twice=number % REPEATED_EVERY == 0)
        published.created += 1
        published.by_key += by_key
        batch = Batch(created["id"], place, product, body["quantity"], body["quantity"])
        if await _offer(gateway, caller, batch, number):
            published.ready.append(batch)

    await stages.each("batches, most of them ready", range(BATCHES if run == 1 else BATCHES_LATER), one)
    return published


async def _by_key(gateway: Gateway, caller: Caller, body: Json, published: Published, *, twice: bool) -> Json:
    """As partners should: the same key when asking again. The second answer is the first one."""
    answer = await gateway.send(caller, "POST", "/v1/batches", json=body, patience=NEW_TENANT)
    created: Json = answer.json()
    if twice:
        headers = {"Idempotency-Key": answer.request.headers["Idempotency-Key"]}
        again = await gateway.send(caller, "POST", "/v1/batches", json=body, headers=headers)
        if again.headers.get("Idempotency-Replayed") != "true" or again.json()["id"] != created["id"]:
            raise AssertionError("a repeated request with the same Idempotency-Key made a second batch")
        published.repeated += 1
    return created


async def _offer(gateway: Gateway, caller: Caller, batch: Batch, number: int) -> bool:
    if number % STILL_PRODUCING == 7:
        return False
    if number % CANCELLED == 11:
        body: Json = {"reason": "Lote reprovado na conferência"}
        await gateway.post(caller, "/v1/batches/{}/cancel", batch.id, json=body)
        return False
    body = {"temperature_dc": CHILLED_DC} if batch.product.storage == "chilled" else {}
    await gateway.post(caller, "/v1/batches/{}/ready", batch.id, json=body)
    if number % ADJUSTED == 3:
        batch.quantity = batch.left = batch.quantity - batch.quantity // 10
        body = {"quantity": batch.quantity, "reason": "Recontagem"}
        await gateway.post(caller, "/v1/batches/{}/adjust", batch.id, json=body)
    if number % MEASURED == 5 and batch.product.storage == "chilled":
        body = {"temperature_dc": CHILLED_DC + 5, "stage": "storage"}
        await gateway.post(caller, "/v1/batches/{}/temperatures", batch.id, json=body)
    return True


def _body(place: Place, product: data.Product, number: int) -> Json:
    now = datetime.now(UTC).replace(microsecond=0)
    days = USE_WITHIN_DAYS.get(product.category, SHELF_DAYS)
    body: Json = {
        "place_id": place.id,
        "kind": product.kind,
        "product": {"name": product.name, "category": product.category},
        "unit": product.unit,
        "quantity": data.quantity_of(product.category, f"{product.name}:{number}", 24, 120),
        "storage": product.storage,
        "lot_code": f"D{number:04d}",
        "pickup_window": {
            "from": (now - timedelta(minutes=5)).isoformat(),
            "to": (now + PICKUP_OPEN).isoformat(),
        },
    }
    if product.kind != "aid":
        body["use_by_at"] = (now + timedelta(days=days, hours=number % 20)).isoformat()
    return body
