"""The routes of resources on a live process: status, problem code and rights per role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Callers, eventually
from chassis.testing.callers import Caller
from contracts.events.identity import OrganizationSuspended

from services.resources.tests.builders import REASON, Side, Steps, a_line, a_request, a_side, in_time, join

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("change", {"title": "x"}),
    ("close", {}),
    ("cancel", REASON),
]
RESERVATION_COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("start", {}),
    ("receive", {}),
    ("refuse", REASON),
    ("cancel", REASON),
]


async def test_a_receiver_asks_for_what_it_needs(steps: Steps) -> None:
    """A request starts open and uncovered, at its place, with a version and an address."""
    body = a_request(steps.receiver.place_id, a_line(), a_line(category="hygiene", needed=3, gtin="7891000100103"))

    answer = await steps.client.post("/v1/resource-requests", json=body, headers=steps.receiver.staff.headers)

    request = answer.json()
    assert (answer.status_code, request["status"], request["version"]) == (201, "open", 1)
    assert answer.headers["location"] == f"/v1/resource-requests/{request['id']}"
    assert answer.headers["etag"] == '"1"'
    assert await steps.coverage(request) == [(10, 0, 0, 10), (3, 0, 0, 3)]


async def test_a_promise_is_kept(steps: Steps) -> None:
    """Reserved, on its way, received: the coverage follows, and the last reception fulfils the request."""
    request = await steps.opened()
    first = await steps.reserved(request, 4)
    assert (first["status"], first["donor_organization_id"]) == ("reserved", str(steps.donor.organization_id))
    assert await steps.coverage(request) == [(10, 4, 0, 6)]

    path = f"/v1/reservations/{first['id']}"
    started = await steps.post(f"{path}/start", {}, steps.donor.staff)
    partly = {"lines": [{"line_id": request["lines"][0]["line_id"], "quantity": 3}]}
    received = await steps.post(f"{path}/receive", partly, steps.receiver.manager)
    assert (started["status"], received["status"]) == ("in_delivery", "received")
    assert received["lines"][0] == {"line_id": request["lines"][0]["line_id"], "quantity": 4, "received": 3}
    assert received == await steps.get(path, steps.donor.manager)
    assert await steps.coverage(request) == [(10, 0, 3, 7)]

    rest = await steps.started(request, 7)
    await steps.post(f"/v1/reservations/{rest['id']}/receive", {}, steps.receiver.staff)

    shown = await steps.get(f"/v1/resource-requests/{request['id']}", steps.donor.manager)
    assert shown["status"] == "fulfilled"
    assert await steps.coverage(request) == [(10, 0, 10, 0)]


async def test_bodies_with_nothing_to_say_may_be_left_out(steps: Steps) -> None:
    """Start, receive and close need no body."""
    request = await steps.opened()
    reservation = await steps.reserved(request, 1)

    answers = [
        await steps.client.post(path, headers=by.headers)
        for path, by in (
            (f"/v1/reservations/{reservation['id']}/start", steps.donor.manager),
            (f"/v1/reservations/{reservation['id']}/receive", steps.receiver.manager),
            (f"/v1/resource-requests/{request['id']}/close", steps.receiver.manager),
        )
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("how", ["refuse", "cancel"])
async def test_a_promise_that_fails_is_needed_again(steps: Steps, how: str) -> None:
    """What was refused or taken back is open again."""
    request = await steps.opened()
    reservation = await steps.started(request, 10)

    ended = await steps.post(f"/v1/reservations/{reservation['id']}/{how}", REASON, steps.receiver.manager)

    assert ended["status"] == {"refuse": "refused", "cancel": "cancelled"}[how]
    assert await steps.coverage(request) == [(10, 0, 0, 10)]


async def test_a_request_changes_and_keeps_its_promises(steps: Steps) -> None:
    """Lines named keep their coverage, lines without an id are new, lines left out go unless something is promised."""
    request = await steps.opened(a_line(), a_line(category="dry", name="Arroz", unit="g", needed=5000))
    await steps.reserved(request, 4)
    path, first = f"/v1/resource-requests/{request['id']}/change", request["lines"][0]["line_id"]
    lines = [a_line(line_id=first, needed=6), a_line(category="pet", name="Ração")]

    changed = await steps.post(path, {"title": "Abrigo 2", "lines": lines}, steps.receiver.manager)
    promised = await steps.post(path, {"lines": [a_line()]}, steps.receiver.manager, status=409)
    unknown = await steps.post(path, {"lines": [a_line(line_id=str(new_id()))]}, steps.receiver.manager, status=404)

    assert (changed["title"], changed["urgency"]) == ("Abrigo 2", "high")
    assert await steps.coverage(request) == [(6, 4, 0, 2), (10, 0, 0, 10)]
    assert (promised["code"], unknown["code"]) == ("need-committed", "line-not-found")


@pytest.mark.parametrize(("how", "status"), [("close", "closed"), ("cancel", "cancelled")])
async def test_an_ended_request_drops_its_promises(steps: Steps, how: str, status: str) -> None:
    """Closing and cancelling end what is not on its way; nothing can be done to the request afterwards."""
    request = await steps.opened()
    waiting, moving = await steps.reserved(request, 1), await steps.started(request, 2)
    path = f"/v1/resource-requests/{request['id']}"

    ended = await steps.post(f"{path}/{how}", REASON, steps.receiver.manager)
    again = await steps.post(f"{path}/{how}", REASON, steps.receiver.manager, status=409)
    states = [
        (await steps.get(f"/v1/reservations/{each['id']}", steps.donor.manager))["status"] for each in (waiting, moving)
    ]

    assert (ended["status"], again["code"], again["current_status"]) == (status, "invalid-transition", status)
    assert states == ["cancelled", "in_delivery"]


async def test_more_than_is_open_cannot_be_promised(steps: Steps) -> None:
    """One more than is open is a conflict that says how much is."""
    request = await steps.opened()
    await steps.reserved(request, 4)
    line_id = request["lines"][0]["line_id"]
    path = f"/v1/resource-requests/{request['id']}/reservations"
    body = {"lines": [{"line_id": line_id, "quantity": 7}], "mode": "partner"}

    refused = await steps.post(path, body, steps.donor.manager, status=409)

    assert (refused["code"], refused["uncovered"]) == ("need-exceeded", 6)


async def test_the_database_itself_refuses_more_than_is_needed(steps: Steps, database: Database) -> None:
    """Coverage beyond the need cannot be stored, whatever the code does."""
    request = await steps.opened()
    with pytest.raises(Exception, match="request_lines_covered"):
        async with database.command() as tx:
            tx.write("UPDATE request_lines SET reserved = 7, received = 4 WHERE request_id = $1", request["id"])


async def test_open_requests_are_public_and_others_are_not(steps: Steps, callers: Callers) -> None:
    """Anybody signed in sees what is needed; ended requests are seen by their parties alone."""
    stranger, coordinator = await callers.person(), await callers.person(platform_role="coordinator")
    shown = await steps.opened()
    ended = await steps.opened()
    await steps.started(ended, 2)
    await steps.post(f"/v1/resource-requests/{ended['id']}/close", {}, steps.receiver.manager)
    path = f"/v1/resource-requests/{ended['id']}"

    listed = await steps.get(
        f"/v1/resource-requests?organization_id={steps.receiver.organization_id}&limit=200", stranger
    )
    hidden = await steps.get(path, stranger, status=404)

    ids = {item["id"] for item in listed["items"]}
    assert shown["id"] in ids
    assert ended["id"] not in ids
    assert {item["status"] for item in listed["items"]} == {"open"}
    assert hidden["code"] == "request-not-found"
    for party in (steps.receiver.staff, steps.receiver.partner, steps.donor.staff, coordinator):
        assert (await steps.get(path, party))["status"] == "closed"


async def test_foreign_objects_are_not_found_on_every_route(steps: Steps, callers: Callers) -> None:
    """An ended request and other people's reservations are 404 to strangers, whatever they try and whatever they match."""
    request = await steps.opened()
    reservation = await steps.started(request, 2)
    await steps.post(f"/v1/resource-requests/{request['id']}/close", {}, steps.receiver.manager)
    line = {"line_id": request["lines"][0]["line_id"], "quantity": 1}
    promise = ("reservations", {"lines": [line], "mode": "partner"})
    side = await a_side(callers, "donor", "receiver")
    for stranger in (side.manager, side.partner, await callers.person()):
        answers = [
            await steps.get(f"/v1/resource-requests/{request['id']}{more}", stranger, status=404)
            for more in ("", "/history")
        ]
        answers += [
            await steps.post(f"/v1/resource-requests/{request['id']}/{command}", body, stranger, status=404)
            for command, body in (*COMMANDS, promise)
        ]
        guess = await steps.client.post(
            f"/v1/resource-requests/{request['id']}/close", headers=stranger.headers | {"If-Match": '"77"'}
        )
        assert {answer["code"] for answer in [*answers, guess.json()]} == {"request-not-found"}

        path = f"/v1/reservations/{reservation['id']}"
        hidden = [await steps.get(path, stranger, status=404)]
        hidden += [
            await steps.post(f"{path}/{command}", body, stranger, status=404) for command, body in RESERVATION_COMMANDS
        ]
        assert {answer["code"] for answer in hidden} == {"reservation-not-found"}
        listed = await steps.get(f"/v1/reservations?request_id={request['id']}", stranger)
        assert listed["items"] == []


