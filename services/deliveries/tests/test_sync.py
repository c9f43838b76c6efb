"""Queued commands on a live process: in order, each under its own key, and what an app's own clock may and may not do."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pyotp
import pytest
from chassis.access import Principal
from chassis.app import Service
from chassis.idempotency import secret_bytes
from chassis.kernel import new_id
from chassis.testing.callers import Caller
from contracts.events import deliveries as events
from deliveries import usecases
from deliveries.api import sync
from deliveries.domain import CODE_AGE_MAX, Spoilage
from deliveries.repository import DELIVERIES
from deliveries.usecases import Asked, Custody, Policy
from starlette.requests import Request

from services.deliveries.tests.builders import World, dropped, wrong
from services.deliveries.tests.test_api import said
from services.deliveries.tests.test_tasks import tasks_made, tasks_wanted, template

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POLICY = Policy(min_handling=timedelta(minutes=30), claims_per_day_max=5)


def queued(
    delivery: dict[str, Any],
    command: str,
    body: dict[str, Any] | None = None,
    *,
    at: datetime | None = None,
    **told: Any,
) -> dict[str, Any]:
    """A command as an app keeps it, given just now unless told otherwise."""
    return {
        "id": new_id().hex,
        "idempotency_key": new_id().hex,
        "path": f"/v1/deliveries/{delivery['id']}/{command}",
        "body": body,
        "client_time": (at or datetime.now(UTC)).isoformat(),
        **told,
    }


async def send(world: World, caller: Caller, *commands: dict[str, Any]) -> httpx.Response:
    """The whole queue."""
    return await world.client.post("/v1/sync", json={"commands": list(commands)}, headers=caller.headers)


async def answers(world: World, caller: Caller, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer for every command, in the same order."""
    answer = await send(world, caller, *commands)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [each["id"] for each in results] == [each["id"] for each in commands]
    return results


def short(results: list[dict[str, Any]]) -> list[tuple[int, str, bool]]:
    """Status, problem code, replayed."""
    return [(each["status"], (each["problem"] or {}).get("code", ""), each["replayed"]) for each in results]


def picked(delivery: dict[str, Any], code: str, **changes: Any) -> dict[str, Any]:
    """The body of a pickup of everything planned."""
    lines = [{"line_id": line["line_id"], "picked": line["planned"]} for line in delivery["lines"]]
    return {"code": code, "lines": lines, **changes}


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_a_day_without_a_network_is_given_in_order(world: World) -> None:
    """What a volunteer did comes in order, each command with its own answer, as its own route would have given it."""
    volunteer = await world.volunteer()
    first, second = await world.opened(), await world.opened()
    reason = {"reason": "ill"}

    results = await answers(
        world,
        volunteer,
        queued(first, "claim"),
        queued(first, "release", reason),
        queued(second, "claim"),
        queued(first, "waiting-list"),
    )

    assert short(results) == [(200, "", False)] * 4
    assert [each["body"]["status"] for each in results] == ["claimed", "open", "claimed", "open"]
    direct = await world.look(volunteer, second)
    assert (results[2]["body"], results[2]["etag"]) == (direct.json(), direct.headers["etag"])
    assert all(each["problem"] is None for each in results)


async def test_a_command_has_one_effect_however_often_it_is_sent(world: World) -> None:
    """The same queue again gives the same answers, marked as such; so does the same key on the route itself."""
    volunteer, delivery = await world.volunteer(), await world.opened()
    queue = [queued(delivery, "claim"), queued(delivery, "release", {"reason": "ill"})]

    first = await answers(world, volunteer, *queue)
    again = await answers(world, volunteer, *queue)
    direct = await world.client.post(
        queue[0]["path"], headers=volunteer.headers | {"Idempotency-Key": queue[0]["idempotency_key"]}
    )
    other_body = queue[1] | {"body": {"reason": "other"}}

    assert short(again) == [(200, "", True)] * 2
    assert [each["body"] for each in again] == [each["body"] for each in first]
    assert (direct.json(), direct.headers["idempotency-replayed"]) == (first[0]["body"], "true")
    assert short(await answers(world, volunteer, other_body)) == [(422, "idempotency-key-reused", False)]
    assert len(world.tap.of(events.DeliveryClaimed, UUID(delivery["id"]))) == 1


