"""Parts and waiting lists on a live process: who gets what, what is told, and races with what else happens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyotp
from chassis.kernel import new_id
from chassis.testing import eventually
from contracts.events import deliveries as events
from contracts.events import identity
from deliveries import usecases
from deliveries.domain import DeliveryId, LineId, Part, Spoilage, UserId
from deliveries.repository import DELIVERIES
from deliveries.usecases import Policy
from deliveries.usecases.saving import save

from services.deliveries.tests.builders import World
from services.deliveries.tests.test_api import said
from services.deliveries.tests.test_claims import SOMEBODY_WAITS

POLICY = Policy(min_handling=timedelta(minutes=30), claims_per_day_max=5)


def some(delivery: dict[str, Any], quantity: int) -> dict[str, Any]:
    """The body of a claim of so much of the first line."""
    return {"lines": [{"line_id": delivery["lines"][0]["line_id"], "quantity": quantity}]}


def planned(*deliveries: dict[str, Any]) -> int:
    """What is planned by all of them."""
    return sum(line["planned"] for delivery in deliveries for line in delivery["lines"])


# -- parts -------------------------------------------------------------------------------------------------------------


async def test_a_part_is_carried_and_the_rest_is_open(world: World) -> None:
    """The rest has an id, a stream and custody of its own; both are delivered for the same request, and the sum is the plan's."""
    ana, bia = await world.volunteer(), await world.volunteer()
    request_id = str(new_id())
    delivery = await world.opened(quantity=5, request_id=request_id)

    claimed = await world.done(ana, delivery, "claim", some(delivery, 2))
    (sibling_id,) = claimed["sibling_ids"]
    rest = (await world.look(bia, {"id": sibling_id})).json()
    await world.done(bia, rest, "claim")
    code = await world.code(bia, rest, "pickup")
    lines = [{"line_id": line["line_id"], "picked": line["planned"]} for line in rest["lines"]]
    carried = await world.done(world.cook, rest, "pickup", {"code": code, "lines": lines})

    assert (claimed["status"], planned(claimed), planned(rest), rest["status"]) == ("claimed", 2, 3, "open")
    assert (rest["parent_id"], carried["status"], carried["request_id"]) == (delivery["id"], "in_transit", request_id)
    split = (await world.tap.saw(events.DeliverySplit, UUID(delivery["id"]))).event
    off = await world.tap.saw(events.DeliverySplitOff, UUID(sibling_id))
    opened = await world.tap.saw(events.DeliveryOpened, UUID(sibling_id))
    assert isinstance(split, events.DeliverySplit)
    assert isinstance(off.event, events.DeliverySplitOff)
    assert (off.envelope.aggregateversion, opened.envelope.aggregateversion) == (1, 2)
    assert split.moved == off.event.moved
    assert [(str(m.line_id), str(m.sibling_line_id), m.quantity) for m in split.moved] == [
        (delivery["lines"][0]["line_id"], rest["lines"][0]["line_id"], 3)
    ]
    for delivery_id in (delivery["id"], sibling_id):
        reading = world.database.reading()
        row = await DELIVERIES.get(reading, UUID(delivery_id))
        assert row == await DELIVERIES.as_of(reading, UUID(delivery_id))


async def test_a_vehicle_takes_what_fits(world: World) -> None:
    """A bicycle that cannot carry the whole carries a part; a part that is too heavy is refused, and nothing is split."""
    heavy = await world.opened(await world.batch(unit="g"), quantity=9_000)
    cyclist = await world.volunteer(capacity_g=4_000, vehicle="bike")

    assert said(await world.give(cyclist, heavy, "claim")) == (409, "vehicle-does-not-fit")
    assert said(await world.give(cyclist, heavy, "claim", some(heavy, 4_001))) == (409, "vehicle-does-not-fit")
    assert said(await world.give(cyclist, heavy, "claim", some(heavy, 4_000))) == (200, "")


async def test_a_part_that_cannot_be_meant_is_refused(world: World) -> None:
    """More than planned, a line of another delivery, a line twice, nothing: each with its code, and the delivery stays whole."""
    delivery, volunteer = await world.opened(quantity=5), await world.volunteer()
    one = some(delivery, 1)["lines"]
    cases: list[tuple[dict[str, Any], tuple[int, str]]] = [
        (some(delivery, 6), (409, "quantity-mismatch")),
        ({"lines": [{"line_id": str(new_id()), "quantity": 1}]}, (404, "line-not-found")),
        ({"lines": one * 2}, (422, "invalid")),
        ({"lines": []}, (422, "invalid-input")),
        ({"lines": [one[0] | {"quantity": 0}]}, (422, "invalid-input")),
        ({"surprise": 1}, (422, "invalid-input")),
    ]

    for body, expected in cases:
        assert said(await world.give(volunteer, delivery, "claim", body)) == expected, body
    after = (await world.look(volunteer, delivery)).json()
    assert (after["status"], planned(after), after["sibling_ids"]) == ("open", 5, [])


