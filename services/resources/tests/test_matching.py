"""A batch finds who needs it: on a live process, with batches, deliveries and identity played by the tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, Tap, eventually
from chassis.testing.callers import Caller
from contracts.events import batches, deliveries, identity
from contracts.events import resources as own
from resources import usecases
from resources.domain import OPEN_MAX, cell_of
from resources.repository import MATCHES
from resources.usecases import MATCHING, Policy
from resources.usecases.matches import BatchGone

from services.resources.tests.builders import (
    REASON,
    BatchTold,
    DeliveryTold,
    Grounds,
    Side,
    Steps,
    a_batch,
    a_delivery_told,
    a_line,
    a_request,
    a_side_at,
    in_time,
    portions,
)

Shown = dict[str, Any]


@dataclass
class Town:
    """A provider, two shelters, and what is asked and seen there."""

    steps: Steps
    callers: Callers
    bus: Bus
    spot: tuple[float, float]
    provider: Side
    near: Side
    far: Side

    async def asks(self, side: Side, *lines: Shown, **changes: Any) -> Shown:
        """A shelter opens a request for ten portions, unless told otherwise."""
        body = a_request(side.place_id, *(lines or (portions(),)), **changes)
        return await self.steps.post("/v1/resource-requests", body, side.manager, status=201)

    async def matches(self, batch: BatchTold, *statuses: str) -> list[Shown]:
        """The batch's matches as the provider sees them, oldest first."""
        query = "".join(f"&status={status}" for status in statuses)
        page = await self.steps.get(f"/v1/matches?batch_id={batch.id}{query}&limit=200", self.provider.manager)
        return list(reversed(page["items"]))

    async def one(self, batch: BatchTold, *, of: Shown | None = None, status: str = "proposed") -> Shown:
        """The one match of the batch, or of a request, in this status, once it is there."""

        async def found() -> list[Shown]:
            shown = await self.matches(batch, status)
            return [match for match in shown if of is None or match["request_id"] == of["id"]]

        await eventually(found)
        (match,) = await found()
        return match

    async def settled(self, batch: BatchTold) -> None:
        """Everything told so far was heard, and the batch's process has nothing to do now."""
        marker = await a_batch(self.bus, self.provider, 1, category="pet", unit="unit")

        async def waits() -> bool:
            reading = self.database.reading()
            heard = await reading.fetchval("SELECT version FROM supply WHERE batch_id = $1", batch.id)
            after = await reading.fetchval("SELECT version FROM supply WHERE batch_id = $1", marker.id)
            looks = "SELECT count(*) FROM timers WHERE due_at <= now() AND (payload->>'batch_id' = $1 OR payload->>'key' = $1)"
            return heard == batch.version and after == 2 and not await reading.fetchval(looks, str(batch.id))

        await eventually(waits)

    @property
    def database(self) -> Database:
        """The service's."""
        return self._database

    def __post_init__(self) -> None:
        self._database: Database


@pytest_asyncio.fixture(loop_scope="session")
async def town(steps: Steps, callers: Callers, bus: Bus, tap: Tap, grounds: Grounds, database: Database) -> Town:
    """Somewhere of its own: a provider, a shelter two kilometres away and one ten kilometres away."""
    lat, lon = spot = grounds.spot()
    provider = await a_side_at(callers, "provider", spot)
    near = await a_side_at(callers, "receiver", (lat + 0.018, lon))
    far = await a_side_at(callers, "receiver", (lat + 0.09, lon))
    made = Town(steps, callers, bus, spot, provider, near, far)
    made._database = database
    return made


async def later(database: Database, batch: BatchTold, **passed: float) -> None:
    """The batch's process goes on as if so much time had passed."""
    now = datetime.now(UTC) + timedelta(**passed)
    policy = Policy(answer=timedelta(hours=2))
    while True:
        async with database.transaction() as tx:
            process = await MATCHING.running(tx, batch.id)
            assert process is not None
            await usecases.pursue(policy, tx, process, now)
            MATCHING.save(tx, process, now=now)
        if process.deadline is None or process.deadline > now:
            return


