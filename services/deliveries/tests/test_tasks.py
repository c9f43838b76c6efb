"""Tasks on a live process: made with a stage, seen and done by their side, over with their time or the stage."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from chassis.kernel import new_id
from chassis.testing import LiveService, eventually
from chassis.testing.callers import Caller
from contracts.events import batches
from contracts.events import deliveries as events
from deliveries import usecases
from deliveries.domain import Status
from deliveries.repository.tasks import TASKS, TEMPLATES
from deliveries.usecases import Following, tasks

from services.deliveries.tests.builders import World, dropped
from services.deliveries.tests.followups import AFTER_KILL_S, begun, ended
from services.deliveries.tests.test_api import said


def template(key: str, role: str = "provider_member", *, stage: str = "claimed", **more: Any) -> dict[str, Any]:
    """Something to do within the hour."""
    return {"key": key, "stage": stage, "title": f"Do {key}", "role": role, "due_minutes": 60, **more}


async def _put(
    world: World, caller: Caller, organization_id: UUID, *templates: dict[str, Any], **headers: str
) -> httpx.Response:
    url = f"/v1/task-templates/{organization_id}"
    return await world.client.put(url, json={"templates": templates}, headers=caller.headers | headers)


async def tasks_wanted(world: World, organization_id: UUID, *templates: dict[str, Any]) -> None:
    """A manager of the organization wants these tasks."""
    manager = await world.callers.person(member_of=organization_id)
    answer = await _put(world, manager, organization_id, *templates)
    assert answer.status_code == 200, answer.text


async def _listed(world: World, caller: Caller, **query: Any) -> list[dict[str, Any]]:
    answer = await world.client.get("/v1/tasks", params={"limit": 200, **query}, headers=caller.headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def _of(world: World, delivery: dict[str, Any], **query: Any) -> dict[str, dict[str, Any]]:
    """A delivery's tasks by the key of their template, as a coordinator sees them."""
    found = await _listed(world, world.coordinator, delivery_id=delivery["id"], **query)
    return {task["template_key"]: task for task in found}


async def tasks_made(world: World, delivery: dict[str, Any], *keys: str) -> dict[str, dict[str, Any]]:
    """Its tasks, once these are there."""

    async def look() -> dict[str, dict[str, Any]] | bool:
        found = await _of(world, delivery)
        return found if set(keys) <= found.keys() else False

    made: dict[str, dict[str, Any]] = await eventually(look, timeout_s=20)
    return made


async def _complete(
    world: World, caller: Caller, task: dict[str, Any], body: dict[str, Any] | None = None, **headers: str
) -> httpx.Response:
    url = f"/v1/tasks/{task['id']}/complete"
    return await world.client.post(url, json=body, headers=caller.headers | headers)


async def _are(world: World, delivery: dict[str, Any], **statuses: str) -> None:
    """Wait until the tasks are so."""

    async def look() -> bool:
        found = await _of(world, delivery)
        return {key: task["status"] for key, task in found.items()} == {
            key.replace("_", "-"): status for key, status in statuses.items()
        }

    await eventually(look, timeout_s=20)


# -- templates ---------------------------------------------------------------------------------------------------------