async def test_many_want_a_part_and_one_gets_it(world: World) -> None:
    """Thirty claims of different parts of one delivery at once: one wins, the others find it claimed, one sibling has the rest."""
    delivery = await world.opened(quantity=31)
    volunteers = [await world.volunteer() for _ in range(30)]

    answers = await asyncio.gather(
        *(world.give(each, delivery, "claim", some(delivery, n)) for n, each in enumerate(volunteers, start=1))
    )

    found = sorted(said(answer) for answer in answers)
    assert found == [(200, "")] + [(409, "invalid-transition")] * 29
    won = next(answer.json() for answer in answers if answer.status_code == 200)
    rest = [(await world.look(world.coordinator, {"id": each})).json() for each in won["sibling_ids"]]
    assert (len(rest), planned(won, *rest)) == (1, 31)


async def test_a_recall_finds_what_split_off_while_it_waited(world: World) -> None:
    """The recall saw one delivery and waits for its row; what splits off meanwhile is called off with it."""
    batch, volunteer = await world.batch(), await world.volunteer()
    delivery = await world.opened(batch, quantity=5)
    database, delivery_id, now = world.database, UUID(delivery["id"]), datetime.now(UTC)
    sibling_id = DeliveryId(new_id())

    async def recall() -> None:
        async with database.transaction() as tx:
            await usecases.batch_spoiled(tx, POLICY, batch_id=batch.id, cause=Spoilage.RECALLED, version=2, now=now)

    async with database.transaction() as tx:
        locked = await DELIVERIES.get(tx, delivery_id)
        recalling = asyncio.create_task(recall())
        await eventually(lambda: database.reading().fetchval(SOMEBODY_WAITS))
        line_id = next(iter(locked.lines))
        rest = locked.claim(
            UserId(volunteer.id), now=now, min_handling=POLICY.min_handling, active=True, vehicle_fits=True,
            overlapping=False, claims_today=0, daily_cap=1,
            part=Part(taken={line_id: 2}, sibling_id=sibling_id, sibling_line_ids={line_id: LineId(new_id())}),
        )  # fmt: skip
        assert rest is not None
        for each in (rest, locked):
            save(tx, each, min_handling=POLICY.min_handling, now=now)

    await recalling
    assert [await world.status(each) for each in (delivery, {"id": str(sibling_id)})] == ["cancelled"] * 2


async def test_a_part_expires_by_itself(world: World) -> None:
    """The rest has a timer of its own from the beginning."""
    soon = datetime.now(UTC) + timedelta(minutes=30, seconds=4)
    volunteer = await world.volunteer()
    delivery = await world.opened(await world.batch(use_by_at=soon))
    claimed = await world.done(volunteer, delivery, "claim", some(delivery, 1))

    await world.tap.saw(events.DeliveryExpired, UUID(claimed["sibling_ids"][0]))

    assert await world.status(claimed) == "claimed"


# -- codes without a network -------------------------------------------------------------------------------------------