async def test_each_side_does_its_own_part(steps: Steps, callers: Callers) -> None:
    """Who sees a request or a reservation without the right to a command on it is forbidden it."""
    request = await steps.opened()
    reservation = await steps.started(request, 2)
    coordinator = await callers.person(platform_role="coordinator")
    path = f"/v1/resource-requests/{request['id']}"
    for command, body in COMMANDS:
        refused = await steps.post(f"{path}/{command}", body, steps.donor.manager, status=403)
        assert refused["code"] == "not-your-request"
    assert (await steps.get(f"{path}/history", steps.donor.manager, status=403))["code"] == "not-your-request"

    path = f"/v1/reservations/{reservation['id']}"
    forbidden = [
        ("start", {}, steps.receiver.manager),
        ("receive", {}, steps.donor.manager),
        ("refuse", REASON, steps.donor.manager),
        *((command, body, coordinator) for command, body in RESERVATION_COMMANDS),
    ]
    for command, body, caller in forbidden:
        refused = await steps.post(f"{path}/{command}", body, caller, status=403)
        assert refused["code"] == "not-your-reservation", command
    assert (await steps.get(path, coordinator))["status"] == "in_delivery"


async def test_who_may_reserve(steps: Steps, callers: Callers) -> None:
    """Donors and providers that are verified, each for its own organization, never for its own request."""
    request = await steps.opened()
    path = f"/v1/resource-requests/{request['id']}/reservations"
    both = await a_side(callers, "provider", "receiver")
    own = await steps.post("/v1/resource-requests", a_request(both.place_id), both.manager, status=201)
    unverified = await callers.organization(kinds=["donor"], verified=False)

    def promise(of: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"lines": [{"line_id": of["lines"][0]["line_id"], "quantity": 1}], "mode": "partner", **more}

    refusals: list[tuple[str, dict[str, Any], Caller, int, str]] = [
        (path, promise(request), steps.receiver.manager, 403, "not-a-donor"),
        (path, promise(request), await callers.person(), 403, "not-a-donor"),
        (path, promise(request), await callers.person(member_of=unverified), 409, "organization-not-verified"),
        (
            path,
            promise(request, organization_id=str(both.organization_id)),
            steps.donor.manager,
            403,
            "not-your-organization",
        ),
        (f"/v1/resource-requests/{own['id']}/reservations", promise(own), both.manager, 409, "own-request"),
    ]
    for where, body, caller, status, code in refusals:
        assert (await steps.post(where, body, caller, status=status))["code"] == code
    for caller in (both.manager, both.staff, both.partner):
        made = await steps.post(path, promise(request), caller, status=201)
        assert made["donor_organization_id"] == str(both.organization_id)