# -- proposals ---------------------------------------------------------------------------------------------------------


async def test_a_ready_batch_is_proposed_to_the_best_need_with_its_reasons(town: Town, tap: Tap) -> None:
    """The more urgent need is asked first, for as much as it lacks; the other gets the rest; both sides see why."""
    calm = await town.asks(town.near, portions(20), urgency="low")
    urgent = await town.asks(town.far, portions(30), urgency="emergency")

    batch = await a_batch(town.bus, town.provider, 40)
    first, second = await town.one(batch, of=urgent), await town.one(batch, of=calm)

    assert (first["quantity"], second["quantity"]) == (30, 10)
    assert first["score"] > second["score"]
    reasons = {reason["word"]: reason for reason in first["reasons"]}
    assert reasons.keys() == {"need", "distance", "capacity", "time", "fairness"}
    assert reasons["need"]["facts"] == {"urgency": "emergency", "open": 30, "needed": 30}
    assert 9_900 < reasons["distance"]["facts"]["distance_m"] < 10_100
    assert first["allowed"] == ["accept", "decline"]
    path = f"/v1/matches/{first['id']}"
    assert first == await town.steps.get(path, town.far.staff) == await town.steps.get(path, town.provider.partner)
    told = await tap.saw(own.MatchProposed, UUID(first["id"]))
    assert (told.envelope.organizationid, told.envelope.party_ids) == (
        town.far.organization_id,
        [town.far.organization_id, town.provider.organization_id],
    )
    assert isinstance(told.event, own.MatchProposed)
    assert (told.event.quantity, told.event.batch_id, told.event.product_name) == (30, batch.id, "Marmita")


async def test_a_need_that_opens_later_finds_the_batch(town: Town) -> None:
    """A batch of which something is left is proposed to who asks next."""
    batch = await a_batch(town.bus, town.provider, 40)
    await town.settled(batch)
    assert await town.matches(batch) == []

    request = await town.asks(town.near)

    assert (await town.one(batch, of=request))["quantity"] == 10


async def test_who_had_less_lately_is_asked_first(town: Town) -> None:
    """Of two shelters that are alike the one to which nothing was brought; how often is among the reasons."""
    twins = [await a_side_at(town.callers, "receiver", town.spot) for _ in range(2)]
    served = await town.asks(twins[0], a_line())
    line = {"line_id": served["lines"][0]["line_id"], "quantity": 1}
    for _ in range(2):
        path, body = f"/v1/resource-requests/{served['id']}/reservations", {"lines": [line], "mode": "partner"}
        await town.steps.post(path, body, town.steps.donor.manager, status=201)
    until = in_time(days=7)
    requests = [await town.asks(twin, needed_by_at=until) for twin in twins]

    batch = await a_batch(town.bus, town.provider, 10)

    first = await town.one(batch)
    assert first["request_id"] == requests[1]["id"]
    assert first["reasons"][-1] == {"word": "fairness", "value": 1.0, "weight": 0.15, "facts": {"recent": 0}}


@pytest.mark.parametrize(
    ("place", "line", "batch"),
    [
        ({"accepts": ["dairy"]}, {"category": None, "gtin": "7891000100103"}, {"gtin": "7891000100103"}),
        ({"roles": ["pickup"]}, {}, {}),
        ({"lat": 0.19}, {}, {}),
        ({}, {"unit": "g"}, {}),
        ({}, {"gtin": "7891000100103"}, {"gtin": "7891000315507"}),
        ({}, {"gtin": "7891000100103"}, {}),
        ({}, {"category": "bakery"}, {}),
    ],
)
async def test_what_does_not_fit_is_never_proposed(town: Town, place: Shown, line: Shown, batch: Shown) -> None:
    """A place that does not take it in or is too far; another unit, another product, another category."""
    shelter = await a_side_at(town.callers, "receiver", town.spot)
    if place:
        lat = town.spot[0] + place.get("lat", 0.0)
        changed = {"roles": ["receiving"], "accepts": []} | place | {"lat": lat, "lon": town.spot[1]}
        await town.asks(shelter, portions(**line))
        await move(town, shelter, **changed)
    else:
        await town.asks(shelter, portions(**line))

    told = await a_batch(town.bus, town.provider, **batch)
    await town.settled(told)

    assert await town.matches(told) == []