async def test_a_failure_holds_back_its_delivery_and_no_other(world: World) -> None:
    """What builds on a refused command is not tried, and its key stays free; what is about another delivery goes on."""
    volunteer = await world.volunteer()
    lost, mine = await world.claimed(await world.volunteer()), await world.opened()
    release = queued(lost, "release", {"reason": "ill"})

    results = await answers(world, volunteer, queued(lost, "claim"), release, queued(mine, "claim"))

    assert short(results) == [
        (409, "invalid-transition", False), (409, "earlier-command-failed", False), (200, "", False),
    ]  # fmt: skip
    assert results[0]["problem"]["current_status"] == "claimed"
    assert results[1]["problem"]["instance"] == release["path"]
    assert (results[0]["body"], await world.status(lost)) == (None, "claimed")
    assert short(await answers(world, volunteer, release)) == [(404, "delivery-not-found", False)]


async def test_a_task_is_done_without_a_network(world: World) -> None:
    """With its note and once, the next one follows; refused it holds back what is about it, and nothing about its delivery."""
    await tasks_wanted(world, world.provider_id, template("pack", next="label"), template("label"))
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    pack = (await tasks_made(world, delivery, "pack"))["pack"]
    then = datetime.now(UTC) - HOUR
    complete = {
        "id": "1", "idempotency_key": new_id().hex, "path": f"/v1/tasks/{pack['id']}/complete",
        "body": {"note": "two boxes"}, "if_match": '"1"', "client_time": then.isoformat(),
    }  # fmt: skip
    twice = [complete | {"id": str(n), "idempotency_key": new_id().hex} for n in (2, 3)]
    whichever = [each | {"idempotency_key": new_id().hex, "if_match": None} for each in twice]

    (done,) = await answers(world, world.cook, complete)
    again = await answers(world, world.cook, complete, *twice, queued(delivery, "cancel", {"reason": "rain"}))
    late = await answers(world, world.cook, *whichever)
    foreign = await answers(world, world.stranger, complete | {"idempotency_key": new_id().hex})

    assert (done["status"], done["body"]["status"], done["body"]["note"]) == (200, "completed", "two boxes")
    assert (done["body"]["completed_by"], done["etag"]) == (str(world.cook.id), '"2"')
    assert short(again) == [
        (200, "", True), (412, "stale", False), (409, "earlier-command-failed", False), (200, "", False),
    ]  # fmt: skip
    assert short(late) == [(409, "invalid-transition", False), (409, "earlier-command-failed", False)]
    assert late[0]["problem"]["current_status"] == "completed"
    assert short(foreign) == [(404, "task-not-found", False)]
    told = "SELECT meta->>'client_time' FROM events WHERE stream_id = $1 AND type = 'TaskCompleted'"
    kept = await world.database.reading().fetchval(told, UUID(pack["id"]))
    assert datetime.fromisoformat(kept) == then


async def test_what_was_meant_for_another_version_is_stale(world: World) -> None:
    """A queued command carries the version that its giver saw."""
    volunteer, delivery = await world.volunteer(), await world.opened()

    results = await answers(world, volunteer, queued(delivery, "claim", if_match='"1"'))

    assert short(results) == [(412, "stale", False)]


async def test_everybody_gives_their_own_commands_only(world: World) -> None:
    """Rights are those of the route; keys and strangers have no queue."""
    delivery = await world.claimed(await world.volunteer())
    command = queued(delivery, "cancel", {"reason": "rain"})

    assert short(await answers(world, world.stranger, command)) == [(404, "delivery-not-found", False)]
    assert short(await answers(world, world.keeper, command)) == [(403, "not-your-delivery", False)]
    assert said(await send(world, world.partner, command)) == (403, "missing-scope")
    assert said(await world.client.post("/v1/sync", json={"commands": [command]})) == (401, "unauthenticated")