async def test_who_acts_for_several_says_for_which(steps: Steps, callers: Callers) -> None:
    """With two organizations the reservation must name one of them."""
    request = await steps.opened()
    first, second = [await callers.organization(kinds=["donor"]) for _ in range(2)]
    person = await callers.person(member_of=first)
    await join(callers, person, second)
    path = f"/v1/resource-requests/{request['id']}/reservations"
    body = {"lines": [{"line_id": request["lines"][0]["line_id"], "quantity": 1}], "mode": "partner"}

    unclear = await steps.post(path, body, person, status=422)
    made = await steps.post(path, body | {"organization_id": str(second)}, person, status=201)

    assert unclear["errors"][0]["pointer"] == "/organization_id"
    assert made["donor_organization_id"] == str(second)


async def test_nobody_is_giver_and_taker(steps: Steps, callers: Callers) -> None:
    """A member of both sides who promised cannot receive or refuse it."""
    request = await steps.opened()
    both = await callers.person(member_of=steps.donor.organization_id)
    await join(callers, both, steps.receiver.organization_id)
    line = {"line_id": request["lines"][0]["line_id"], "quantity": 1}
    body = {"organization_id": str(steps.donor.organization_id), "lines": [line], "mode": "donor_delivers"}
    made = await steps.post(f"/v1/resource-requests/{request['id']}/reservations", body, both, status=201)
    await steps.post(f"/v1/reservations/{made['id']}/start", {}, both)

    for command, said in (("receive", {}), ("refuse", REASON)):
        refused = await steps.post(f"/v1/reservations/{made['id']}/{command}", said, both, status=403)
        assert refused["code"] == "same-person"


