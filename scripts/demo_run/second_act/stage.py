"""The stage of the second act: who gives, who takes and who carries, and what every scene does with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scripts.demo_run import data
from scripts.demo_run.client import Gateway, Json, Person, Refused
from scripts.demo_run.hands import NEWS, Hands, eventually
from scripts.demo_run.journey import NO_MORE_TODAY, NOT_THIS_ONE, Pool
from scripts.demo_run.people import NEW_TENANT, Cast, Organization, Place

PICKUP_OPEN = timedelta(hours=8)
USE_WITHIN = timedelta(hours=20)
# Longer than what the reconciliation takes for the same moment: before and after it is certain who carries what.
A_WHILE_S = 6.0
INBOX_LOOKED_AT = 200  # newest first: a manager is told much in a minute


@dataclass(frozen=True)
class Goods:
    """A batch that a scene is about."""

    id: str
    place: Place
    quantity: int

    @property
    def giver(self) -> Organization:
        """Whose it is."""
        return self.place.organization


NEIGHBOURS, NEAR_KM = 3, 15.0  # matches are proposed within 20 km


@dataclass(frozen=True)
class Setting:
    """Where a scene plays: a provider's door, and the receiving places around it, the nearest first."""

    pickup: Place
    near: list[Place]


@dataclass(frozen=True)
class Scene:
    """What happened, for the table at the end."""

    title: str
    told: str


@dataclass
class Stage:
    """Everything a scene needs; scenes play at once and share the volunteers who are free."""

    gateway: Gateway
    cast: Cast
    pool: Pool
    claims: Counter[str] = field(default_factory=Counter)  # by e-mail address
    hands: Hands = field(init=False)

    def __post_init__(self) -> None:
        """Hands of its own, at the same gateway."""
        self.hands = Hands(self.gateway)

    def setting(self, number: int, category: str = "prepared") -> Setting:
        """A provider for each scene, and shelters that take such goods, one of each organization.

        Only providers with several of them as near as goods are matched; the others take no part.
        """
        around = [self._around(provider.places[0], category) for provider in self.cast.providers]
        near = [one for one in around if _km(one.pickup, one.near[NEIGHBOURS - 1]) < NEAR_KM]
        return near[number % len(near)]

    def _around(self, pickup: Place, category: str) -> Setting:
        taking = [place for place in self.cast.shelters if not place.accepts or category in place.accepts]
        taking.sort(key=lambda one: _km(pickup, one))
        near = {place.organization.key: place for place in reversed(taking)}
        return Setting(pickup, [place for place in taking if near[place.organization.key] is place])

    # -- goods -----------------------------------------------------------------------------------------------------------

    async def announce(self, pickup: Place, name: str, quantity: int, **terms: Any) -> Goods:
        """A batch that is not offered yet; `terms` replace what is usual."""
        now = datetime.now(UTC).replace(microsecond=0)
        body: Json = {
            "place_id": pickup.id,
            "kind": "food",
            "product": {"name": name, "category": "prepared"},
            "unit": "portion",
            "quantity": quantity,
            "storage": "ambient",
            "use_by_at": (now + USE_WITHIN).isoformat(),
            "pickup_window": {"from": (now - timedelta(minutes=5)).isoformat(), "to": (now + PICKUP_OPEN).isoformat()},
            **terms,
        }
        giver = pickup.organization.manager
        answer = await self.gateway.post(giver, "/v1/batches", json=body, patience=NEW_TENANT)
        return Goods(answer["id"], pickup, quantity)

    async def offer(
        self, pickup: Place, name: str, quantity: int, *, temperature_dc: int | None = None, **terms: Any
    ) -> Goods:
        """A batch that is ready."""
        goods = await self.announce(pickup, name, quantity, **terms)
        body: Json = {} if temperature_dc is None else {"temperature_dc": temperature_dc}
        await self.gateway.post(goods.giver.manager, "/v1/batches/{}/ready", goods.id, json=body)
        return goods

    async def ledger(self, goods: Goods, **expected: int) -> Json:
        """The batch once its quantities are these: deliveries tell it by events."""
        found: Json = {}

        async def look() -> Json | None:
            found.update(await self.gateway.get(goods.giver.manager, "/v1/batches/{}", goods.id))
            quantities = found["quantities"]
            return found if all(quantities[name] == value for name, value in expected.items()) else None

        return await eventually(f"batch {goods.id} has {expected}", look)

    async def bring(self, goods: Goods, quantity: int, to: Place, *, request: str | None = None) -> str:
        """An open delivery, planned by who receives."""
        planner = to.organization.manager
        delivery = await self.hands.plan(planner, goods.id, quantity, to, request=request)
        await self.hands.until(planner, delivery, "open")
        return delivery

    # -- people ----------------------------------------------------------------------------------------------------------

    async def volunteer(self, delivery: str, *, lines: list[Json] | None = None) -> Person:
        """Whoever is free and can claims it, or so much of its lines; who is done is given back to the pool."""
        passed: list[Person] = []
        try:
            while True:
                person = await self.pool.take()
                try:
                    await self.claim(person, delivery, lines=lines)
                except Refused as refused:
                    if refused.code in NO_MORE_TODAY:
                        self.pool.leave()
                    elif refused.code in NOT_THIS_ONE:
                        passed.append(person)
                    else:
                        raise
                else:
                    return person
        finally:
            self.pool.give_back(*passed)

    async def claim(self, person: Person, delivery: str, *, lines: list[Json] | None = None) -> Json:
        """This one claims it."""
        body: Json = {} if lines is None else {"lines": lines}
        answer: Json = await self.gateway.post(person, "/v1/deliveries/{}/claim", delivery, json=body, patience=NEWS)
        self.claims[person.email] += 1
        return answer

    async def told(self, person: Person, kind: str, subject: str) -> None:
        """Return when it is in the person's inbox."""

        async def look() -> bool | None:
            inbox = await self.gateway.get(person, "/v1/notifications", limit=INBOX_LOOKED_AT)
            return any((one["kind"], one["event"]["subject"]) == (kind, subject) for one in inbox["items"]) or None

        await eventually(f"{person.email} is told {kind} of {subject}", look)

    async def on_the_road(self, receiver: Person, delivery: str) -> None:
        """People have heard of the pickup, and some time passes."""
        await self.told(receiver, "delivery_picked_up", delivery)
        await asyncio.sleep(A_WHILE_S)

    async def alarmed(self, people: Iterable[Person], kind: str, goods: Goods) -> None:
        """They are all told, and some time passes until they do something about it."""
        for person in people:
            await self.told(person, kind, goods.id)
        await asyncio.sleep(A_WHILE_S)

    async def refused(self, code: str, who: Person, route: str, *ids: str, json: Json) -> None:
        """The platform says no, with this code; anything else is a failure of the demo."""
        try:
            await self.gateway.post(who, route, *ids, json=json)
        except Refused as refused:
            if refused.code == code:
                return
            raise
        raise AssertionError(f"{route.format(*ids)} was answered, but {code} was expected")


def holds(what: str, found: object, expected: object) -> None:
    """Fail the demo when something is not as it must be."""
    if found != expected:
        raise AssertionError(f"{what}: {found}, not {expected}")


def _km(one: Place, other: Place) -> float:
    return data.distance_km((one.lat, one.lon), (other.lat, other.lon))
