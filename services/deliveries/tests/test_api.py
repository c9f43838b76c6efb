"""The routes of deliveries on a live process: status, problem code and rights per role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.kernel import new_id
from chassis.testing.callers import Caller
from contracts.events import batches, deliveries

from services.deliveries.tests.builders import DROPOFF_POINT, PICKUP_POINT, World, dropped

SOME_LINES = [{"line_id": str(new_id()), "picked": 1}]
COMMANDS: dict[str, dict[str, Any] | None] = {
    "claim": None,
    "confirm": None,
    "waiting-list": None,
    "release": {"reason": "x"},
    "no-show": None,
    "no-show/contest": {"reason": "x"},
    "reassign": {"volunteer_id": str(new_id()), "reason": "x"},
    "pickup": {"code": "000000", "lines": SOME_LINES},
    "dropoff": {"code": "000000", "lines": [{"line_id": str(new_id()), "delivered": 1, "rejected": 0}]},
    "return": {"code": "000000"},
    "override": {"stage": "pickup", "lines": SOME_LINES, "reason": "x"},
    "refuse": {"reason": "x"},
    "reroute": {"place_id": str(new_id())},
    "discard": {"reason": "x"},
    "lost": {"lines": [{"line_id": str(new_id()), "quantity": 1}], "reason": "x"},
    "cancel": {"reason": "x"},
    "fail": {"reason": "x"},
}


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and problem code."""
    return answer.status_code, answer.json().get("code", "")


# -- plan --------------------------------------------------------------------------------------------------------------


async def test_provider_receiver_coordinator_and_their_keys_plan(world: World) -> None:
    """Whoever gives, receives or coordinates may plan; others see the batch and may not."""
    batch = await world.batch()
    receiver_key = await world.callers.partner(world.receiver_id)
    reader = await world.callers.partner(world.provider_id, scopes=["deliveries:read"])
    foreign_key = await world.callers.partner(await world.callers.organization())
    expected: list[tuple[Caller, tuple[int, str]]] = [
        (world.cook, (201, "")),
        (world.keeper, (201, "")),
        (world.partner, (201, "")),
        (receiver_key, (201, "")),
        (world.coordinator, (201, "")),
        (world.stranger, (403, "not-your-delivery")),
        (foreign_key, (403, "not-your-delivery")),
        (reader, (403, "missing-scope")),
    ]

    for number, (caller, answer) in enumerate(expected):
        got = await world.client.post("/v1/deliveries", json=world.plan(batch), headers=caller.headers)
        assert said(got) == answer, (number, got.text)


async def test_a_plan_that_breaks_a_rule_is_refused_with_its_code(world: World) -> None:
    """What may not be seen is 404, what cannot be meant 422, what the rules forbid 409."""
    batch = await world.batch()
    elsewhere = await world.batch(place_id=await world.callers.place(world.provider_id))
    frozen, hot = await world.batch(storage="frozen"), await world.batch(storage="hot")
    later = datetime.now(UTC) + timedelta(days=2)
    tomorrow = await world.batch(
        use_by_at=later, pickup_window={"from_at": later - timedelta(hours=9), "to_at": later - timedelta(hours=8)}
    )
    cancelled = await world.batch(status="cancelled")
    unverified = await world.callers.organization(verified=False)
    picky = await world.callers.place(world.receiver_id, accepts=["bakery"])
    milk = await world.batch(gtin="7891000100103")
    no_meals = await world.callers.place(world.receiver_id, stop_list=["prepared"])
    no_such_milk = await world.callers.place(world.receiver_id, stop_list=["7891000100103"])
    pickup_only = await world.callers.place(world.receiver_id, roles=["pickup"])
    hidden = await world.callers.place(unverified)
    long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    cases: list[tuple[dict[str, Any], tuple[int, str]]] = [
        (world.plan() | {"lines": [{"batch_id": str(new_id()), "quantity": 1}]}, (404, "batch-not-found")),
        (world.plan(batch, receiving_place_id=str(new_id())), (404, "place-not-found")),
        (world.plan(batch, receiving_place_id=str(hidden)), (404, "place-not-found")),
        (world.plan(cancelled), (409, "batch-not-ready")),
        (world.plan(batch, elsewhere), (409, "several-pickup-places")),
        (world.plan(frozen, hot), (409, "mixed-storage")),
        (world.plan(batch, tomorrow), (409, "pickup-windows-apart")),
        (world.plan(batch, receiving_place_id=str(picky)), (409, "category-not-accepted")),
        (world.plan(batch, receiving_place_id=str(no_meals)), (409, "category-not-accepted")),
        (world.plan(milk, receiving_place_id=str(no_such_milk)), (409, "category-not-accepted")),
        (world.plan(batch, receiving_place_id=str(pickup_only)), (409, "place-not-for-receiving")),
        (world.plan(batch, batch), (422, "invalid")),
        (world.plan(batch, dropoff_window={"from": long_ago, "to": long_ago}), (422, "invalid")),
        (world.plan(), (422, "invalid-input")),
        (world.plan(batch, quantity=0), (422, "invalid-input")),
        (world.plan(batch, surprise=1), (422, "invalid-input")),
    ]

    for body, expected in cases:
        got = await world.client.post("/v1/deliveries", json=body, headers=world.cook.headers)
        assert said(got) == expected, (body, got.text)
    got = await world.client.post("/v1/deliveries", json=world.plan(cancelled), headers=world.keeper.headers)
    assert said(got) == (404, "batch-not-found")