async def test_keys_need_their_scope(steps: Steps, callers: Callers) -> None:
    """A key reads with `requests:read` and writes with `requests:write`."""
    deaf = await callers.partner(steps.receiver.organization_id, scopes=["requests:write"])
    mute = await callers.partner(steps.receiver.organization_id, scopes=["requests:read"])

    unread = await steps.get("/v1/resource-requests", deaf, status=403)
    unwritten = await steps.post("/v1/resource-requests", a_request(steps.receiver.place_id), mute, status=403)

    assert {unread["code"], unwritten["code"]} == {"missing-scope"}


async def test_who_may_ask(steps: Steps, callers: Callers) -> None:
    """Only for an own receiving place of a verified organization."""
    unverified = await callers.organization(verified=False)
    elsewhere = await callers.place(steps.receiver.organization_id, roles=["pickup"])
    cases: list[tuple[Any, Caller, int, str]] = [
        (steps.receiver.place_id, steps.donor.manager, 404, "place-not-found"),
        (new_id(), steps.receiver.manager, 404, "place-not-found"),
        (elsewhere, steps.receiver.manager, 409, "place-not-for-receiving"),
        (await callers.place(unverified), await callers.person(member_of=unverified), 409, "organization-not-verified"),
    ]
    for place_id, caller, status, code in cases:
        refused = await steps.post("/v1/resource-requests", a_request(place_id), caller, status=status)
        assert refused["code"] == code