async def test_managers_say_what_is_to_be_done(world: World) -> None:
    """Managers and keys replace all templates at once; staff and coordinators read them; nobody else knows of them."""
    manager, reader = await world.callers.person(member_of=world.provider_id), world.coordinator
    path = f"/v1/task-templates/{world.provider_id}"
    none = await world.client.get(path, headers=world.cook.headers)
    first = await _put(world, manager, world.provider_id, template("wash", next="pack"), template("pack"))
    again = await _put(world, world.partner, world.provider_id, template("wash", next="pack"), template("pack"))

    assert (none.json()["version"], none.json()["templates"], none.headers["etag"]) == (0, [], '"0"')
    assert (first.status_code, first.headers["etag"], again.headers["etag"]) == (200, '"1"', '"1"')
    for caller in (world.cook, world.partner, reader):
        shown = await world.client.get(path, headers=caller.headers)
        assert [each["key"] for each in shown.json()["templates"]] == ["wash", "pack"]
    foreign = await world.client.get(path, headers=world.stranger.headers)
    assert (
        said(foreign) == said(await _put(world, world.stranger, world.provider_id)) == (404, "organization-not-found")
    )
    assert said(await _put(world, world.cook, world.provider_id)) == (403, "not-your-organization")
    assert said(await _put(world, reader, world.provider_id)) == (403, "not-your-organization")
    only_reads = await world.callers.partner(world.provider_id, scopes=["deliveries:read"])
    assert said(await _put(world, only_reads, world.provider_id)) == (403, "missing-scope")
    stale = await _put(world, manager, world.provider_id, **{"If-Match": '"7"'})
    assert said(stale) == (412, "stale")
    assert (await _put(world, manager, world.provider_id, **{"If-Match": '"1"'})).json()["templates"] == []
    await eventually(lambda: len(world.tap.of(events.TaskTemplatesChanged, world.provider_id)) == 2)
    reading = world.database.reading()
    assert await TEMPLATES.get(reading, world.provider_id) == await TEMPLATES.as_of(reading, world.provider_id)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (template("Wash up"), "invalid-input"),
        (template("a", stage="delivered"), "invalid-input"),
        (template("a", "cook"), "invalid-input"),
        (template("a") | {"title": " "}, "invalid-input"),
        (template("a") | {"due_minutes": 0}, "invalid-input"),
        (template("a") | {"due_minutes": 43_201}, "invalid-input"),
        (template("a") | {"surprise": 1}, "invalid-input"),
        (template("a", next="b"), "invalid"),
        (template("a", next="a"), "invalid"),
        (template("a", "volunteer", stage="open"), "invalid"),
    ],
)
async def test_templates_that_cannot_be_meant_are_422(world: World, wrong: dict[str, Any], code: str) -> None:
    """The answer points at the template, and nothing is kept."""
    manager = await world.callers.person(member_of=world.provider_id)

    answer = await _put(world, manager, world.provider_id, wrong)

    assert said(answer) == (422, code)
    assert all(error["pointer"].startswith("/templates/0") for error in answer.json()["errors"])
    assert (await _put(world, manager, world.provider_id)).json()["version"] == 0


# -- made and done -----------------------------------------------------------------------------------------------------


async def test_entering_a_stage_makes_the_tasks_of_both_organizations(world: World) -> None:
    """The first of each chain, for the side that each is for, announced once; fold and row are one."""
    await tasks_wanted(
        world, world.provider_id, template("pack", next="label"), template("label"), template("bag", "volunteer")
    )
    await tasks_wanted(world, world.receiver_id, template("room", "receiver_member"), template("watch", "coordinator"))
    volunteer = await world.volunteer()

    delivery = await world.claimed(volunteer)
    made = await tasks_made(world, delivery, "pack", "bag", "room", "watch")

    assert set(made) == {"pack", "bag", "room", "watch"}
    assert {task["status"] for task in made.values()} == {"open"}
    pack, bag = made["pack"], made["bag"]
    assert (pack["title"], pack["assigned_organization_ids"]) == ("Do pack", [str(world.provider_id)])
    assert (bag["volunteer_id"], bag["assigned_organization_ids"]) == (str(volunteer.id), [])
    due_in = datetime.fromisoformat(pack["due_at"]) - datetime.fromisoformat(pack["created_at"])
    assert due_in == timedelta(hours=1)
    fact = await world.tap.saw(events.TaskCreated, UUID(made["room"]["id"]))
    assert (fact.envelope.organizationid, fact.envelope.party_ids) == (world.receiver_id, [world.receiver_id])
    reading = world.database.reading()
    assert await TASKS.get(reading, UUID(pack["id"])) == await TASKS.as_of(reading, UUID(pack["id"]))