async def move(town: Town, side: Side, **changes: Any) -> None:
    """Identity tells that a place changed: the directory and the service hear of it."""
    fact = identity.PlaceChanged.model_validate(
        {
            "place_id": side.place_id,
            "organization_id": side.organization_id,
            "roles": ["receiving"],
            "ibge_city": "4314902",
            "lat": town.spot[0],
            "lon": town.spot[1],
            "tz": "America/Sao_Paulo",
            "accepts": [],
            **changes,
        }
    )
    await town.callers.know(fact)
    await town.bus.publish(fact, subject=side.place_id, version=2)
    cell = "SELECT bool_and(cell = $2) FROM request_lines WHERE place_id = $1"
    expected = cell_of(fact.lat, fact.lon)
    await eventually(lambda: town.database.reading().fetchval(cell, side.place_id, expected))


@pytest.mark.parametrize("stopped", ["prepared", "7891000100103"])
async def test_what_is_on_the_stop_list_is_never_proposed(town: Town, stopped: str) -> None:
    """By category or by product, also when the list came after the request."""
    shelter = await a_side_at(town.callers, "receiver", town.spot)
    await town.asks(shelter)
    await move(town, shelter, stop_list=[stopped])

    batch = await a_batch(town.bus, town.provider, gtin="7891000100103")
    await town.settled(batch)

    assert await town.matches(batch) == []


async def test_a_request_is_where_its_place_is(town: Town) -> None:
    """A place that moves into reach is found; its product is asked for by number."""
    shelter = await a_side_at(town.callers, "receiver", (town.spot[0] + 0.3, town.spot[1]))
    request = await town.asks(shelter, portions(category=None, gtin="7891000100103"))
    await move(town, shelter)

    batch = await a_batch(town.bus, town.provider, gtin="7891000100103")

    assert (await town.one(batch, of=request))["gtin"] == "7891000100103"


async def test_nobody_is_proposed_what_is_their_own_or_not_theirs_to_have(town: Town) -> None:
    """Neither the provider's own need, nor one of an organization that is not verified."""
    hidden = await a_side_at(town.callers, "receiver", town.spot)
    await town.asks(hidden)
    await town.callers.know(identity.OrganizationSuspended(organization_id=hidden.organization_id))
    kitchen = await town.callers.place(
        town.provider.organization_id, roles=["receiving"], lat=town.spot[0], lon=town.spot[1]
    )
    body = a_request(kitchen, portions())
    await town.steps.post("/v1/resource-requests", body, town.provider.manager, status=201)

    batch = await a_batch(town.bus, town.provider)
    await town.settled(batch)

    assert await town.matches(batch) == []


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_the_receiver_accepts_and_it_is_a_reservation(town: Town, tap: Tap) -> None:
    """The quantity is promised by the provider for a volunteer to fetch; who accepted may also receive it."""
    request = await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 4)
    match = await town.one(batch)

    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager)

    path = f"/v1/reservations/{accepted['reservation_id']}"
    reservation = await town.steps.get(path, town.provider.staff)
    assert (accepted["status"], accepted["version"]) == ("accepted", 2)
    assert (reservation["mode"], reservation["status"]) == ("volunteer_pickup", "reserved")
    assert reservation["donor_organization_id"] == str(town.provider.organization_id)
    assert await coverage(town, request) == [(10, 4, 0, 6)]
    told = (await tap.saw(own.MatchAccepted, UUID(match["id"]))).event
    assert isinstance(told, own.MatchAccepted)
    assert told.reservation_id == UUID(accepted["reservation_id"])
    await town.steps.post(f"{path}/start", {}, town.provider.manager)
    await town.steps.post(f"{path}/receive", {}, town.near.manager)
    assert await coverage(town, request) == [(10, 0, 4, 6)]