async def test_bad_input_is_a_problem_never_an_error(world: World) -> None:
    """Whatever is sent, the answer is a 4xx problem with a stable code."""
    delivery = await world.planned()
    path, headers = f"/v1/deliveries/{delivery['id']}", world.cook.headers | {"Content-Type": "application/json"}
    cases: list[tuple[str, bytes, tuple[int, str]]] = [
        ("/v1/deliveries", b"{", (400, "bad-json")),
        ("/v1/deliveries", b'{"lines": [{"quantity": 1e400}]}', (422, "invalid-input")),
        ("/v1/deliveries", b" " * 1_100_000, (413, "body-too-large")),
        (f"{path}/cancel", b'{"reason": "a\\u0000b"}', (400, "bad-request")),
        (f"{path}/pickup", b'{"code": "12345", "lines": []}', (422, "invalid-input")),
        (f"{path}/pickup", b'{"code": "\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4\xd9\xa5\xd9\xa6"}', (422, "invalid-input")),
        (f"{path}/override", b'{"stage": "nowhere"}', (422, "invalid-input")),
        (f"{path}/return", b'{"code": "123456", "usable": "yes"}', (422, "invalid-input")),
        ("/v1/deliveries/nonsense/claim", b"", (422, "invalid-input")),
    ]

    for where, raw, expected in cases:
        got = await world.client.post(where, content=raw, headers=headers)
        assert said(got) == expected, (where, got.text)
        assert got.headers["content-type"] == "application/problem+json"
    for query in ("mine=1", "near=1", "status=nowhere", "limit=0", "radius_m=0"):
        got = await world.client.get(f"/v1/deliveries?{query}", headers=headers)
        assert said(got) == (422, "invalid-input"), query
    assert said(await world.client.get("/v1/deliveries?cursor=abc", headers=headers)) == (400, "bad-cursor")


async def test_the_same_key_plans_once(world: World) -> None:
    """A repeated POST with its key has one effect."""
    headers = world.partner.headers | {"Idempotency-Key": f"k-{new_id()}"}
    body = world.plan(await world.batch())

    first = await world.client.post("/v1/deliveries", json=body, headers=headers)
    second = await world.client.post("/v1/deliveries", json=body, headers=headers)

    assert (first.status_code, second.headers["idempotency-replayed"]) == (201, "true")
    assert first.json() == second.json()


# -- who sees what -----------------------------------------------------------------------------------------------------