async def test_a_queue_that_cannot_be_meant_is_refused_whole(world: World) -> None:
    """Bounds, unknown fields, other paths than those of queueable commands: 422, and nothing of it is given."""
    volunteer, delivery = await world.volunteer(), await world.opened()
    good = queued(delivery, "claim")
    no_time = {name: value for name, value in good.items() if name != "client_time"}
    cases: list[list[dict[str, Any]]] = [
        [],
        [good | {"id": str(n)} for n in range(sync.COMMANDS_MAX + 1)],
        [good, good],
        [no_time],
        [good | {"client_time": "yesterday"}],
        [good | {"surprise": 1}],
        [good | {"idempotency_key": ""}],
        [good | {"if_match": "1"}],
        *([good | {"path": path}] for path in (
            "/v1/sync", f"/v1/deliveries/{delivery['id']}/override", f"/v1/deliveries/{delivery['id']}/code?stage=pickup",
            f"/v1/deliveries/{delivery['id']}/claim?x=1", f"/v1/deliveries/{delivery['id']}/claim\n", "/v1/deliveries/x/claim",
            f"/v1/tasks/{delivery['id']}", f"/v1/tasks/{delivery['id']}/claim", "/v1/tasks/x/complete",
            f"/v1/deliveries/{delivery['id']}/complete",
            f"/v1/ops/deliveries/{delivery['id']}/claim", f"/v1/deliveries/../{delivery['id']}/claim",
        )),
    ]  # fmt: skip

    for commands in cases:
        assert said(await send(world, volunteer, *commands)) == (422, "invalid-input"), commands
    assert await world.status(delivery) == "open"
    bad_body = queued(delivery, "release", {"reason": 5})
    assert short(await answers(world, volunteer, bad_body)) == [(422, "invalid-input", False)]


async def test_the_apps_clock_is_evidence(world: World) -> None:
    """The history tells when the app says it was given, and when it came; who comes at once tells no time, whatever they send."""
    volunteer, delivery = await world.volunteer(), await world.opened()
    yesterday = datetime.now(UTC) - timedelta(days=1)

    await answers(world, volunteer, queued(delivery, "claim", at=yesterday))
    direct = await world.client.post(
        f"/v1/deliveries/{delivery['id']}/release",
        json={"reason": "ill"},
        headers=volunteer.headers | {"X-Client-Time": yesterday.isoformat(), "Client-Time": yesterday.isoformat()},
    )
    history = (await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.cook.headers)).json()
    claimed, released = history[-2:]

    assert direct.status_code == 200
    assert (claimed["type"], released["type"]) == ("DeliveryClaimed", "ClaimReleased")
    assert datetime.fromisoformat(claimed["client_time"]) == yesterday
    assert datetime.fromisoformat(claimed["occurred_at"]) > yesterday + timedelta(hours=23)
    assert released["client_time"] is None