async def test_a_place_asks_only_for_what_it_takes_in(steps: Steps, callers: Callers) -> None:
    """By what it accepts and by its stop-list, when a request is opened and when its lines are changed."""
    milk, soap = "7891000100103", "7891000315507"
    picky = await callers.place(
        steps.receiver.organization_id, roles=["receiving"], accepts=["beverage", "dairy"], stop_list=["dairy", milk]
    )
    refused: list[tuple[list[dict[str, Any]], list[str], list[str]]] = [
        ([a_line(), a_line(category="pet")], ["pet"], []),
        ([a_line(category="dairy")], ["dairy"], []),
        ([a_line(gtin=milk)], ["beverage"], [milk]),
        ([a_line(category=None, gtin=milk)], [], [milk]),
    ]
    for lines, categories, gtins in refused:
        body = a_request(picky, *lines)
        answer = await steps.post("/v1/resource-requests", body, steps.receiver.manager, status=409)
        assert (answer["code"], answer["categories"], answer["gtins"]) == ("category-not-accepted", categories, gtins)
    body = a_request(picky, a_line(), a_line(category=None, gtin=soap))
    request = await steps.post("/v1/resource-requests", body, steps.receiver.manager, status=201)

    path = f"/v1/resource-requests/{request['id']}/change"
    changed = await steps.post(path, {"lines": [a_line(category="dry")]}, steps.receiver.manager, status=409)
    untouched = await steps.post(path, {"title": "Abrigo 2"}, steps.receiver.manager)

    assert changed["code"] == "category-not-accepted"
    assert untouched["version"] == 2


async def test_suspension_hides_a_request(steps: Steps, callers: Callers) -> None:
    """Requests of a suspended organization are not shown and take no promises; its own people still see them."""
    side = await a_side(callers, "receiver")
    request = await steps.post("/v1/resource-requests", a_request(side.place_id), side.manager, status=201)
    await callers.know(OrganizationSuspended(organization_id=side.organization_id))
    path = f"/v1/resource-requests/{request['id']}"
    promise = {"lines": [{"line_id": str(new_id()), "quantity": 1}], "mode": "partner"}

    async def hidden() -> bool:
        answer = await steps.client.post(f"{path}/reservations", json=promise, headers=steps.donor.manager.headers)
        return bool(answer.json()["code"] == "request-not-found")

    await eventually(hidden)
    await steps.get(path, steps.donor.manager, status=404)
    assert (await steps.get(path, side.manager))["status"] == "open"


async def test_lists_are_narrowed(steps: Steps, callers: Callers) -> None:
    """By status, category, organization and distance, alone and together."""
    far = await a_side(callers, "receiver")
    recife = await callers.place(far.organization_id, roles=["receiving"], lat=-8.05, lon=-34.88)
    near_recife = await steps.post(
        "/v1/resource-requests", a_request(recife, a_line(category="pet")), far.manager, status=201
    )
    both = await steps.post(
        "/v1/resource-requests",
        a_request(far.place_id, a_line(category="pet"), a_line(category="dry")),
        far.manager,
        status=201,
    )
    closed = await steps.post("/v1/resource-requests", a_request(recife), far.manager, status=201)
    await steps.post(f"/v1/resource-requests/{closed['id']}/close", {}, far.manager)

    async def found(query: str) -> list[str]:
        page = await steps.get(f"/v1/resource-requests?organization_id={far.organization_id}&{query}", far.manager)
        return [item["id"] for item in page["items"]]

    assert await found("") == [closed["id"], both["id"], near_recife["id"]]
    assert await found("status=open") == [both["id"], near_recife["id"]]
    assert await found("status=closed&status=cancelled") == [closed["id"]]
    assert await found("category=dry") == [both["id"]]
    assert await found("category=dry&category=pet") == [both["id"], near_recife["id"]]
    assert await found("near=-8.06,-34.90&radius_m=5000&status=open") == [near_recife["id"]]
    assert await found("near=-8.06,-34.90&radius_m=1000") == []


