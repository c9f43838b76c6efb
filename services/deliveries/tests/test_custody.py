"""Custody codes on a live process: who shows, who enters, and what wrong ones cost."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.testing import LiveService, told
from contracts.events import deliveries as events
from contracts.events import identity

from services.deliveries.tests.builders import World, dropped, wrong
from services.deliveries.tests.test_api import said


def handed(delivery: dict[str, Any], code: str, **changes: Any) -> dict[str, Any]:
    """The body of a pickup of everything planned."""
    lines = [{"line_id": line["line_id"], "picked": line["planned"]} for line in delivery["lines"]]
    return {"code": code, "lines": lines, **changes}


async def test_who_takes_shows_the_code(world: World) -> None:
    """The volunteer at the pickup, the receiver's people at the drop-off, the provider's at the return; at its time only."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    seen = [
        said(await world.show(caller, delivery, stage))
        for stage in ("pickup", "dropoff", "return")
        for caller in (volunteer, world.cook, world.keeper, world.coordinator)
    ]
    no, later = (403, "not-your-delivery"), (409, "invalid-transition")
    assert seen[0][0] == 200
    assert seen[1:] == [
        no, no, no,
        no, no, later, no,
        no, later, no, no,
    ]  # fmt: skip
    shown = await world.show(volunteer, delivery, "pickup")
    assert (shown.status_code, shown.headers["cache-control"], len(shown.json()["code"])) == (200, "no-store", 6)

    refused = await world.refused(await world.volunteer())
    assert (await world.show(world.cook, refused, "return")).status_code == 200
    assert said(await world.show(world.keeper, refused, "dropoff")) == later


async def test_five_wrong_codes_lock_the_stage(world: World) -> None:
    """Each refusal tells how many tries are left and stays counted; then even the right code waits."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    code = await world.code(volunteer, delivery, "pickup")

    answers = [await world.give(world.cook, delivery, "pickup", handed(delivery, wrong(code))) for _ in range(5)]
    locked = await world.give(world.cook, delivery, "pickup", handed(delivery, code))

    assert [(*said(answer), answer.json()["tries_left"]) for answer in answers] == [
        (409, "wrong-code", left) for left in (4, 3, 2, 1, 0)
    ]
    assert said(locked) == (429, "code-locked")
    assert 500 <= int(locked.headers["retry-after"]) <= 600
    assert await world.status(delivery) == "claimed"


async def test_guessing_at_once_gains_nothing(world: World) -> None:
    """Forty wrong codes at the same time are five tries and thirty-five refusals."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    code = await world.code(volunteer, delivery, "pickup")

    answers = await asyncio.gather(
        *(world.give(world.cook, delivery, "pickup", handed(delivery, wrong(code))) for _ in range(40))
    )

    found = [said(answer) for answer in answers]
    assert (found.count((409, "wrong-code")), found.count((429, "code-locked"))) == (5, 35)


async def test_tries_leave_the_window(world: World) -> None:
    """Ten minutes after the first wrong code there is a try again; another stage has tries of its own."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    code = await world.code(volunteer, delivery, "pickup")
    for _ in range(5):
        await world.give(world.cook, delivery, "pickup", handed(delivery, wrong(code)))
    then = datetime.now(UTC) - timedelta(minutes=10, seconds=1)
    await world.database.pool.execute(
        "UPDATE custody_tries SET failed_at = $2 WHERE delivery_id = $1", UUID(delivery["id"]), [then] * 5
    )

    code = await world.code(volunteer, delivery, "pickup")
    carried = await world.done(world.cook, delivery, "pickup", handed(delivery, code))

    assert carried["status"] == "in_transit"
    bad = await world.give(volunteer, delivery, "dropoff", {"code": wrong(code), "lines": dropped(carried)})
    assert bad.json().get("tries_left") == 4


async def test_many_hands_one_handover(world: World, crowd: httpx.AsyncClient) -> None:
    """Two hundred pickups with the same right code at once: one takes place, 199 find it done, no try is lost."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    body = handed(delivery, await world.code(volunteer, delivery, "pickup"))

    crowded = world.through(crowd)
    answers = await asyncio.gather(*(crowded.give(world.cook, delivery, "pickup", body) for _ in range(200)))

    assert told(answers) == {200: 1, "invalid-transition": 199}
    assert len({answer.url.port for answer in answers}) == 2
    shown = (await world.look(world.cook, delivery)).json()
    assert [(line["planned"], line["picked"]) for line in shown["lines"]] == [(5, 5)]
    assert await world.times(events.PickupConfirmed, delivery) == 1
    await world.conserved(delivery)
    tries = "SELECT count(*) FROM custody_tries WHERE delivery_id = $1 AND cardinality(failed_at) > 0"
    assert await world.database.reading().fetchval(tries, UUID(delivery["id"])) == 0