async def test_a_foreign_delivery_is_not_found(world: World) -> None:
    """What is not open is 404 for strangers on every route; so is one that does not exist for anybody."""
    delivery = await world.planned()
    for path, caller in ((delivery["id"], world.stranger), (new_id(), world.coordinator)):
        url = f"/v1/deliveries/{path}"
        answers = [
            await world.client.get(url, headers=caller.headers),
            await world.client.get(f"{url}/history", headers=caller.headers),
            *[await world.client.get(f"{url}/code?stage={s}", headers=caller.headers) for s in ("pickup", "dropoff", "return")],
            *[await world.client.post(f"{url}/{command}", json=body, headers=caller.headers) for command, body in COMMANDS.items()],
        ]  # fmt: skip
        assert {said(answer) for answer in answers} == {(404, "delivery-not-found")}


async def test_everybody_sees_the_neighbourhood_of_an_open_delivery(world: World) -> None:
    """Outsiders see goods and a coarse point; parties see the doors; a key needs the scope."""
    delivery = await world.opened(request_id=str(new_id()))
    reader = await world.callers.partner(await world.callers.organization(), scopes=["deliveries:read"])

    outsider, party = await world.look(reader, delivery), await world.look(world.keeper, delivery)
    history = await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.stranger.headers)
    keyless = await world.callers.partner(world.provider_id, scopes=["batches:read"])

    seen = outsider.json()
    assert (seen["pickup_point"], seen["exact_points"]) == ({"lat": -30.03, "lon": -51.23}, False)
    assert (seen["pickup_place_id"], seen["receiving_place_id"], seen["planned_by"], seen["request_id"]) == (None,) * 4
    assert seen["lines"] == party.json()["lines"]
    exact = party.json()
    assert (exact["dropoff_point"]["lat"], exact["dropoff_point"]["lon"]) == DROPOFF_POINT
    assert exact["planned_by"] == str(world.cook.id)
    assert said(history) == (404, "delivery-not-found")
    assert said(await world.look(keyless, delivery)) == (403, "missing-scope")


async def test_the_winner_learns_the_doors_and_the_others_lose_sight(world: World) -> None:
    """A claim shows exact points to its volunteer; for who is no party the delivery is gone."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)

    mine, foreign = await world.look(volunteer, delivery), await world.look(world.stranger, delivery)

    assert (mine.json()["pickup_point"]["lat"], mine.json()["pickup_point"]["lon"]) == PICKUP_POINT
    assert mine.json()["pickup_place_id"] == str(world.kitchen)
    assert mine.json()["volunteer_id"] == str(volunteer.id)
    assert said(foreign) == (404, "delivery-not-found")


async def test_lists_show_open_ones_and_ones_own(world: World) -> None:
    """Strangers list what is open, parties also the rest; `mine`, `status` and `near` narrow it."""
    planned, opened = await world.planned(), await world.opened()

    async def listed(caller: Any, query: str) -> set[str]:
        found: set[str] = set()
        url: str | None = f"/v1/deliveries?limit=200&{query}"
        while url:
            page = await world.client.get(url, headers=caller.headers)
            assert page.status_code == 200, page.text
            found |= {item["id"] for item in page.json()["items"]}
            url = page.links["next"]["url"] if "next" in page.links else None
        return found & {planned["id"], opened["id"]}

    assert await listed(world.stranger, "") == {opened["id"]}
    assert await listed(world.stranger, "mine=true") == set()
    assert await listed(world.keeper, "") == {planned["id"], opened["id"]}
    assert await listed(world.keeper, "mine=true&status=planned") == {planned["id"]}
    assert await listed(world.coordinator, "") == {planned["id"], opened["id"]}
    assert await listed(world.keeper, "status=planned&status=open&near=-30.03,-51.23&radius_m=5000") == {
        planned["id"],
        opened["id"],
    }
    assert await listed(world.keeper, "near=-23.55,-46.63&radius_m=5000") == set()


async def test_lists_page_through_everything_once(world: World) -> None:
    """Following `next_cursor` gives each delivery once."""
    batch = await world.batch()
    made = {(await world.planned(batch))["id"] for _ in range(5)}
    seen: list[str] = []
    url: str | None = "/v1/deliveries?mine=true&limit=2"
    while url:
        page = await world.client.get(url, headers=world.partner.headers)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None

    assert set(seen) == made
    assert len(seen) == len(made)


async def test_the_parties_read_what_happened(world: World) -> None:
    """The history is every event in order, with who did it."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)

    answer = await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.partner.headers)

    types = [event["type"] for event in answer.json()]
    assert types == ["DeliveryPlanned", "HoldGranted", "DeliveryOpened", "DeliveryClaimed"]
    assert answer.json()[0]["actor_id"] == str(world.cook.id)
    assert answer.json()[3]["actor_id"] == str(volunteer.id)