async def test_lists_page_through_everything_once(steps: Steps) -> None:
    """Following `next_cursor` gives each request and each reservation once; a cursor of nobody's making is 400."""
    request = await steps.opened()
    made = {(await steps.reserved(request, 1))["id"] for _ in range(5)}
    requests = {request["id"], *[(await steps.opened())["id"] for _ in range(4)]}

    async def walked(url: str | None) -> list[str]:
        seen: list[str] = []
        while url:
            page = await steps.client.get(url, headers=steps.receiver.partner.headers)
            assert page.status_code == 200, page.text
            seen += [item["id"] for item in page.json()["items"]]
            url = page.links["next"]["url"] if "next" in page.links else None
        return seen

    reservations = await walked(f"/v1/reservations?request_id={request['id']}&status=reserved&limit=2")
    listed = await walked(f"/v1/resource-requests?organization_id={steps.receiver.organization_id}&limit=2")
    bad = await steps.get("/v1/resource-requests?cursor=abc", steps.receiver.partner, status=400)

    assert reservations == sorted(made, reverse=True)
    assert requests <= set(listed)
    assert len(listed) == len(set(listed))
    assert bad["code"] == "bad-cursor"


async def test_the_history_tells_everything_in_order(steps: Steps) -> None:
    """The receiver reads each fact once, with its actor, and folding them gives the state."""
    request = await steps.opened()
    await steps.started(request, 4)
    headers = steps.receiver.manager.headers

    events = (await steps.client.get(f"/v1/resource-requests/{request['id']}/history", headers=headers)).json()

    kinds = [event["type"] for event in events]
    assert kinds == ["ResourceRequestOpened", "ReservationMade", "ReservationStarted"]
    assert [event["version"] for event in events] == [1, 2, 3]
    assert [event["actor_id"] for event in events[1:]] == [str(steps.donor.manager.id)] * 2


async def test_the_same_key_promises_once(steps: Steps) -> None:
    """A repeated POST with its key has one effect and one answer, also a refusal."""
    request = await steps.opened()
    path = f"/v1/resource-requests/{request['id']}/reservations"

    async def promise(quantity: int, key: str) -> httpx.Response:
        body = {"lines": [{"line_id": request["lines"][0]["line_id"], "quantity": quantity}], "mode": "partner"}
        return await steps.client.post(path, json=body, headers=steps.donor.manager.headers | {"Idempotency-Key": key})

    key, refused_key = f"k-{new_id()}", f"k-{new_id()}"
    first, second = await promise(4, key), await promise(4, key)
    other = await promise(5, key)
    refused = [await promise(7, refused_key) for _ in range(2)]

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert [answer.status_code for answer in refused] == [409, 409]
    assert await steps.coverage(request) == [(10, 4, 0, 6)]


async def test_a_stale_if_match_changes_nothing(steps: Steps) -> None:
    """`If-Match` with an older version is 412 on every command of a request, with the present one it works."""
    request = await steps.opened()
    await steps.reserved(request, 1)
    path, headers = f"/v1/resource-requests/{request['id']}", steps.receiver.manager.headers
    for command, body in COMMANDS:
        answer = await steps.client.post(f"{path}/{command}", json=body, headers=headers | {"If-Match": '"1"'})
        assert (answer.status_code, answer.json()["code"]) == (412, "stale")

    answer = await steps.client.post(f"{path}/close", headers=headers | {"If-Match": '"2"'})

    assert answer.status_code == 200