async def test_a_rule_that_refuses_costs_no_try(world: World) -> None:
    """With the right code, goods out of band or quantities that do not fit are refused, and all tries remain."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer, await world.batch(storage="chilled"))
    code = await world.code(volunteer, delivery, "pickup")
    line_id = delivery["lines"][0]["line_id"]
    cases = [
        (handed(delivery, code), (409, "temperature-required")),
        (handed(delivery, code, temperature_dc=120), (409, "temperature-out-of-band")),
        (handed(delivery, code, lines=[{"line_id": line_id, "picked": 6}]), (409, "quantity-mismatch")),
        (handed(delivery, code, lines=[{"line_id": line_id, "picked": 0}]), (409, "nothing-picked-up")),
        (handed(delivery, code, lines=[{"line_id": line_id, "picked": 1}] * 2), (422, "invalid")),
        (handed(delivery, code, lines=[{"line_id": str(UUID(int=7)), "picked": 1}]), (404, "line-not-found")),
    ]

    for body, expected in cases:
        assert said(await world.give(world.cook, delivery, "pickup", body)) == expected
    taken = await world.done(world.cook, delivery, "pickup", handed(delivery, code, temperature_dc=40))
    assert taken["status"] == "in_transit"


async def test_codes_and_their_keys_are_nowhere_to_be_read(world: World, live: LiveService) -> None:
    """After both handovers, one with an idempotency key and one queued: in no table, no message and no log line."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    shown = [(await world.show(volunteer, delivery, "pickup")).json()]
    path, key = f"/v1/deliveries/{delivery['id']}", {"Idempotency-Key": f"k-{delivery['id']}"}
    taken = await world.client.post(
        f"{path}/pickup", json=handed(delivery, shown[0]["code"]), headers=world.cook.headers | key
    )
    shown.append((await world.show(world.keeper, delivery, "dropoff")).json())
    drop = {"code": shown[1]["code"], "lines": dropped(taken.json())}
    queued = {
        "id": "1",
        "idempotency_key": "k",
        "path": f"{path}/dropoff",
        "body": drop,
        "client_time": datetime.now(UTC).isoformat(),
    }
    answer = await world.client.post("/v1/sync", json={"commands": [queued]}, headers=volunteer.headers)
    assert answer.json()["results"][0]["body"]["status"] == "delivered"
    await world.tap.saw(events.DeliveryCompleted, UUID(delivery["id"]))

    secrets = [each["offline"]["secret"] for each in shown]
    keys = [base64.b32decode(secret + "=" * (-len(secret) % 8)) for secret in secrets]
    forms = [*secrets, *(form for key in keys for form in (key.hex(), base64.b64encode(key).decode()))]
    forms += [f'"{each["code"]}"' for each in shown]
    tables = await world.database.reading().fetch(_TABLES)
    for table in (row["relname"] for row in tables):
        found = await world.database.pool.fetch(
            f"SELECT 1 FROM {table} t WHERE t::text LIKE ANY($1::text[]) LIMIT 1", [f"%{form}%" for form in forms]
        )
        assert not found, table
    log = live.log_path.read_text()
    told = b"".join(received.body for received in world.tap.received).decode()
    assert not [form for form in forms if form in log or form in told]
    assert len(tables) > 10
    assert delivery["id"] in log + told


_TABLES = """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"""


async def test_one_person_is_never_both_ends(world: World) -> None:
    """A volunteer who also works for the provider or the receiver neither enters nor shows the other end's code."""
    volunteer = await world.volunteer()
    for organization_id in (world.provider_id, world.receiver_id):
        await world.callers.know(_membership(organization_id, volunteer.id))
    delivery = await world.claimed(volunteer)
    code = await world.code(volunteer, delivery, "pickup")

    own = await world.give(volunteer, delivery, "pickup", handed(delivery, code))
    await world.done(world.cook, delivery, "pickup", handed(delivery, code))
    shown = await world.show(volunteer, delivery, "dropoff")

    assert said(own) == (403, "same-person")
    assert said(shown) == (403, "same-person")


def _membership(organization_id: UUID, user_id: UUID) -> identity.MembershipGranted:
    return identity.MembershipGranted(organization_id=organization_id, user_id=user_id, role="staff")


async def test_a_coordinator_vouches_with_a_reason(world: World) -> None:
    """Without any code, at both ends, but never for goods they carry themselves; the reason stays in the history."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    pick = {"stage": "pickup", "lines": handed(delivery, "")["lines"], "reason": "phone dead"}

    carried = await world.done(world.coordinator, delivery, "override", pick)
    drop = {"stage": "dropoff", "lines": dropped(carried), "reason": "phone dead"}
    ended = await world.done(world.coordinator, delivery, "override", drop)
    history = await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.cook.headers)

    assert ended["status"] == "delivered"
    assert [e["data"]["override_reason"] for e in history.json()[-2:]] == ["phone dead"] * 2

    refused = await world.refused(volunteer)
    back = {"stage": "return", "reason": "phone dead"}
    assert (await world.done(world.coordinator, refused, "override", back))["status"] == "returned"


async def test_a_coordinator_never_vouches_for_themselves(world: World) -> None:
    """Who carries the goods does not override the code of any end."""
    both = await world.volunteer()
    await world.callers.know(_coordinator(both.id))
    delivery = await world.claimed(both)
    pick = {"stage": "pickup", "lines": handed(delivery, "")["lines"], "reason": "phone dead"}

    own_pickup = await world.give(both, delivery, "override", pick)
    carried = await world.done(world.coordinator, delivery, "override", pick)
    own_dropoff = await world.give(
        both, delivery, "override", {"stage": "dropoff", "lines": dropped(carried), "reason": "x"}
    )

    assert said(own_pickup) == (403, "same-person")
    assert said(own_dropoff) == (403, "same-person")


def _coordinator(user_id: UUID) -> identity.PlatformRoleGranted:
    return identity.PlatformRoleGranted(user_id=user_id, role="coordinator")
