"""Every command in every status over HTTP: what the table does not have is a clean 409, another version 412, foreign 404 or 403."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from chassis.testing.callers import Caller
from deliveries import usecases
from deliveries.domain import ALLOWED, Spoilage, Status
from deliveries.usecases import Policy

from services.deliveries.tests.builders import World, dropped
from services.deliveries.tests.test_api import COMMANDS, said

POLICY = Policy(min_handling=timedelta(minutes=30), claims_per_day_max=5)
BESIDES = {"override", "no-show/contest"}  # no commands of the table: one stands for three, the other is about the past
OF_THE_VOLUNTEER = ("confirm", "release", "dropoff", "return", "reroute", "discard", "lost", "fail")
WITHOUT_VOLUNTEER = (Status.PLANNED, Status.OPEN)


async def brought(world: World, volunteer: Caller, status: Status) -> dict[str, Any]:
    """A delivery of the volunteer's, as soon as it is anybody's, in a status."""
    if status is Status.PLANNED:
        return await world.planned()
    if status is Status.OPEN:
        return await world.opened()
    if status in (Status.CLAIMED, Status.CANCELLED, Status.EXPIRED, Status.FAILED):
        return await _claimed_until(world, volunteer, status)
    return await _carried_until(world, volunteer, status)


async def _claimed_until(world: World, volunteer: Caller, status: Status) -> dict[str, Any]:
    delivery = await world.claimed(volunteer)
    if status is Status.CANCELLED:
        await world.done(world.cook, delivery, "cancel", {"reason": "test"})
    elif status is Status.FAILED:
        await world.done(volunteer, delivery, "fail", {"reason": "test"})
    elif status is Status.EXPIRED:
        batch_id, now = UUID(delivery["lines"][0]["batch_id"]), datetime.now(UTC)
        async with world.database.transaction() as tx:
            await usecases.batch_spoiled(tx, POLICY, batch_id=batch_id, cause=Spoilage.EXPIRED, version=2, now=now)
    return delivery


async def _carried_until(world: World, volunteer: Caller, status: Status) -> dict[str, Any]:
    delivery = await world.carried(volunteer)
    if status is Status.DELIVERED:
        code = await world.code(world.keeper, delivery, "dropoff")
        await world.done(volunteer, delivery, "dropoff", {"code": code, "lines": dropped(delivery)})
    elif status is not Status.IN_TRANSIT:
        await world.done(world.keeper, delivery, "refuse", {"reason": "test"})
    if status is Status.RETURNED:
        code = await world.code(world.cook, delivery, "return")
        await world.done(volunteer, delivery, "return", {"code": code})
    elif status is Status.DISCARDED:
        await world.done(volunteer, delivery, "discard", {"reason": "test"})
    return delivery


def rightful(world: World, volunteer: Caller, command: str) -> Caller:
    """Who may give the command whenever it exists; for claims anybody who sees the delivery."""
    if command in OF_THE_VOLUNTEER:
        return volunteer
    return {"pickup": world.cook, "refuse": world.keeper}.get(command, world.coordinator)


def test_every_command_of_the_table_is_tried() -> None:
    """None is left out below."""
    assert COMMANDS.keys() - BESIDES == {command for commands in ALLOWED.values() for command in commands}


@pytest.mark.parametrize("status", list(Status))
async def test_the_table_decides_over_http(world: World, status: Status) -> None:
    """Outside the table: 409 with the status and what is allowed, and nothing changes; without a volunteer nobody is one."""
    volunteer = await world.volunteer()
    delivery = await brought(world, volunteer, status)
    before = (await world.look(world.coordinator, delivery)).json()
    assert before["status"] == status

    for command in sorted(COMMANDS.keys() - BESIDES - set(ALLOWED[status])):
        if status in WITHOUT_VOLUNTEER and command in OF_THE_VOLUNTEER:
            answer = await world.give(world.coordinator, delivery, command, COMMANDS[command])
            assert said(answer) == (403, "not-your-delivery"), command
            continue
        answer = await world.give(rightful(world, volunteer, command), delivery, command, COMMANDS[command])
        assert said(answer) == (409, "invalid-transition"), command
        assert (answer.json()["current_status"], answer.json()["allowed"]) == (status, ALLOWED[status]), command
        assert answer.headers["content-type"] == "application/problem+json"

    assert (await world.look(world.coordinator, delivery)).json() == before


@pytest.mark.parametrize("status", [status for status in Status if status not in WITHOUT_VOLUNTEER])
async def test_other_versions_and_other_people_come_first(world: World, status: Status) -> None:
    """Whatever the table says: another version is 412, a party with another part in it 403, and strangers find nothing."""
    volunteer = await world.volunteer()
    delivery = await brought(world, volunteer, status)
    before = (await world.look(world.coordinator, delivery)).json()
    others = {"pickup": world.keeper, "refuse": world.cook, "cancel": world.keeper, "reassign": world.cook}
    others |= dict.fromkeys(OF_THE_VOLUNTEER, world.cook) | {"no-show": volunteer, "override": world.cook}

    for command in sorted(COMMANDS.keys() - {"no-show/contest"}):
        url, body = f"/v1/deliveries/{delivery['id']}/{command}", COMMANDS[command]
        caller = rightful(world, volunteer, command)
        stale = await world.client.post(url, json=body, headers=caller.headers | {"If-Match": '"99"'})
        assert said(stale) == (412, "stale"), command
        if command in others:
            assert said(await world.give(others[command], delivery, command, body)) == (403, "not-your-delivery"), (
                command
            )
            assert said(await world.give(world.stranger, delivery, command, body)) == (404, "delivery-not-found"), (
                command
            )

    assert (await world.look(world.coordinator, delivery)).json() == before