async def coverage(town: Town, request: Shown) -> list[tuple[int, int, int, int]]:
    """needed, reserved, received, open of each line."""
    shown = await town.steps.get(f"/v1/resource-requests/{request['id']}", await a_coordinator(town))
    return [(each["needed"], each["reserved"], each["received"], each["open"]) for each in shown["lines"]]


async def a_coordinator(town: Town) -> Caller:
    """Sees everything."""
    return await town.callers.person(platform_role="coordinator")


async def test_the_provider_accepts_and_does_not_receive(town: Town) -> None:
    """Who promised for the provider is giver, and never taker."""
    await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 4)
    match = await town.one(batch)

    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.provider.partner)
    again = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager, status=409)

    assert accepted["status"] == "accepted"
    assert (again["code"], again["current_status"], again["allowed"]) == ("invalid-transition", "accepted", [])


async def test_when_one_declines_the_next_is_asked(town: Town, tap: Tap) -> None:
    """The declined need is not asked again for this batch; the freed quantity goes to the next."""
    first = await town.asks(town.near, urgency="emergency")
    second = await town.asks(town.far, urgency="low")
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch, of=first)

    declined = await town.steps.post(f"/v1/matches/{match['id']}/decline", REASON, town.near.staff)

    assert (declined["status"], declined["reason"]) == ("declined", "test")
    assert (await town.one(batch, of=second))["quantity"] == 10
    told = (await tap.saw(own.MatchDeclined, UUID(match["id"]))).event
    assert isinstance(told, own.MatchDeclined)
    await town.settled(batch)
    assert len(await town.matches(batch)) == 2


async def test_when_nobody_answers_the_next_is_asked(town: Town, tap: Tap, database: Database) -> None:
    """A proposal expires at its time, and its quantity is proposed to the next need."""
    first = await town.asks(town.near, urgency="emergency")
    second = await town.asks(town.far, urgency="low")
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch, of=first)
    left = datetime.fromisoformat(match["expires_at"]) - datetime.fromisoformat(match["proposed_at"])
    assert timedelta(minutes=59) < left <= timedelta(hours=1)  # a quarter of the four hours that are left

    await later(database, batch, minutes=61)

    assert (await town.one(batch, of=second))["quantity"] == 10
    assert [each["status"] for each in await town.matches(batch)] == ["expired", "proposed"]
    await tap.saw(own.MatchExpired, UUID(match["id"]))


# -- what changes meanwhile --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "more"),
    [
        (batches.BatchRecalled, "recalled", {"severity": "high", "reason": "x"}),
        (batches.BatchCancelled, "cancelled", {"reason": "x"}),
        (batches.BatchExpired, "expired", {}),
        (batches.BatchClosed, "closed", {}),
    ],
)
async def test_with_the_batch_its_matches_go_and_promises_are_released(
    town: Town, tap: Tap, kind: Any, status: str, more: Shown
) -> None:
    """Proposals and promises are withdrawn, what was promised is needed again, and the process ends."""
    promised = await town.asks(town.near, urgency="emergency")
    await town.asks(town.far)
    batch = await a_batch(town.bus, town.provider, 20)
    match = await town.one(batch, of=promised)
    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager)

    await batch.tell(kind, available=0, status=status, **more)

    async def all_withdrawn() -> bool:
        return {each["status"] for each in await town.matches(batch)} == {"withdrawn"}

    await eventually(all_withdrawn)
    assert await coverage(town, promised) == [(10, 0, 0, 10)]
    reservation = await town.steps.get(f"/v1/reservations/{accepted['reservation_id']}", town.near.manager)
    assert reservation["status"] == "cancelled"
    told = (await tap.saw(own.MatchWithdrawn, UUID(match["id"]))).event
    assert isinstance(told, own.MatchWithdrawn)
    assert told.reason == f"batch-{status}"
    late = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager, status=409)
    assert late["code"] == "invalid-transition"
    admin = await town.callers.person(platform_role="admin")
    listed = await town.steps.get(f"/v1/ops/resources/processes?key={batch.id}", admin)
    assert [(each["kind"], each["status"], each["outcome"]) for each in listed["items"]] == [
        ("match-batch", "done", f"batch-{status}")
    ]


