"""Every command in every status over HTTP: what the tables do not have is a clean 409, another version 412, foreign 404 or 403."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.testing import Bus, Callers, eventually
from chassis.testing.callers import Caller
from resources import repository, usecases
from resources.domain import (
    ALLOWED,
    MATCH_ALLOWED,
    RESERVATION_ALLOWED,
    MatchId,
    MatchStatus,
    ReservationState,
    Status,
)
from resources.repository import MATCHES

from services.resources.tests.builders import (
    REASON,
    BatchTold,
    Grounds,
    Steps,
    a_batch,
    a_request,
    a_side_at,
    in_time,
    portions,
)

Shown = dict[str, Any]
COMMANDS = {"change": {"title": "x"}, "reserve": {}, "close": {}, "cancel": REASON}
RESERVATION_COMMANDS = {"start": {}, "receive": {}, "refuse": REASON, "cancel": REASON}
MATCH_COMMANDS = {"accept": {}, "decline": REASON}
STALE = {"If-Match": '"99"'}


def refused(answer: httpx.Response, status: str, allowed: list[str]) -> None:
    """It is told what it is and what can be done with it."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "invalid-transition"), answer.text
    assert (problem["current_status"], problem["allowed"]) == (status, allowed)
    assert answer.headers["content-type"] == "application/problem+json"


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and problem code."""
    return answer.status_code, answer.json().get("code", "")


def test_every_command_of_the_tables_is_tried() -> None:
    """None is left out below."""
    tables = ((COMMANDS, ALLOWED), (RESERVATION_COMMANDS, RESERVATION_ALLOWED), (MATCH_COMMANDS, MATCH_ALLOWED))
    for tried, allowed in tables:
        assert tried.keys() == {command for commands in allowed.values() for command in commands}


# -- requests ----------------------------------------------------------------------------------------------------------


async def request_in(steps: Steps, database: Database, status: Status) -> Shown:
    """A request that the receiver opened, with something on its way to it."""
    request = await steps.opened(needed_by_at=in_time(hours=5))
    reservation = await steps.started(request, 10 if status is Status.FULFILLED else 4)
    path = f"/v1/resource-requests/{request['id']}"
    if status is Status.FULFILLED:
        await steps.post(f"/v1/reservations/{reservation['id']}/receive", {}, steps.receiver.staff)
    elif status is Status.CLOSED:
        await steps.post(f"{path}/close", {}, steps.receiver.manager)
    elif status is Status.CANCELLED:
        await steps.post(f"{path}/cancel", REASON, steps.receiver.manager)
    elif status is Status.EXPIRED:
        async with database.transaction() as tx:
            then = datetime.now(UTC) + timedelta(hours=6)
            await usecases.expire_request(tx, request_id=UUID(request["id"]), now=then)
    return await steps.get(path, steps.receiver.manager)


async def to_request(steps: Steps, request: Shown, command: str, by: Caller, **headers: str) -> httpx.Response:
    """A command on a request."""
    route, body = command, COMMANDS[command]
    if command == "reserve":
        line = {"line_id": request["lines"][0]["line_id"], "quantity": 1}
        route, body = "reservations", {"lines": [line], "mode": "partner"}
    path = f"/v1/resource-requests/{request['id']}/{route}"
    return await steps.client.post(path, json=body, headers=by.headers | headers)


@pytest.mark.parametrize("status", list(Status))
async def test_the_table_decides_about_requests(
    steps: Steps, callers: Callers, database: Database, status: Status
) -> None:
    """Outside it 409; before that another version is 412, the other side 403, and of what ended strangers know nothing."""
    request = await request_in(steps, database, status)
    stranger = await callers.person()
    assert request["status"] == status

    for command in COMMANDS:
        own, other = steps.receiver.manager, steps.donor.manager
        if command == "reserve":
            own, other = other, own
        assert said(await to_request(steps, request, command, own, **STALE)) == (412, "stale"), command
        code = "not-a-donor" if command == "reserve" else "not-your-request"
        assert said(await to_request(steps, request, command, other)) == (403, code), command
        if status is not Status.OPEN:
            hidden = await to_request(steps, request, command, stranger)
            assert said(hidden) == (404, "request-not-found"), command
        if command not in ALLOWED[status]:
            refused(await to_request(steps, request, command, own), status, ALLOWED[status])

    assert await steps.get(f"/v1/resource-requests/{request['id']}", steps.receiver.manager) == request


# -- reservations ------------------------------------------------------------------------------------------------------


async def reservation_in(steps: Steps, database: Database, state: ReservationState) -> Shown:
    """A promise of the donor."""
    request = await steps.opened()
    waits = state in (ReservationState.RESERVED, ReservationState.EXPIRED)
    made = await (steps.reserved if waits else steps.started)(request, 4)
    path = f"/v1/reservations/{made['id']}"
    ends: dict[ReservationState, Callable[[], Awaitable[Any]]] = {
        ReservationState.RECEIVED: lambda: steps.post(f"{path}/receive", {}, steps.receiver.manager),
        ReservationState.REFUSED: lambda: steps.post(f"{path}/refuse", REASON, steps.receiver.manager),
        ReservationState.CANCELLED: lambda: steps.post(f"{path}/cancel", REASON, steps.donor.manager),
    }
    if state in ends:
        await ends[state]()
    if state is ReservationState.EXPIRED:
        then = datetime.now(UTC) + timedelta(hours=49)
        async with database.transaction() as tx:
            await usecases.expire_reservation(
                tx, request_id=UUID(request["id"]), reservation_id=UUID(made["id"]), now=then
            )
    return await steps.get(path, steps.donor.manager)


@pytest.mark.parametrize("state", list(ReservationState))
async def test_the_table_decides_about_reservations(
    steps: Steps, callers: Callers, database: Database, state: ReservationState
) -> None:
    """Outside it 409; before that the other side is 403 and a stranger finds nothing."""
    reservation, stranger = await reservation_in(steps, database, state), await callers.person()
    path = f"/v1/reservations/{reservation['id']}"
    assert reservation["status"] == state
    receivers = {"receive", "refuse"}

    async def give(command: str, by: Caller) -> httpx.Response:
        return await steps.client.post(f"{path}/{command}", json=RESERVATION_COMMANDS[command], headers=by.headers)

    for command in RESERVATION_COMMANDS:
        own, other = steps.donor.manager, steps.receiver.manager
        if command in receivers:
            own, other = other, own
        assert said(await give(command, stranger)) == (404, "reservation-not-found"), command
        if command != "cancel":  # both sides may
            assert said(await give(command, other)) == (403, "not-your-reservation"), command
        if command not in RESERVATION_ALLOWED[state]:
            refused(await give(command, own), state, RESERVATION_ALLOWED[state])

    assert await steps.get(path, steps.donor.manager) == reservation


# -- matches -----------------------------------------------------------------------------------------------------------


async def end_of(database: Database, match: Shown, status: MatchStatus) -> None:
    """The time for an answer is over, or the goods are gone."""
    now = datetime.now(UTC)
    async with database.transaction() as tx:
        await repository.hold_lines(tx, [(UUID(match["request_id"]), UUID(match["line_id"]))])
        found = await MATCHES.get(tx, MatchId(UUID(match["id"])))
        if status is MatchStatus.EXPIRED:
            found.expire(now=now + timedelta(days=1))
        else:
            found.withdraw(reason="test", now=now)
        repository.end(tx, found, now=now)


@pytest.mark.parametrize("status", list(MatchStatus))
async def test_the_table_decides_about_matches(
    steps: Steps, callers: Callers, bus: Bus, grounds: Grounds, database: Database, status: MatchStatus
) -> None:
    """Outside it 409 to either side; before that another version is 412, a coordinator 403, and strangers find nothing."""
    spot = grounds.spot()
    provider, shelter = await a_side_at(callers, "provider", spot), await a_side_at(callers, "receiver", spot)
    body = a_request(shelter.place_id, portions())
    await steps.post("/v1/resource-requests", body, shelter.manager, status=201)
    batch: BatchTold = await a_batch(bus, provider, 10)
    listed = f"/v1/matches?batch_id={batch.id}"

    async def proposed() -> list[Shown]:
        found: list[Shown] = (await steps.get(listed, provider.manager))["items"]
        return found

    (match,) = await eventually(proposed)
    path = f"/v1/matches/{match['id']}"

    async def give(command: str, by: Caller, **headers: str) -> httpx.Response:
        return await steps.client.post(f"{path}/{command}", json=MATCH_COMMANDS[command], headers=by.headers | headers)

    if status in (MatchStatus.ACCEPTED, MatchStatus.DECLINED):
        done = {MatchStatus.ACCEPTED: "accept", MatchStatus.DECLINED: "decline"}[status]
        assert (await give(done, shelter.manager)).status_code == 200
    elif status is not MatchStatus.PROPOSED:
        await end_of(database, match, status)
    match = await steps.get(path, provider.manager)
    assert match["status"] == status
    stranger, coordinator = await callers.person(), await callers.person(platform_role="coordinator")

    for command in MATCH_COMMANDS:
        assert said(await give(command, stranger)) == (404, "match-not-found"), command
        assert said(await give(command, coordinator)) == (403, "not-your-match"), command
        for own in (provider.manager, shelter.manager):
            assert said(await give(command, own, **STALE)) == (412, "stale"), command
            if command not in MATCH_ALLOWED[status]:
                refused(await give(command, own), status, MATCH_ALLOWED[status])

    assert await steps.get(path, provider.manager) == match
