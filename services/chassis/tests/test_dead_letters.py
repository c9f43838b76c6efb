"""A dead letter is looked at, planned, and comes back to its own queue once; or is discarded with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from chassis.app import Runtime, Service, create_api
from chassis.broker import Incoming, Publisher, Subscriber
from chassis.consumer import Consumer, ConsumerRunner
from chassis.database import Database, Transaction
from chassis.ingester import Ingester
from chassis.kernel import new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import Announcement, OutboxTables, Relay, envelope_bytes
from chassis.redrive import Redriver, advance
from chassis.roles import Role
from chassis.telemetry import in_context, start_context
from chassis.testing import Bus, Callers, Tap, eventually
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received
from prometheus_client import REGISTRY

from services.chassis.tests.probe import running

OPS = "/v1/ops/webhooks"
LETTERS = f"{OPS}/dead-letters"


class Rig:
    """A consumer whose handler has a defect for some subjects, until it is mended; and what brings letters back."""

    def __init__(self, service: Service, database: Database, publisher: Publisher, broker_url: str) -> None:
        self.poisoned: set[UUID] = set()
        self.database = database
        self._count = service.consumers[0].handlers[EndpointTest]
        self._publisher = publisher
        self._broker_url = broker_url
        self.runner = ConsumerRunner(
            "webhooks", Consumer("probe", {EndpointTest: self._handle}), SqlMessageStore(database), publisher
        )

    async def _handle(self, tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await self._count(tx, received)
        if event.endpoint_id in self.poisoned:
            raise ValueError("cannot be handled")

    def mend(self) -> None:
        """The next release of the handler."""
        self.poisoned.clear()

    async def fail(self, count: int) -> list[UUID]:
        """That many dead letters, made by the consumer; returns their subjects."""
        subjects = [new_id() for _ in range(count)]
        self.poisoned |= set(subjects)
        await self.runner.handle([message_about(subject) for subject in subjects])
        return subjects

    def consuming(self) -> AbstractAsyncContextManager[None]:
        """The relay and the consumer at work, without the redriver."""
        subscriber = Subscriber(self._broker_url, name="probe", subscriptions=[self.runner.subscription])
        relay = Relay(OutboxTables(self.database), self._publisher, owner=new_id())
        return running(Role("relay", relay.run), Role("consumers", subscriber.run))

    def redriving(self) -> AbstractAsyncContextManager[None]:
        """The redriver at work."""
        return running(Role("redrive", Redriver(self.database, consumers=["probe"]).run))

    async def times(self, subjects: Sequence[UUID]) -> list[int]:
        """How often each had its effect."""
        query = """SELECT coalesce(e.times, 0) AS times FROM unnest($1::uuid[]) WITH ORDINALITY AS x(s, n)
            LEFT JOIN effects e ON e.subject = x.s ORDER BY n"""
        return [row["times"] for row in await self.database.reading().fetch(query, list(subjects))]

    async def statuses(self) -> list[str]:
        """The status of every dead letter."""
        rows = await self.database.reading().fetch("SELECT status FROM dead_letters ORDER BY status, id")
        return [row["status"] for row in rows]

    async def until(self, *statuses: str) -> None:
        """Wait until the dead letters have exactly these."""

        async def check() -> None:
            assert await self.statuses() == sorted(statuses)

        await eventually(check, timeout_s=20)

    async def outbox(self) -> int:
        """How many messages wait to be sent."""
        count: int = await self.database.reading().fetchval("SELECT count(*) FROM outbox")
        return count


def message_about(subject: UUID) -> Incoming:
    """One event as it comes from the broker."""
    event_id = new_id()
    with in_context(start_context()):
        body = envelope_bytes(Announcement(EndpointTest(endpoint_id=subject)), subject, event_id, 1, datetime.now(UTC))
    return Incoming(1, str(event_id), "endpoint.test.v1", body, {})


@pytest_asyncio.fixture(loop_scope="session")
async def rig(
    service: Service, effects: Database, publisher: Publisher, declared: None, broker_url: str
) -> AsyncIterator[Rig]:
    await effects.pool.execute("TRUNCATE dead_letters, outbox")
    yield Rig(service, effects, publisher, broker_url)
    await effects.pool.execute("TRUNCATE dead_letters, operator_jobs, operator_acts, outbox")


@pytest_asyncio.fixture(loop_scope="session")
async def api(service: Service, callers: Callers) -> AsyncIterator[httpx.AsyncClient]:
    """What an admin uses."""
    runtime = Runtime(service)
    await runtime.database.open()
    admin = await callers.person(platform_role="admin")
    transport = httpx.ASGITransport(create_api(runtime), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe", headers=admin.headers) as client:
        yield client
    await runtime.database.close()


async def redrive(api: httpx.AsyncClient, count: int, **wanted: Any) -> httpx.Response:
    """Confirm a redrive of everything open, unless narrowed."""
    body = {"expected_count": count, "reason": "the handler is mended", **wanted}
    return await api.post(f"{LETTERS}/redrive", json=body)


async def job_of(api: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    """The job as it is now."""
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = (await api.get(answer.headers["location"])).json()
    return found


async def test_poison_comes_back_once_after_the_handler_is_mended(rig: Rig, api: httpx.AsyncClient, bus: Bus) -> None:
    """One of a hundred becomes a dead letter with its stack; planned and redriven, it has its effect exactly once."""
    subjects = [new_id() for _ in range(100)]
    rig.poisoned = {subjects[50]}
    expected = [0 if subject in rig.poisoned else 1 for subject in subjects]

    async with rig.consuming(), rig.redriving():
        for subject in subjects:
            await bus.publish(EndpointTest(endpoint_id=subject), subject=subject)
        await rig.until("open")

        async def neighbours() -> None:
            assert await rig.times(subjects) == expected

        await eventually(neighbours)
        (group,) = (await api.get(f"{LETTERS}/groups")).json()["items"]
        (item,) = (await api.get(LETTERS, params={"fingerprint": group["fingerprint"]})).json()["items"]
        letter = (await api.get(f"{LETTERS}/{item['id']}")).json()
        plan = (await api.post(f"{LETTERS}/plan", json={"fingerprint": group["fingerprint"]})).json()
        rig.mend()
        started = await redrive(api, plan["count"], **plan["filter"])
        await rig.until("resolved")

    assert (group["count"], group["error_type"], group["sample_message"]) == (1, "ValueError", "cannot be handled")
    assert "ValueError: cannot be handled" in letter["stack"]
    assert str(subjects[50]) in letter["body"]
    assert (plan["count"], plan["not_redrivable"]) == (1, 0)
    assert await rig.times(subjects) == [1] * 100
    job = await job_of(api, started)
    assert (job["kind"], job["status"], job["done"], job["total"]) == ("dead-letters.redrive", "done", 1, 1)
    letter = (await api.get(f"{LETTERS}/{item['id']}")).json()
    assert (letter["status"], letter["redrives"], letter["note"]) == ("resolved", 1, "the handler is mended")


async def test_a_redrive_reaches_the_original_queue_alone(
    rig: Rig, api: httpx.AsyncClient, bus: Bus, broker_url: str
) -> None:
    """Others that are bound to the same event hear it once, when it happened, and never again."""
    subject = new_id()
    rig.poisoned = {subject}

    async with Tap(broker_url, "webhooks") as one, Tap(broker_url, "webhooks") as other:
        async with rig.consuming(), rig.redriving():
            await bus.publish(EndpointTest(endpoint_id=subject), subject=subject)
            await rig.until("open")
            rig.mend()
            await redrive(api, 1)
            await rig.until("resolved")
            marker = new_id()
            await bus.publish(EndpointTest(endpoint_id=marker), subject=marker)
            await one.saw(EndpointTest, marker)
            await other.saw(EndpointTest, marker)

        heard = [len(tap.of(EndpointTest, subject)) for tap in (one, other)]

    assert heard == [1, 1]
    assert await rig.times([subject]) == [1]


async def test_what_fails_again_is_the_same_dead_letter(rig: Rig, api: httpx.AsyncClient) -> None:
    """Redriven too early it is open again, counted, and not a second row; its message id stays the same."""
    (subject,) = await rig.fail(1)
    before = (await api.get(LETTERS)).json()["items"][0]

    async with rig.consuming(), rig.redriving():
        await redrive(api, 1)

        async def open_again() -> None:
            (found,) = (await api.get(LETTERS)).json()["items"]
            assert (found["status"], found["redrives"]) == ("open", 1)

        await eventually(open_again)
        after = (await api.get(LETTERS)).json()["items"][0]
        rig.mend()
        await redrive(api, 1)
        await rig.until("resolved")

    assert (after["id"], after["message_id"]) == (before["id"], before["message_id"])
    assert await rig.times([subject]) == [1]


async def test_two_redrives_at_once_send_once(rig: Rig, api: httpx.AsyncClient) -> None:
    """The one that claims the letters gets a job; the other finds another count than it planned."""
    await rig.fail(20)

    answers = await asyncio.gather(*(redrive(api, 20) for _ in range(2)))
    while await Redriver(rig.database, consumers=[]).send_batch():
        pass

    assert sorted(answer.status_code for answer in answers) == [202, 409]
    assert await rig.outbox() == 12, "a batch of fifty a second is 12, and only one job sends it"


async def test_the_same_key_starts_one_job(rig: Rig, api: httpx.AsyncClient) -> None:
    """A confirmed redrive sent again with its idempotency key answers with the same job."""
    await rig.fail(2)
    keyed = {"Idempotency-Key": str(new_id())}
    body = {"expected_count": 2, "reason": "mended"}

    answers = [await api.post(f"{LETTERS}/redrive", json=body, headers=keyed) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()


async def test_cancel_stops_what_is_not_sent(rig: Rig, api: httpx.AsyncClient) -> None:
    """A job sends no faster than asked; cancelled, the rest is open again and nothing more is sent."""
    await rig.fail(3)
    started = await redrive(api, 3, rate_per_s=1)
    redriver = Redriver(rig.database, consumers=[])

    sent = [await redriver.send_batch(), await redriver.send_batch()]
    cancelled = await api.post(f"{started.headers['location']}/cancel")
    again = await api.post(f"{started.headers['location']}/cancel")

    assert sent == [True, False]
    job = cancelled.json()
    assert (job["status"], job["done"], job["total"]) == ("cancelled", 1, 3)
    assert (again.status_code, again.json()["code"]) == (409, "invalid-transition")
    assert await rig.statuses() == ["open", "open", "redriving"]
    assert await redriver.send_batch() is False
    assert await rig.outbox() == 1


async def test_a_job_survives_the_process_that_runs_it(rig: Rig, api: httpx.AsyncClient) -> None:
    """Stopped in the middle again and again, the job goes on where it was, and every message has its effect once."""
    subjects = await rig.fail(40)
    rig.mend()

    async with rig.consuming():
        started = await redrive(api, 40, rate_per_s=16)
        for least in (1, 13):
            async with rig.redriving():

                async def under_way(least: int = least) -> None:
                    assert (await job_of(api, started))["done"] >= least

                await eventually(under_way)
        interrupted = await job_of(api, started)
        async with rig.redriving():
            await rig.until(*["resolved"] * 40)

    assert (interrupted["status"], interrupted["done"] < 40) == ("running", True)
    job = await job_of(api, started)
    assert (job["status"], job["done"]) == ("done", 40)
    assert await rig.times(subjects) == [1] * 40


async def test_a_batch_that_breaks_off_leaves_nothing_behind(rig: Rig, api: httpx.AsyncClient) -> None:
    """A process that dies before the commit has neither sent nor marked anything; the next one does both."""
    await rig.fail(2)
    await redrive(api, 2)
    with pytest.raises(ZeroDivisionError):
        await _die_before_the_commit(rig.database)

    left = await rig.outbox()
    await Redriver(rig.database, consumers=[]).send_batch()

    assert (left, await rig.outbox()) == (0, 2)


async def _die_before_the_commit(database: Database) -> None:
    async with database.transaction() as tx:
        job_id = await tx.fetchval("SELECT id FROM operator_jobs")
        await advance(tx, job_id, 50)
        await tx.flush()
        raise ZeroDivisionError


async def test_discard_closes_with_a_reason_and_is_on_record(rig: Rig, api: httpx.AsyncClient) -> None:
    """Who, what, how many, why and in which request; a discarded letter that fails once more stays discarded."""
    subject = new_id()
    rig.poisoned, message = {subject}, message_about(subject)
    await rig.runner.handle([message])
    body = {"consumer": "probe", "expected_count": 1, "reason": "a test event of last year"}

    unexplained = await api.post(f"{LETTERS}/discard", json={"expected_count": 1})
    answer = await api.post(f"{LETTERS}/discard", json=body, headers={"X-Request-Id": "discard-1"})
    await rig.runner.handle([message])

    assert unexplained.status_code == 422
    assert answer.json() == {"count": 1}
    (shown,) = (await api.get(LETTERS, params={"status": "discarded"})).json()["items"]
    act = await rig.database.reading().fetchrow("SELECT * FROM operator_acts")
    assert act is not None
    assert (act["what"], act["count"], act["reason"]) == ("dead-letters.discard", 1, "a test event of last year")
    assert (act["filter"], act["request_id"], str(act["actor_id"])) == (
        {"consumer": "probe"},
        "discard-1",
        shown["actor"],
    )


async def test_every_act_is_on_record(rig: Rig, api: httpx.AsyncClient) -> None:
    """A redrive and its cancellation leave a row each; a refused act and a plan leave none."""
    await rig.fail(2)

    await api.post(f"{LETTERS}/plan", json={})
    await redrive(api, 3)
    started = await redrive(api, 2)
    await api.post(f"{started.headers['location']}/cancel")

    rows = await rig.database.reading().fetch("SELECT what, count, job_id FROM operator_acts ORDER BY id")
    job_id = UUID(started.json()["id"])
    assert [tuple(row) for row in rows] == [
        ("dead-letters.redrive", 2, job_id),
        ("dead-letters.redrive.cancel", 2, job_id),
    ]


@pytest.mark.parametrize("act", ["redrive", "discard"])
async def test_another_count_than_planned_changes_nothing(rig: Rig, api: httpx.AsyncClient, act: str) -> None:
    """When letters came or went since the plan, the act is refused and says how many there are."""
    await rig.fail(2)

    answer = await api.post(f"{LETTERS}/{act}", json={"expected_count": 1, "reason": "planned earlier"})

    assert (answer.status_code, answer.json()["code"], answer.json()["count"]) == (409, "count-changed", 2)
    assert await rig.statuses() == ["open", "open"]


async def test_a_letter_without_a_way_back_is_not_redriven(rig: Rig, api: httpx.AsyncClient) -> None:
    """Its queue is gone, or its id is none of ours: the plan says so, redrive refuses, discard takes it."""
    nameless = Incoming(1, "", "endpoint.test.v1", b"junk", {})
    await rig.runner.handle([nameless, Incoming(2, "", "endpoint.test.v1", b"other junk", {})])

    plan = (await api.post(f"{LETTERS}/plan", json={})).json()
    refused = await redrive(api, 2)
    discarded = await api.post(f"{LETTERS}/discard", json={"expected_count": 2, "reason": "junk"})

    assert (plan["count"], plan["not_redrivable"]) == (2, 2)
    assert (refused.status_code, refused.json()["code"]) == (409, "not-redrivable")
    assert discarded.json() == {"count": 2}


async def test_what_the_broker_gives_up_reopens_the_same_letter(rig: Rig, api: httpx.AsyncClient) -> None:
    """Given up after a wait in the retry ladder, a redriven message is known by the queue it died in last."""
    subject = new_id()
    rig.poisoned, message = {subject}, message_about(subject)
    await rig.runner.handle([message])
    await redrive(api, 1)
    await Redriver(rig.database, consumers=[]).send_batch()
    deaths = [{"queue": "q.webhooks.probe", "reason": "delivery_limit"}, {"queue": "retry.webhooks.1s"}]
    headers = {"x-death": deaths, "x-first-death-queue": "retry.webhooks.1s"}
    given_up = Incoming(1, message.message_id, "dlq.webhooks", message.body, headers)

    await Ingester("webhooks", SqlMessageStore(rig.database)).handle([given_up, given_up])

    (found,) = (await api.get(LETTERS)).json()["items"]
    assert (found["status"], found["queue"], found["reason"]) == ("open", "q.webhooks.probe", "broker")
    assert found["error_message"] == "given up by the broker: delivery_limit"


async def test_lists_come_in_pages_and_are_narrowed(rig: Rig, api: httpx.AsyncClient) -> None:
    """Newest first, each once over the pages; a consumer without dead letters has none; an unknown one is 404."""
    await rig.fail(5)
    seen: list[str] = []
    url: str | None = f"{LETTERS}?limit=2&status=open&status=resolved&consumer=probe"

    while url is not None:
        page = await api.get(url)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None

    assert (len(seen), seen) == (5, sorted(set(seen), reverse=True))
    assert (await api.get(f"{LETTERS}?consumer=other")).json() == {"items": [], "next_cursor": None}
    assert (await api.get(f"{LETTERS}?status=nonsense")).status_code == 422
    missing = [await api.get(f"{LETTERS}/{new_id()}"), await api.get(f"{OPS}/jobs/{new_id()}")]
    assert [answer.json()["code"] for answer in missing] == ["dead-letter-not-found", "job-not-found"]


async def test_only_admins_operate(rig: Rig, api: httpx.AsyncClient, callers: Callers) -> None:
    """A coordinator, a manager and a partner are refused on every route, and nothing happens."""
    await rig.fail(1)
    organization_id = await callers.organization()
    others = [
        await callers.person(platform_role="coordinator"),
        await callers.person(member_of=organization_id),
        await callers.partner(organization_id),
    ]
    act = {"expected_count": 1, "reason": "curious"}
    routes = [("GET", LETTERS, None), ("GET", f"{LETTERS}/groups", None), ("GET", f"{LETTERS}/{new_id()}", None)]
    routes += [("GET", f"{OPS}/jobs/{new_id()}", None), ("POST", f"{OPS}/jobs/{new_id()}/cancel", None)]
    posts = [("POST", f"{LETTERS}/{name}", body) for name, body in {"plan": {}, "redrive": act, "discard": act}.items()]

    answers = [
        await api.request(method, url, json=body, headers=caller.headers | _without_admin(caller.headers))
        for method, url, body in [*routes, *posts]
        for caller in others
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "admin-only")}
    assert await rig.statuses() == ["open"]


def _without_admin(headers: dict[str, str]) -> dict[str, str]:
    """A partner's request carries no token; an empty one stands in for the admin's that the client would add."""
    return {} if "Authorization" in headers else {"Authorization": ""}


async def test_open_letters_are_counted_for_alerts(rig: Rig, api: httpx.AsyncClient) -> None:
    """The gauge follows the table, down to zero."""

    def gauge() -> float | None:
        return REGISTRY.get_sample_value("dead_letters_open", {"consumer": "probe"})

    await rig.fail(3)
    async with rig.redriving():
        await eventually(lambda: gauge() == 3)
    await api.post(f"{LETTERS}/discard", json={"expected_count": 3, "reason": "counted"})
    async with rig.redriving():
        await eventually(lambda: gauge() == 0)