async def test_when_nobody_is_there_the_rest_is_not_tried() -> None:
    """A 503 ends the queue: the others are answered alike; an accident of one is a 500 of that one."""
    asked: list[str] = []

    async def router(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        if "release" in scope["path"]:
            raise RuntimeError("planted")
        body = json.dumps({"code": "unavailable"}).encode()
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": body})

    request = Request(
        {
            "type": "http",
            "app": SimpleNamespace(router=router),
            "headers": [(b"authorization", b"Bearer x")],
            "path": "/v1/sync",
        }
    )
    ids = [{"id": str(new_id())} for _ in range(3)]
    queue = sync.SyncIn.model_validate(
        {"commands": [queued(ids[0], "release", {"reason": "x"}), queued(ids[1], "claim"), queued(ids[2], "claim")]}
    )

    done = await sync.sync_commands(request, queue, Principal(new_id(), "person", {}))

    assert [each.status for each in done.results] == [500, 503, 503]
    assert len(asked) == 2


# -- codes entered without a network -----------------------------------------------------------------------------------


@pytest.fixture
def custody(world: World, service: Service) -> Custody:
    """The service's own secrets."""
    return Custody(world.database, secret_bytes(service.settings.secret_key.get_secret_value()))


async def claimed_long_ago(
    world: World, custody: Custody, volunteer: Caller, ago: timedelta, **told: Any
) -> dict[str, Any]:
    """A delivery that the volunteer claimed then; its pickup window was open already."""
    now = datetime.now(UTC)
    window = {"from_at": now - ago - HOUR, "to_at": now + HOUR}
    delivery = await world.opened(await world.batch(pickup_window=window, **told))
    async with world.database.transaction() as tx:
        asked = Asked(
            tx=tx, principal=Principal(volunteer.id, "person", {}), delivery_id=UUID(delivery["id"]), now=now - ago,
            if_match=None, policy=POLICY,
        )  # fmt: skip
        await usecases.claim(asked, custody)
    return delivery


async def code_of(world: World, caller: Caller, delivery: dict[str, Any], stage: str, at: datetime) -> str:
    """What the app of who takes the goods shows at a moment, without a network."""
    offline = (await world.show(caller, delivery, stage)).json()["offline"]
    totp = pyotp.TOTP(offline["secret"], digits=offline["digits"], digest=hashlib.sha256, interval=offline["period_s"])
    return totp.at(at)


async def test_a_handover_without_a_network_is_believed_later(world: World, custody: Custody) -> None:
    """The code of hours ago is right for that time and no other; a step of difference between two phones does not matter."""
    volunteer = await world.volunteer()
    delivery = await claimed_long_ago(world, custody, volunteer, 6 * HOUR)
    then = datetime.now(UTC) - 5 * HOUR
    code = await code_of(world, volunteer, delivery, "pickup", then - MINUTE)

    at_once = await world.give(world.cook, delivery, "pickup", picked(delivery, code))
    (elsewhen,) = await answers(
        world, world.cook, queued(delivery, "pickup", picked(delivery, code), at=then + 2 * MINUTE)
    )
    (believed,) = await answers(world, world.cook, queued(delivery, "pickup", picked(delivery, code), at=then))

    assert said(at_once) == (409, "wrong-code")
    assert (elsewhen["status"], elsewhen["problem"]["tries_left"]) == (409, 3)
    assert (believed["status"], believed["body"]["status"]) == (200, "in_transit")
    history = (await world.client.get(f"/v1/deliveries/{delivery['id']}/history", headers=world.cook.headers)).json()
    assert datetime.fromisoformat(history[-1]["client_time"]) == then
    assert datetime.fromisoformat(history[-1]["data"]["picked_up_at"]) > then + 4 * HOUR

    after = datetime.now(UTC) - HOUR
    drop = {"code": await code_of(world, world.keeper, delivery, "dropoff", after), "lines": dropped(believed["body"])}
    (dropped_off,) = await answers(world, volunteer, queued(delivery, "dropoff", drop, at=after))
    assert dropped_off["body"]["status"] == "delivered"
    row = await DELIVERIES.get(world.database.reading(), UUID(delivery["id"]))
    assert row == await DELIVERIES.as_of(world.database.reading(), UUID(delivery["id"]))


async def test_a_moment_that_cannot_be_is_refused_without_a_try(world: World, custody: Custody) -> None:
    """Ahead of our clock, too long ago, before the claim: the right code of that moment does not help, and costs no try."""
    ana, bia = await world.volunteer(), await world.volunteer()
    old = await claimed_long_ago(world, custody, ana, CODE_AGE_MAX + 2 * HOUR)
    young = await claimed_long_ago(world, custody, bia, HOUR)
    now = datetime.now(UTC)
    cases = [
        (ana, old, now + 3 * MINUTE, "ahead"),
        (ana, old, now + timedelta(days=400), "ahead"),
        (ana, old, now - CODE_AGE_MAX - MINUTE, "too-old"),
        (bia, young, now - HOUR - 3 * MINUTE, "before-the-claim"),
    ]

    for volunteer, delivery, moment, reason in cases:
        code = await code_of(world, volunteer, delivery, "pickup", moment)
        (answer,) = await answers(world, world.cook, queued(delivery, "pickup", picked(delivery, code), at=moment))
        problem = answer["problem"]
        assert (answer["status"], problem["code"], problem["reason"]) == (409, "offline-code-refused", reason)
    moment = now - CODE_AGE_MAX + MINUTE
    code = await code_of(world, ana, old, "pickup", moment)
    (bad,) = await answers(world, world.cook, queued(old, "pickup", picked(old, wrong(code)), at=moment))
    (good,) = await answers(world, world.cook, queued(old, "pickup", picked(old, code), at=moment))
    assert (bad["problem"]["tries_left"], good["status"]) == (4, 200)


async def test_a_code_is_good_for_one_handover(world: World, custody: Custody) -> None:
    """Used once it is refused ever after: by the state; after a release by its key; a new name for the command changes nothing."""
    ana, bia = await world.volunteer(), await world.volunteer()
    delivery = await claimed_long_ago(world, custody, ana, 3 * HOUR)
    then = datetime.now(UTC) - 2 * HOUR
    code = await code_of(world, ana, delivery, "pickup", then)
    await world.done(ana, delivery, "release", {"reason": "ill"})
    await world.done(bia, delivery, "claim")
    (released,) = await answers(world, world.cook, queued(delivery, "pickup", picked(delivery, code), at=then))
    just_now = datetime.now(UTC)
    fresh = await code_of(world, bia, delivery, "pickup", just_now)
    use = queued(delivery, "pickup", picked(delivery, fresh), at=just_now)
    renamed = use | {"id": "again", "idempotency_key": new_id().hex}

    used = [*await answers(world, world.cook, use), *await answers(world, world.cook, use)]
    used += await answers(world, world.cook, renamed)

    assert released["problem"]["code"] == "offline-code-refused"  # Bia claimed it after that
    assert short(used) == [(200, "", False), (200, "", True), (409, "invalid-transition", False)]
    assert len(world.tap.of(events.PickupConfirmed, UUID(delivery["id"]))) <= 1


async def test_a_queue_guesses_no_better(world: World, custody: Custody) -> None:
    """Ten codes for ten moments in one queue are five tries; each command about the delivery after a wrong one is held back anyway."""
    volunteer = await world.volunteer()
    delivery = await claimed_long_ago(world, custody, volunteer, 6 * HOUR)
    moments = [datetime.now(UTC) - HOUR - n * 5 * MINUTE for n in range(6)]
    code = await code_of(world, volunteer, delivery, "pickup", moments[0])
    guesses = [queued(delivery, "pickup", picked(delivery, wrong(code)), at=moment) for moment in moments]

    together = await answers(world, world.cook, *guesses)
    one_by_one = [await answers(world, world.cook, guess) for guess in guesses[1:]]
    right = await answers(world, world.cook, queued(delivery, "pickup", picked(delivery, code), at=moments[0]))

    assert short(together) == [(409, "wrong-code", False), *[(409, "earlier-command-failed", False)] * 5]
    assert [each[0]["problem"]["code"] for each in one_by_one] == ["wrong-code"] * 4 + ["code-locked"]
    assert short(right) == [(429, "code-locked", False)]


async def test_what_spoiled_meanwhile_is_not_handed_over(world: World, custody: Custody) -> None:
    """Recalled, or over, by our clock: that it was good when the app says it was handed over does not count."""
    volunteer = await world.volunteer()
    delivery = await claimed_long_ago(world, custody, volunteer, 3 * HOUR, storage="chilled")
    then = datetime.now(UTC) - 2 * HOUR
    code = await code_of(world, volunteer, delivery, "pickup", then)
    body = picked(delivery, code, temperature_dc=120)
    batch_id = UUID(delivery["lines"][0]["batch_id"])

    (warm,) = await answers(world, world.cook, queued(delivery, "pickup", body, at=then))
    async with world.database.transaction() as tx:
        await usecases.batch_spoiled(
            tx, POLICY, batch_id=batch_id, cause=Spoilage.EXPIRED, version=2, now=datetime.now(UTC)
        )
    (over,) = await answers(world, world.cook, queued(delivery, "pickup", body | {"temperature_dc": 40}, at=then))

    assert warm["problem"]["code"] == "temperature-out-of-band"
    assert (over["problem"]["code"], over["problem"]["current_status"]) == ("invalid-transition", "expired")