async def test_doing_one_makes_the_next(world: World) -> None:
    """With the note of who did it; twice is refused with the state; the last of the chain makes nothing."""
    await tasks_wanted(world, world.provider_id, template("pack", next="label"), template("label"))
    delivery = await world.claimed(await world.volunteer())
    pack = (await tasks_made(world, delivery, "pack"))["pack"]

    stale = await _complete(world, world.cook, pack, **{"If-Match": '"9"'})
    done = await _complete(world, world.cook, pack, {"note": "in two boxes"}, **{"If-Match": '"1"'})
    again = await _complete(world, world.cook, pack)
    made = await tasks_made(world, delivery, "label")
    last = await _complete(world, world.cook, made["label"])

    assert said(stale) == (412, "stale")
    assert (done.status_code, done.json()["status"], done.json()["note"]) == (200, "completed", "in two boxes")
    assert (done.json()["completed_by"], done.headers["etag"]) == (str(world.cook.id), '"2"')
    assert said(again) == (409, "invalid-transition")
    assert (again.json()["current_status"], again.json()["allowed"]) == ("completed", [])
    assert last.status_code == 200
    assert set(await _of(world, delivery)) == {"pack", "label"}
    fact = await world.tap.saw(events.TaskCompleted, UUID(pack["id"]))
    assert isinstance(fact.event, events.TaskCompleted)
    assert (fact.event.completed_by, "two boxes" in str(fact.envelope.data)) == (world.cook.id, False)
    reading = world.database.reading()
    assert await reading.fetchval("SELECT count(*) FROM timers WHERE dedupe_key = $1", f"task-due:{pack['id']}") == 0


async def test_each_side_does_its_own(world: World) -> None:
    """Who sees a task of another side is told so; who has no part in it learns nothing; keys do nothing by hand."""
    await tasks_wanted(
        world,
        world.provider_id,
        template("pack"),
        template("room", "receiver_member"),
        template("bag", "volunteer"),
        template("watch", "coordinator"),
    )
    volunteer, other = await world.volunteer(), await world.volunteer()
    delivery = await world.claimed(volunteer)
    made = await tasks_made(world, delivery, "pack", "room", "bag", "watch")
    not_yours, hidden, ok = (403, "not-your-task"), (404, "task-not-found"), (200, "")
    expected: dict[str, list[tuple[Caller, tuple[int, str]]]] = {
        "pack": [(world.keeper, hidden), (volunteer, hidden), (world.coordinator, not_yours), (world.cook, ok)],
        "room": [(world.stranger, hidden), (volunteer, hidden), (world.cook, not_yours), (world.keeper, ok)],
        "bag": [(other, hidden), (world.keeper, hidden), (world.cook, not_yours), (volunteer, ok)],
        "watch": [(world.keeper, hidden), (volunteer, hidden), (world.cook, not_yours), (world.coordinator, ok)],
    }

    for key, tries in expected.items():
        for caller, answer in tries:
            read = await world.client.get(f"/v1/tasks/{made[key]['id']}", headers=caller.headers)
            assert said(read) == (hidden if answer == hidden else ok), key
            assert said(await _complete(world, caller, made[key])) == answer, key
    assert said(await _complete(world, world.partner, made["pack"])) == (403, "missing-scope")
    assert said(await _complete(world, world.cook, {"id": new_id()})) == hidden
    assert said(await _complete(world, world.cook, made["pack"], {"surprise": 1})) == (422, "invalid-input")