async def test_when_there_is_less_the_worst_proposals_are_taken_back(town: Town) -> None:
    """Adjusted from twenty to twelve: the better proposal stays, the other is taken back and what is left proposed again."""
    first = await town.asks(town.near, urgency="emergency")
    second = await town.asks(town.far, urgency="low")
    batch = await a_batch(town.bus, town.provider, 20)
    kept, lost = await town.one(batch, of=first), await town.one(batch, of=second)

    await batch.tell(batches.BatchAdjusted, available=12, reason="x")

    async def as_it_should_be() -> bool:
        shown = {each["id"]: each for each in await town.matches(batch)}
        rest = [each["quantity"] for each in shown.values() if each["id"] not in (kept["id"], lost["id"])]
        return (shown[kept["id"]]["status"], shown[lost["id"]]["status"], rest) == ("proposed", "withdrawn", [2])

    await eventually(as_it_should_be)


@pytest.mark.parametrize("heard", ["plan first", "hold first"])
async def test_a_delivery_made_for_a_match_keeps_it(town: Town, tap: Tap, heard: str) -> None:
    """Whichever is heard first of the plan and of the hold: the promise sets out, nothing is taken back or proposed twice."""
    request = await town.asks(town.near)
    await town.asks(town.far, portions(100))
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch, of=request)
    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager)
    delivery = a_delivery(town, batch, request)

    if heard == "plan first":
        await delivery.tell(deliveries.DeliveryPlanned, status="planned")
        await in_delivery(town, accepted)
        await held(batch, delivery)
    else:
        await held(batch, delivery)
        await town.settled(batch)
        await delivery.tell(deliveries.DeliveryPlanned, status="planned")
        await in_delivery(town, accepted)
    await town.settled(batch)

    assert [each["status"] for each in await town.matches(batch)] == ["accepted"]
    assert await town.database.reading().fetchval("SELECT count(*) FROM lone_holds WHERE batch_id = $1", batch.id) == 0
    await delivery.tell(deliveries.DeliveryCompleted, status="delivered", delivered=10)
    await tap.saw(own.ResourceRequestFulfilled, UUID(request["id"]))
    assert await coverage(town, request) == [(10, 0, 10, 0)]


def a_delivery(town: Town, batch: BatchTold, request: Shown | None, planned: int = 10) -> DeliveryTold:
    """From the provider to the near shelter."""
    return a_delivery_told(town.bus, town.provider, town.near, request, planned, batch_id=batch.id)


async def held(batch: BatchTold, delivery: DeliveryTold) -> None:
    """Batches keeps what a delivery asked for, and has nothing more."""
    line = delivery.facts["lines"][0]
    more = {"hold_id": line["line_id"], "delivery_id": delivery.id, "quantity": line["planned"]}
    await batch.tell(batches.BatchHeld, available=0, **more)
    await batch.tell(batches.BatchDepleted, status="depleted")


async def in_delivery(town: Town, match: Shown) -> None:
    """The match's reservation is on its way."""

    async def moves() -> bool:
        shown = await town.steps.get(f"/v1/reservations/{match['reservation_id']}", town.near.manager)
        return bool(shown["status"] == "in_delivery")

    await eventually(moves)