async def test_a_stale_if_match_changes_nothing(world: World) -> None:
    """`If-Match` with another version is 412, with the present one the command runs; strangers learn nothing."""
    delivery = await world.planned()
    url, body = f"/v1/deliveries/{delivery['id']}/cancel", {"reason": "rain"}
    etag = (await world.look(world.cook, delivery)).headers["etag"]

    stale = await world.client.post(url, json=body, headers=world.cook.headers | {"If-Match": '"9"'})
    foreign = await world.client.post(url, json=body, headers=world.stranger.headers | {"If-Match": '"9"'})
    good = await world.client.post(url, json=body, headers=world.cook.headers | {"If-Match": etag})

    assert said(stale) == (412, "stale")
    assert said(foreign) == (404, "delivery-not-found")
    assert (good.status_code, good.json()["status"]) == (200, "cancelled")


# -- who may do what ---------------------------------------------------------------------------------------------------


async def test_commands_are_for_those_they_are_for(world: World) -> None:
    """A party that sees a claimed delivery but has another role is told so, and keys give no handshake."""
    delivery = await world.claimed(await world.volunteer())
    theirs: dict[str, set[str]] = {  # who may not
        "volunteer": {"confirm", "release", "dropoff", "return", "reroute", "discard", "lost", "fail"},
        "coordinator": {"reassign", "override"},
        "receiver": set(),
    }

    for command in theirs["volunteer"] | theirs["coordinator"]:
        assert said(await world.give(world.cook, delivery, command, COMMANDS[command])) == (403, "not-your-delivery")
    for command in ("pickup", "cancel"):
        assert said(await world.give(world.keeper, delivery, command, COMMANDS[command])) == (403, "not-your-delivery")
    assert said(await world.give(world.cook, delivery, "refuse", {"reason": "x"})) == (403, "not-your-delivery")
    for command in sorted(set(COMMANDS) - {"cancel"}):
        assert said(await world.give(world.partner, delivery, command, COMMANDS[command])) == (403, "missing-scope")
    assert said(await world.show(world.partner, delivery, "return")) == (403, "missing-scope")


async def test_who_planned_the_provider_and_coordinators_cancel(world: World) -> None:
    """Each of them may until the pickup, with a reason that everybody is told; nobody may twice."""
    batch = await world.batch()
    for caller in (world.keeper, world.partner, world.coordinator):
        delivery = await world.planned(batch, by=world.keeper)
        assert (await world.done(caller, delivery, "cancel", {"reason": "rain"}))["ended_reason"] == "rain"
        again = await world.give(caller, delivery, "cancel", {"reason": "rain"})
        assert said(again) == (409, "invalid-transition")
        assert (again.json()["current_status"], again.json()["allowed"]) == ("cancelled", [])