async def test_lists_are_of_what_one_may_see(world: World) -> None:
    """`mine` is what is for you; status and delivery narrow it; pages show each once, the newest first."""
    await tasks_wanted(
        world, world.provider_id, template("a"), template("b"), template("c"), template("room", "receiver_member")
    )
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    made = await tasks_made(world, delivery, "a", "b", "c", "room")
    await _complete(world, world.cook, made["a"])

    def keys(found: list[dict[str, Any]]) -> set[str]:
        return {task["template_key"] for task in found}

    assert keys(await _listed(world, world.cook)) == {"a", "b", "c", "room"}
    assert keys(await _listed(world, world.cook, mine="true")) == {"a", "b", "c"}
    assert keys(await _listed(world, world.cook, mine="true", status="open")) == {"b", "c"}
    assert keys(await _listed(world, world.keeper, mine="true")) == {"room"}
    assert await _listed(world, world.stranger) == await _listed(world, volunteer) == []
    assert await _listed(world, world.cook, delivery_id=str(new_id())) == []
    assert keys(await _listed(world, world.partner, status="completed")) == {"a"}
    seen: list[str] = []
    url: str | None = "/v1/tasks?limit=1"
    while url:
        page = await world.client.get(url, headers=world.cook.headers)
        seen += [task["id"] for task in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    assert sorted(seen) == sorted(task["id"] for task in made.values())
    for query in ("mine=1", "status=done", "delivery_id=x", "limit=0"):
        answer = await world.client.get(f"/v1/tasks?{query}", headers=world.cook.headers)
        assert said(answer) == (422, "invalid-input"), query


async def test_a_hundred_hands_do_it_once(world: World) -> None:
    """One completes it, everybody else finds it done; the next one is made once."""
    await tasks_wanted(world, world.provider_id, template("pack", next="label"), template("label"))
    delivery = await world.claimed(await world.volunteer())
    pack = (await tasks_made(world, delivery, "pack"))["pack"]

    answers = await asyncio.gather(*(_complete(world, world.cook, pack) for _ in range(100)))

    assert sorted(said(answer) for answer in answers) == [(200, "")] + [(409, "invalid-transition")] * 99
    assert set(await _of(world, delivery)) == {"pack", "label"}
    assert len(world.tap.of(events.TaskCompleted, UUID(pack["id"]))) == 1


# -- over --------------------------------------------------------------------------------------------------------------


async def test_a_task_whose_time_passes_expires(world: World) -> None:
    """The timer that came early is set again; the due one ends it, for good, and makes no next one."""
    await tasks_wanted(world, world.provider_id, template("pack", next="label"), template("label"))
    delivery = await world.claimed(await world.volunteer())
    pack = (await tasks_made(world, delivery, "pack"))["pack"]
    task_id, due_at = UUID(pack["id"]), datetime.fromisoformat(pack["due_at"])
    timer = "SELECT due_at FROM timers WHERE dedupe_key = $1"
    reading = world.database.reading()

    await world.database.pool.execute("UPDATE timers SET due_at = now() WHERE dedupe_key = $1", f"task-due:{task_id}")
    await eventually(lambda: _is(reading.fetchval(timer, f"task-due:{task_id}"), due_at))
    assert (await _of(world, delivery))["pack"]["status"] == "open"
    async with world.database.transaction() as tx:
        await tasks.expire(tx, task_id, now=due_at)
    async with world.database.transaction() as tx:
        await tasks.expire(tx, task_id, now=due_at + timedelta(days=1))

    fact = await world.tap.saw(events.TaskExpired, task_id)
    assert isinstance(fact.event, events.TaskExpired)
    assert (fact.event.title, fact.event.assigned_organization_ids) == ("Do pack", [world.provider_id])
    assert len(world.tap.of(events.TaskExpired, task_id)) == 1
    assert said(await _complete(world, world.cook, pack)) == (409, "invalid-transition")
    assert {key: task["status"] for key, task in (await _of(world, delivery)).items()} == {"pack": "expired"}
    assert await reading.fetchval(timer, f"task-due:{task_id}") is None


async def test_a_due_task_expires_by_itself(world: World) -> None:
    """End to end: the timer of the live process ends it at its due time."""
    await tasks_wanted(world, world.provider_id, template("pack"))
    delivery = await world.claimed(await world.volunteer())
    task_id = UUID((await tasks_made(world, delivery, "pack"))["pack"]["id"])
    past = "jsonb_set(state, '{due_at}', to_jsonb(now() - interval '1 second'))"
    await world.database.pool.execute(f"UPDATE tasks SET state = {past} WHERE id = $1", task_id)

    await world.database.pool.execute("UPDATE timers SET due_at = now() WHERE dedupe_key = $1", f"task-due:{task_id}")

    await world.tap.saw(events.TaskExpired, task_id)

    assert {task["status"] for task in (await _of(world, delivery)).values()} == {"expired"}


async def test_tasks_end_with_their_stage(world: World) -> None:
    """Leaving a stage closes what is open of it and keeps what is done; a stage that is entered again has tasks anew."""
    await tasks_wanted(
        world,
        world.provider_id,
        template("find", "coordinator", stage="open"),
        template("pack"),
        template("bag", "volunteer"),
        template("call", stage="in_transit"),
    )
    volunteer = await world.volunteer()
    delivery = await world.opened()
    await tasks_made(world, delivery, "find")
    await world.done(volunteer, delivery, "claim")
    made = await tasks_made(world, delivery, "pack", "bag")
    await _complete(world, world.cook, made["pack"])
    await _are(world, delivery, find="closed", pack="completed", bag="open")

    await world.done(volunteer, delivery, "release", {"reason": "x"})
    await eventually(lambda: _counts(world, delivery, {"closed": 2, "completed": 1, "open": 1}))
    other = await world.volunteer()
    await world.done(other, delivery, "claim")
    await eventually(lambda: _counts(world, delivery, {"closed": 3, "completed": 1, "open": 2}))

    everything = await _listed(world, world.coordinator, delivery_id=delivery["id"])
    bags = [task for task in everything if task["template_key"] == "bag"]
    assert [(bag["status"], bag["volunteer_id"]) for bag in bags] == [
        ("open", str(other.id)),
        ("closed", str(volunteer.id)),
    ]
    assert {task["closed_reason"] for task in everything if task["status"] == "closed"} == {"stage-left"}
    await world.done(world.cook, delivery, "cancel", {"reason": "x"})
    await eventually(lambda: _counts(world, delivery, {"closed": 5, "completed": 1}))
    await world.tap.saw(events.TaskClosed, UUID(bags[0]["id"]))
    assert (await _listed(world, other, mine="true"))[0]["closed_reason"] == "delivery-ended"
    timers = "SELECT count(*) FROM timers WHERE dedupe_key = ANY($1)"
    left = await world.database.reading().fetchval(timers, [f"task-due:{task['id']}" for task in everything])
    assert left == 0
    row = await ended(world, "tasks", delivery, "cancelled")
    assert row["status"] == "done"


async def test_refused_again_is_no_new_stage(world: World) -> None:
    """A recall that finds the goods refused already makes no second set of tasks."""
    await tasks_wanted(world, world.provider_id, template("decide", stage="rerouting"))
    batch = await world.batch()
    delivery = await world.refused(await world.volunteer(), batch)
    await tasks_made(world, delivery, "decide")

    await world.tell(batch, batches.BatchRecalled, status="recalled", severity="high", reason="mould")
    await begun(world, "reroute", delivery, run=7)

    assert len(await _listed(world, world.coordinator, delivery_id=delivery["id"])) == 1


async def test_a_task_done_when_the_stage_is_left_makes_no_next(world: World) -> None:
    """Done after the goods are gone: it counts, and nothing is begun that nobody needs."""
    await tasks_wanted(world, world.provider_id, template("pack", next="label"), template("label"))
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    pack = (await tasks_made(world, delivery, "pack"))["pack"]
    async with world.database.transaction() as tx:  # the delivery has left, and its tasks have not heard of it yet
        stay = await tasks.KIND.running(tx, UUID(delivery["id"]))
        assert stay is not None
        stay.end("in_transit")
        tasks.KIND.save(tx, stay, now=datetime.now(UTC))

    done = await _complete(world, world.cook, pack)

    assert done.json()["status"] == "completed"
    assert set(await _of(world, delivery)) == {"pack"}


# -- once --------------------------------------------------------------------------------------------------------------


async def test_a_stage_heard_of_again_makes_nothing_twice(world: World, following: Following) -> None:
    """The claim told five times more, under its own id and others, leaves the same tasks, open or done as they were."""
    await tasks_wanted(world, world.provider_id, template("pack"), template("label"))
    delivery = await world.claimed(await world.volunteer())
    made = await tasks_made(world, delivery, "pack", "label")
    await _complete(world, world.cook, made["pack"])
    claimed = await world.tap.saw(events.DeliveryClaimed, UUID(delivery["id"]))
    version = claimed.envelope.aggregateversion

    for event_id in (claimed.envelope.id, *(new_id() for _ in range(4))):
        await world.bus.publish(claimed.event, subject=UUID(delivery["id"]), version=version, event_id=event_id)
    async with world.database.transaction() as tx:
        await usecases.entered(
            tx,
            following,
            delivery_id=UUID(delivery["id"]),
            stage=Status.CLAIMED,
            version=version,
            now=datetime.now(UTC),
        )

    await _are(world, delivery, pack="completed", label="open")


async def test_the_database_itself_keeps_it_to_one_task(world: World) -> None:
    """Were the id another, the constraint would refuse a second task of one template in one stage."""
    await tasks_wanted(world, world.provider_id, template("pack"))
    delivery = await world.claimed(await world.volunteer())
    pack = (await tasks_made(world, delivery, "pack"))["pack"]

    with pytest.raises(asyncpg.UniqueViolationError):
        await world.database.pool.execute(
            "INSERT INTO tasks SELECT $2, version, state, status, delivery_id, entry, organization_id, template_key, role,"
            " party_ids, assigned_ids, volunteer_id, created_at, due_at FROM tasks WHERE id = $1",
            UUID(pack["id"]),
            new_id(),
        )


async def test_a_crash_between_claim_and_tasks_loses_none(world: World, live: LiveService) -> None:
    """Killed as soon as the claim is answered: after the start its tasks are there, once."""
    await tasks_wanted(world, world.provider_id, template("pack"), template("label"))
    delivery = await world.claimed(await world.volunteer())

    live.kill()
    await live.start_soon()
    await eventually(lambda: _counts(world, delivery, {"open": 2}), timeout_s=AFTER_KILL_S)

    assert set(await _of(world, delivery)) == {"pack", "label"}


async def test_the_whole_path_leaves_no_task_open(world: World) -> None:
    """Delivered: everything made on the way is done or closed."""
    stages = ("planned", "open", "claimed", "in_transit")
    await tasks_wanted(
        world, world.provider_id, *(template(f"at-{stage.replace('_', '-')}", stage=stage) for stage in stages)
    )
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    await tasks_made(world, delivery, "at-in-transit")
    code = await world.code(world.keeper, delivery, "dropoff")
    await world.done(volunteer, delivery, "dropoff", {"code": code, "lines": dropped(delivery)})

    await ended(world, "tasks", delivery, "delivered")

    assert {task["status"] for task in (await _of(world, delivery)).values()} == {"closed"}


async def _counts(world: World, delivery: dict[str, Any], expected: dict[str, int]) -> bool:
    found = [task["status"] for task in await _listed(world, world.coordinator, delivery_id=delivery["id"])]
    return {status: found.count(status) for status in set(found)} == expected


async def _is(value: Any, expected: Any) -> bool:
    return bool(await value == expected)