async def test_what_others_reserve_is_not_proposed_any_more(town: Town, tap: Tap) -> None:
    """A promise of somebody else crowds the proposal out, and the batch looks for another need."""
    first = await town.asks(town.near, urgency="emergency")
    second = await town.asks(town.far, urgency="low")
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch, of=first)

    line = {"line_id": first["lines"][0]["line_id"], "quantity": 1}
    body = {"lines": [line], "mode": "partner"}
    await town.steps.post(
        f"/v1/resource-requests/{first['id']}/reservations", body, town.steps.donor.manager, status=201
    )

    told = (await tap.saw(own.MatchWithdrawn, UUID(match["id"]))).event
    assert isinstance(told, own.MatchWithdrawn)
    assert told.reason == "need-covered"

    async def proposed() -> bool:
        shown = {each["request_id"]: each["quantity"] for each in await town.matches(batch, "proposed")}
        return shown == {first["id"]: 9, second["id"]: 1}

    await eventually(proposed)


@pytest.mark.parametrize("how", ["close", "cancel", "change"])
async def test_with_the_need_its_proposals_go(town: Town, tap: Tap, how: str) -> None:
    """An ended request, or one that asks for something else now, has none."""
    request = await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch)

    body = {"lines": [a_line()]} if how == "change" else REASON
    await town.steps.post(f"/v1/resource-requests/{request['id']}/{how}", body, town.near.manager)

    await tap.saw(own.MatchWithdrawn, UUID(match["id"]))
    assert (await town.steps.get(f"/v1/matches/{match['id']}", town.near.manager))["status"] == "withdrawn"


async def test_a_promise_taken_back_is_proposed_to_others(town: Town) -> None:
    """The quantity of a match whose reservation was cancelled is free again."""
    first = await town.asks(town.near, urgency="emergency")
    second = await town.asks(town.far, urgency="low")
    batch = await a_batch(town.bus, town.provider, 10)
    match = await town.one(batch, of=first)
    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager)

    await town.steps.post(f"/v1/reservations/{accepted['reservation_id']}/cancel", REASON, town.near.manager)

    async def free_again() -> bool:
        return sum(each["quantity"] for each in await town.matches(batch, "proposed")) == 10

    await eventually(free_again)
    assert {each["request_id"] for each in await town.matches(batch, "proposed")} <= {first["id"], second["id"]}


async def test_a_suspended_organization_has_nothing_promised(town: Town) -> None:
    """Its proposals are taken back and promises not on their way called off, its own and those made to it."""
    promised, proposed = await town.asks(town.near, urgency="emergency"), await town.asks(town.near, urgency="high")
    batch = await a_batch(town.bus, town.provider, 20)
    match = await town.one(batch, of=promised)
    accepted = await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.provider.manager)
    open_one = await town.one(batch, of=proposed)
    fact = identity.OrganizationSuspended(organization_id=town.near.organization_id)

    await town.bus.publish(fact, subject=town.near.organization_id, version=10_000)
    await town.callers.know(fact)
    await town.database.pool.execute(
        "UPDATE access_organizations SET version = 10000 WHERE organization_id = $1", town.near.organization_id
    )

    async def called_off() -> bool:
        reservation = await town.steps.get(f"/v1/reservations/{accepted['reservation_id']}", town.provider.manager)
        shown = await town.steps.get(f"/v1/matches/{open_one['id']}", town.provider.manager)
        return (reservation["status"], shown["status"]) == ("cancelled", "withdrawn")

    await eventually(called_off)
    await town.settled(batch)
    assert await town.matches(batch, "proposed") == []


# -- rights and bad input ----------------------------------------------------------------------------------------------