async def test_refused_goods_go_elsewhere(world: World) -> None:
    """What the shelter rejects the volunteer reroutes to a place that takes it; the shelter still sees the rest."""
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    school_id = await world.callers.organization()
    school = await world.callers.place(school_id, accepts=["prepared"])
    bakery = await world.callers.place(school_id, accepts=["bakery"])
    full = await world.callers.place(school_id, stop_list=["prepared"])
    teacher = await world.callers.person(member_of=school_id)
    code = await world.code(world.keeper, delivery, "dropoff")
    body = {"code": code, "lines": dropped(delivery, rejected=2), "reason": "too much"}

    assert (await world.done(volunteer, delivery, "dropoff", body))["status"] == "rerouting"
    unfit = (new_id(), bakery, full)
    refusals = [await world.give(volunteer, delivery, "reroute", {"place_id": str(p)}) for p in unfit]
    moved = await world.done(volunteer, delivery, "reroute", {"place_id": str(school)})
    old = await world.show(world.keeper, delivery, "dropoff")
    code = await world.code(teacher, delivery, "dropoff")
    line_id = delivery["lines"][0]["line_id"]
    ended = await world.done(
        volunteer, delivery, "dropoff", {"code": code, "lines": [{"line_id": line_id, "delivered": 2}]}
    )

    not_accepted = (409, "category-not-accepted")
    assert [said(refusal) for refusal in refusals] == [(404, "place-not-found"), not_accepted, not_accepted]
    assert (moved["status"], moved["receiving_organization_id"]) == ("in_transit", str(school_id))
    assert said(old) == (403, "not-your-delivery")
    assert (ended["status"], ended["lines"][0]["delivered"]) == ("delivered", 5)
    assert (await world.look(world.keeper, delivery)).json()["status"] == "delivered"
    rerouted = await world.tap.saw(deliveries.DeliveryRerouted, UUID(delivery["id"]))
    assert set(rerouted.envelope.party_ids) == {world.provider_id, world.receiver_id, school_id}


async def test_refused_goods_come_back(world: World) -> None:
    """The volunteer enters the code that the provider's people show; usable or not is announced."""
    volunteer = await world.volunteer()
    delivery = await world.refused(volunteer)
    body = {"code": await world.code(world.cook, delivery, "return"), "usable": False}

    ended = await world.done(volunteer, delivery, "return", body)

    assert (ended["status"], ended["lines"][0]["returned"]) == ("returned", 5)
    fact = (await world.tap.saw(deliveries.DeliveryReturned, UUID(delivery["id"]))).event
    assert isinstance(fact, deliveries.DeliveryReturned)
    assert not fact.usable


async def test_goods_get_lost_and_thrown_away(world: World) -> None:
    """Lost goods are accounted for on the road; the rest of a refused delivery can be discarded."""
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    line_id = delivery["lines"][0]["line_id"]

    def lost(quantity: int) -> dict[str, Any]:
        return {"lines": [{"line_id": line_id, "quantity": quantity}], "reason": "fell"}

    too_much = await world.give(volunteer, delivery, "lost", lost(6))
    after = await world.done(volunteer, delivery, "lost", lost(2))
    await world.done(volunteer, delivery, "refuse", {"reason": "closed"})
    ended = await world.done(volunteer, delivery, "discard", {"reason": "warm"})

    assert said(too_much) == (409, "quantity-mismatch")
    assert (after["status"], after["lines"][0]["lost"]) == ("in_transit", 2)
    assert (ended["status"], ended["lines"][0]["discarded"], ended["ended_reason"]) == ("discarded", 3, "warm")


async def test_there_was_nothing_to_collect(world: World) -> None:
    """The volunteer says so; the delivery has failed and the neighbourhood is all that the volunteer still sees."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)

    await world.done(volunteer, delivery, "fail", {"reason": "closed door"})

    after = (await world.look(volunteer, delivery)).json()
    assert (after["status"], after["ended_reason"], after["exact_points"]) == ("failed", "closed door", False)
    await world.tap.saw(deliveries.DeliveryFailed, UUID(delivery["id"]))


async def test_a_late_answer_of_batches_does_not_open_what_was_cancelled(world: World) -> None:
    """A cancelled plan stays cancelled when its hold is granted afterwards."""
    batch = await world.batch()
    delivery = await world.planned(batch)
    await world.done(world.cook, delivery, "cancel", {"reason": "rain"})
    other = await world.planned(batch)

    await world.tell(
        batch, batches.BatchHeld, hold_id=delivery["lines"][0]["line_id"], delivery_id=delivery["id"], quantity=5
    )
    await world.grant(other, [batch])
    await world.becomes(other, "open")

    assert await world.status(delivery) == "cancelled"