async def test_an_app_makes_the_codes_without_a_network(world: World) -> None:
    """What comes with a code is a standard TOTP secret: it gives the code of now, and of the next minute; a release ends it."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    shown = (await world.show(volunteer, delivery, "pickup")).json()
    totp = _totp(shown["offline"])
    until = datetime.fromisoformat(shown["valid_until"])
    coming = totp.at(until)

    assert totp.at(until - timedelta(seconds=1)) == shown["code"]
    await world.done(volunteer, delivery, "release", {"reason": "ill"})
    await world.done(volunteer, delivery, "claim")
    lines = [{"line_id": line["line_id"], "picked": line["planned"]} for line in delivery["lines"]]
    refused = await world.give(world.cook, delivery, "pickup", {"code": coming, "lines": lines})
    assert said(refused) == (409, "wrong-code")
    again = (await world.show(volunteer, delivery, "pickup")).json()["offline"]
    next_minute = _totp(again).at(datetime.now(UTC) + timedelta(seconds=60))
    await world.done(world.cook, delivery, "pickup", {"code": next_minute, "lines": lines})


def _totp(offline: dict[str, Any]) -> pyotp.TOTP:
    return pyotp.TOTP(
        offline["secret"], digits=offline["digits"], digest=offline["algorithm"].lower(), interval=offline["period_s"]
    )


# -- waiting lists -----------------------------------------------------------------------------------------------------


async def test_the_first_who_waits_is_called(world: World) -> None:
    """Who waits sees the delivery and their place in line, not who has it; a release calls the first."""
    ana, bia, caio = [await world.volunteer() for _ in range(3)]
    delivery = await world.claimed(ana)
    unseen = await world.look(bia, delivery)

    joined = [await world.done(each, delivery, "waiting-list") for each in (bia, caio, bia)]
    mine = await world.client.get("/v1/deliveries?mine=true", headers=caio.headers)
    await world.done(ana, delivery, "release", {"reason": "ill"})
    called = (await world.tap.saw(events.WaitingVolunteerCalled, UUID(delivery["id"]))).event
    after = [(await world.look(each, delivery)).json() for each in (bia, caio)]

    assert said(unseen) == (404, "delivery-not-found")
    assert [(each["waiting"], each["waiting_position"]) for each in joined] == [(1, 1), (2, 2), (2, 1)]
    assert {each["volunteer_id"] for each in joined} == {None}
    assert not any(each["exact_points"] for each in joined)
    assert [item["id"] for item in mine.json()["items"]] == [delivery["id"]]
    assert isinstance(called, events.WaitingVolunteerCalled)
    assert (called.waiting_id, called.status, called.volunteer_id) == (bia.id, "open", None)
    assert [(each["waiting"], each["waiting_position"]) for each in after] == [(1, None), (1, 1)]


async def test_waiting_ends(world: World) -> None:
    """By leaving, by a claim, with the delivery; again is no error; then the delivery is not seen any more."""
    ana, bia = await world.volunteer(), await world.volunteer()
    delivery = await world.claimed(ana)
    await world.done(bia, delivery, "waiting-list")
    path = f"/v1/deliveries/{delivery['id']}/waiting-list"

    left = [await world.client.delete(path, headers=bia.headers) for _ in range(2)]
    stale = await world.client.delete(path, headers=bia.headers | {"If-Match": '"1"'})
    gone = await world.look(bia, delivery)
    await world.done(bia, delivery, "waiting-list")
    ended = await world.done(world.cook, delivery, "cancel", {"reason": "rain"})

    assert [(each.status_code, each.json()["waiting"]) for each in left] == [(200, 0)] * 2
    assert said(stale) == (412, "stale")
    assert said(gone) == (404, "delivery-not-found")
    assert ended["waiting"] == 0
    assert said(await world.give(bia, delivery, "waiting-list")) == (409, "invalid-transition")


async def test_only_who_could_carry_it_waits(world: World) -> None:
    """No profile, one's own claim, a delivery nobody could see yet, a key: each is refused with its code."""
    ana, person = await world.volunteer(), await world.callers.person()
    delivery, unopened = await world.claimed(ana), await world.planned()

    assert said(await world.give(person, delivery, "waiting-list")) == (409, "volunteer-not-active")
    assert said(await world.give(ana, delivery, "waiting-list")) == (409, "already-yours")
    assert said(await world.give(ana, unopened, "waiting-list")) == (404, "delivery-not-found")
    assert said(await world.give(world.cook, unopened, "waiting-list")) == (409, "invalid-transition")
    assert said(await world.give(world.partner, delivery, "waiting-list")) == (403, "missing-scope")


async def test_a_suspended_volunteer_waits_for_nothing(world: World) -> None:
    """The call goes to the next."""
    ana, bia, caio = [await world.volunteer() for _ in range(3)]
    delivery = await world.claimed(ana)
    for each in (bia, caio):
        await world.done(each, delivery, "waiting-list")

    await world.bus.publish(identity.UserSuspended(user_id=bia.id), subject=bia.id, version=3)
    await world.tap.saw(events.WaitingListLeft, UUID(delivery["id"]))
    await world.done(ana, delivery, "release", {"reason": "ill"})

    called = (await world.tap.saw(events.WaitingVolunteerCalled, UUID(delivery["id"]))).event
    assert isinstance(called, events.WaitingVolunteerCalled)
    assert called.waiting_id == caio.id