async def test_only_both_sides_see_and_answer_a_match(town: Town) -> None:
    """Strangers find nothing, coordinators see and may not answer, keys need their scope."""
    await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 10)
    path = f"/v1/matches/{(await town.one(batch))['id']}"
    stranger, coordinator = town.far.manager, await a_coordinator(town)
    deaf = await town.callers.partner(town.near.organization_id, scopes=["requests:write"])
    mute = await town.callers.partner(town.near.organization_id, scopes=["requests:read"])

    assert (await town.steps.get(path, stranger, status=404))["code"] == "match-not-found"
    assert (await town.steps.get(f"/v1/matches?batch_id={batch.id}", stranger))["items"] == []
    seen = await town.steps.get(f"/v1/matches?batch_id={batch.id}", coordinator)
    assert len(seen["items"]) == 1
    assert (await town.steps.get(f"/v1/matches?batch_id={batch.id}&mine=true", coordinator))["items"] == []
    for command, body in (("accept", {}), ("decline", REASON)):
        answers = [
            await town.steps.post(f"{path}/{command}", body, stranger, status=404),
            await town.steps.post(f"{path}/{command}", body, coordinator, status=403),
            await town.steps.post(f"{path}/{command}", body, mute, status=403),
            await town.steps.post(f"/v1/matches/{new_id()}/{command}", body, town.near.manager, status=404),
        ]
        codes = [answer["code"] for answer in answers]
        assert codes == ["match-not-found", "not-your-match", "missing-scope", "match-not-found"]
    assert (await town.steps.get(path, deaf, status=403))["code"] == "missing-scope"
    unknown = await town.steps.client.get(path)
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthenticated")


async def test_bad_answers_are_problems(town: Town) -> None:
    """No reason, an unknown field, a stale version; a good one with its key is answered the same way twice."""
    await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 10)
    path, headers = f"/v1/matches/{(await town.one(batch))['id']}", town.near.manager.headers

    async def post(command: str, body: Any, **more: str) -> httpx.Response:
        return await town.steps.client.post(f"{path}/{command}", json=body, headers=headers | more)

    refused = [
        await post("decline", {}),
        await post("decline", REASON | {"surprise": 1}),
        await post("decline", {"reason": ""}),
        await post("accept", {}, **{"If-Match": '"7"'}),
    ]
    assert [answer.status_code for answer in refused] == [422, 422, 422, 412]
    key = {"Idempotency-Key": f"k-{new_id()}", "If-Match": '"1"'}
    first, second = await post("accept", {}, **key), await post("accept", {}, **key)
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (second.json(), second.headers["idempotency-replayed"]) == (first.json(), "true")
    for query in ("status=none", "batch_id=x", "limit=0", "cursor=abc", "mine=perhaps"):
        answer = await town.steps.client.get(f"/v1/matches?{query}", headers=headers)
        assert answer.status_code == (400 if query.startswith("cursor") else 422), query


async def test_matches_page_through_everything_once(town: Town) -> None:
    """Following the links gives each once, newest first; filters narrow."""
    for _ in range(3):
        await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 30)
    await eventually(lambda: all_proposed(town, batch, 3))
    seen: list[str] = []
    url: str | None = f"/v1/matches?batch_id={batch.id}&limit=2"
    while url:
        page = await town.steps.client.get(url, headers=town.near.staff.headers)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None

    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 3
    one = await town.steps.get(f"/v1/matches/{seen[0]}", town.near.staff)
    narrowed = await town.steps.get(f"/v1/matches?request_id={one['request_id']}&status=proposed", town.near.staff)
    assert [item["id"] for item in narrowed["items"]] == [seen[0]]


async def all_proposed(town: Town, batch: BatchTold, count: int) -> bool:
    """So many are proposed."""
    return len(await town.matches(batch, "proposed")) == count


async def test_a_batch_that_is_gone_by_now_cannot_be_accepted(town: Town, database: Database) -> None:
    """Between the recall and its process's move the answer is a clean conflict; so it is for goods the place stopped."""
    await town.asks(town.near)
    batch = await a_batch(town.bus, town.provider, 10)
    path = f"/v1/matches/{(await town.one(batch))['id']}/accept"
    async with database.transaction() as tx:
        await MATCHING.running(tx, batch.id)  # nobody moves
        await batch.tell(batches.BatchRecalled, available=0, status="recalled", severity="high", reason="x")
        known = "SELECT status = 'recalled' FROM supply WHERE batch_id = $1"
        await eventually(lambda: database.reading().fetchval(known, batch.id))

        gone = await town.steps.post(path, {}, town.near.manager, status=409)

    assert gone["code"] == "batch-gone"