async def test_bad_input_is_a_problem_never_an_error(steps: Steps) -> None:
    """Whatever is sent, the answer is a 4xx problem with a stable code."""
    good = a_request(steps.receiver.place_id)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    cases: list[tuple[bytes | dict[str, Any], int, str]] = [
        (b"{", 400, "bad-json"),
        (b'{"title": 1e400}', 422, "invalid-input"),
        (b'{"title": "a\\u0000b"}', 400, "bad-request"),
        (b"[" * 100_000, 400, "bad-request"),
        (b" " * 1_100_000, 413, "body-too-large"),
        (good | {"surprise": 1}, 422, "invalid-input"),
        (good | {"urgency": "now"}, 422, "invalid-input"),
        (good | {"lines": []}, 422, "invalid-input"),
        (good | {"lines": [a_line()] * 101}, 422, "invalid-input"),
        (good | {"lines": [a_line(needed=0)]}, 422, "invalid-input"),
        (good | {"lines": [a_line(needed=-1)]}, 422, "invalid-input"),
        (good | {"lines": [a_line(needed=10**9 + 1)]}, 422, "invalid-input"),
        (good | {"lines": [a_line(needed="10")]}, 422, "invalid-input"),
        (good | {"lines": [a_line(category=None)]}, 422, "invalid"),
        (good | {"lines": [a_line(gtin="123")]}, 422, "invalid-input"),
        (good | {"needed_by_at": past}, 422, "invalid"),
        (good | {"needed_by_at": 5}, 422, "invalid-input"),
    ]
    headers = steps.receiver.partner.headers | {"Content-Type": "application/json"}
    for said, status, code in cases:
        sent = {"content": said} if isinstance(said, bytes) else {"json": said}
        answer = await steps.client.post("/v1/resource-requests", headers=headers, **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (status, code), (said, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_bad_promises_are_problems(steps: Steps) -> None:
    """Unknown lines, lines named twice, quantities of nothing and unknown modes are refused."""
    request = await steps.opened()
    reservation = await steps.started(request, 2)
    known = {"line_id": request["lines"][0]["line_id"], "quantity": 1}
    path = f"/v1/resource-requests/{request['id']}/reservations"
    cases: list[tuple[list[dict[str, Any]], int, str]] = [
        ([], 422, "invalid-input"),
        ([known, known], 422, "invalid"),
        ([known | {"quantity": 0}], 422, "invalid-input"),
        ([known | {"line_id": str(new_id())}], 404, "line-not-found"),
    ]
    for lines, status, code in cases:
        refused = await steps.post(path, {"lines": lines, "mode": "partner"}, steps.donor.manager, status=status)
        assert refused["code"] == code
    await steps.post(path, {"lines": [known], "mode": "pigeon"}, steps.donor.manager, status=422)

    path = f"/v1/reservations/{reservation['id']}/receive"
    arrivals: list[tuple[list[dict[str, Any]], int, str]] = [
        ([known | {"quantity": 3}], 409, "received-more-than-reserved"),
        ([known | {"quantity": 0}], 409, "nothing-received"),
        ([known, known], 422, "invalid"),
        ([known | {"line_id": str(new_id())}], 404, "line-not-found"),
    ]
    for lines, status, code in arrivals:
        assert (await steps.post(path, {"lines": lines}, steps.receiver.manager, status=status))["code"] == code


async def test_a_request_needs_no_last_day(steps: Steps) -> None:
    """`needed_by_at` may be left out and told later."""
    request = await steps.opened(needed_by_at=None)
    path, later = f"/v1/resource-requests/{request['id']}/change", in_time(days=3)

    changed = await steps.post(path, {"needed_by_at": later}, steps.receiver.manager)

    assert request["needed_by_at"] is None
    assert datetime.fromisoformat(changed["needed_by_at"]) == datetime.fromisoformat(later)


async def test_credentials_that_do_not_count_are_401(steps: Steps, callers: Callers, receiver: Side) -> None:
    """No, expired and badly formed credentials are all 401."""
    expired = await callers.person(member_of=receiver.organization_id, lasts_s=-10)
    for headers in ({}, expired.headers, {"X-API-Key": "vaj_live_junk"}, {"Authorization": "Bearer x.y.z"}):
        for path in ("/v1/resource-requests", "/v1/reservations"):
            answer = await steps.client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