async def test_matches_agree_with_their_facts(town: Town, database: Database) -> None:
    """After proposals, answers and withdrawals every row is what its events fold to."""
    for urgency in ("low", "high", "emergency"):
        await town.asks(town.near, urgency=urgency)
    batch = await a_batch(town.bus, town.provider, 30)
    await eventually(lambda: all_proposed(town, batch, 3))
    first, second, _ = await town.matches(batch)
    await town.steps.post(f"/v1/matches/{first['id']}/accept", {}, town.near.manager)
    await town.steps.post(f"/v1/matches/{second['id']}/decline", REASON, town.near.manager)
    await batch.tell(batches.BatchExpired, available=0, status="expired")
    await town.settled(batch)

    for shown in await town.matches(batch):
        folded = await MATCHES.as_of(database.reading(), UUID(shown["id"]))
        assert folded == await MATCHES.get(database.reading(), UUID(shown["id"]))
        assert folded.status == shown["status"]
    lines = "SELECT count(*) FROM request_lines WHERE place_id = $1 AND proposed <> 0"
    assert await database.reading().fetchval(lines, town.near.place_id) == 0


async def test_only_so_many_are_asked_at_once(town: Town) -> None:
    """Ten proposals of one batch wait for an answer; when one is answered, the next is asked."""
    for _ in range(12):
        await town.asks(town.near, portions(1))
    batch = await a_batch(town.bus, town.provider, 40)
    await eventually(lambda: all_proposed(town, batch, OPEN_MAX))
    await town.settled(batch)
    assert len(await town.matches(batch)) == OPEN_MAX

    first = (await town.matches(batch))[0]
    await town.steps.post(f"/v1/matches/{first['id']}/decline", REASON, town.near.manager)

    await eventually(lambda: all_proposed(town, batch, OPEN_MAX))
    assert len(await town.matches(batch)) == OPEN_MAX + 1


async def test_a_process_whose_step_is_refused_takes_everything_back(town: Town, database: Database) -> None:
    """The compensation: proposals are withdrawn, promises released, and the process says why it ended."""
    promised = await town.asks(town.near, urgency="emergency")
    await town.asks(town.far)
    batch = await a_batch(town.bus, town.provider, 20)
    match = await town.one(batch, of=promised)
    await town.steps.post(f"/v1/matches/{match['id']}/accept", {}, town.near.manager)

    async def refuse(*_: Any) -> None:
        raise BatchGone

    async with database.transaction() as tx:
        process = await MATCHING.running(tx, batch.id)
        assert process is not None
        await MATCHING.attempt(tx, process, refuse, usecases.call_off, now=datetime.now(UTC))

    assert {each["status"] for each in await town.matches(batch)} == {"withdrawn"}
    assert await coverage(town, promised) == [(10, 0, 0, 10)]
    admin = await town.callers.person(platform_role="admin")
    (listed,) = (await town.steps.get(f"/v1/ops/resources/processes?key={batch.id}", admin))["items"]
    assert (listed["status"], listed["outcome"]) == ("compensated", "batch-gone")
    assert {step["name"].partition(":")[0] for step in listed["steps"]} == {"propose", "end"}


async def test_a_need_with_no_time_left_is_not_proposed(town: Town) -> None:
    """What would arrive after it is needed is left to those who are nearer in time."""
    await town.asks(town.near, needed_by_at=in_time(minutes=20))
    batch = await a_batch(town.bus, town.provider, 10)
    await town.settled(batch)

    assert await town.matches(batch) == []
