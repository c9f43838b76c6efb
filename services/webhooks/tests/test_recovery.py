"""Recover: what was missed goes out again, however much it is, through crashes, and no further than asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import LiveService, eventually
from webhooks.repository.recoveries import id_at

from services.webhooks.tests.builders import Endpoint, Owner, Tenant
from services.webhooks.tests.receiver import Receiver, reply

Register = Callable[..., Awaitable[Endpoint]]
SLOTS = 10  # of one endpoint
READY = "vouajudar.batches.batch.ready.v1"

_EVENTS = """INSERT INTO webhook_events (id, type, subject, body, correlation_id)
SELECT e, $2, gen_random_uuid(), '{}', 'test' FROM unnest($1::uuid[]) e"""
_MESSAGES = """INSERT INTO webhook_messages
    (id, event_id, endpoint_id, organization_id, event_type, subject, status, attempts, due_at, last_status, created_at,
     delivered_at)
SELECT m, e, $3, $4, $5, gen_random_uuid(), $6::text, 4, now() + interval '1 hour', 503, $7::timestamptz,
    CASE WHEN $6::text = 'delivered' THEN $7::timestamptz END
FROM unnest($1::uuid[], $2::uuid[]) AS x(m, e)"""

_GATE = "INSERT INTO webhook_gates (endpoint_id) VALUES ($1) ON CONFLICT DO NOTHING"


@pytest.fixture
def missed(database: Database) -> Callable[..., Awaitable[set[str]]]:
    """Writes messages as they would stand after a long outage; gives the ids of their events."""

    async def write(
        endpoint: Endpoint, count: int, *, status: str = "exhausted", ago: timedelta = timedelta()
    ) -> set[str]:
        at = datetime.now(UTC) - ago
        events = [new_id() for _ in range(count)]
        messages = [UUID(int=id_at(at).int + n) for n in range(count)]
        owned = (UUID(endpoint["id"]), UUID(endpoint["organization_id"]))
        await database.pool.execute(_EVENTS, events, READY)
        await database.pool.execute(_GATE, owned[0])
        await database.pool.execute(_MESSAGES, messages, events, *owned, READY, status, at)
        return set(map(str, events))

    return write


async def recover(owner: Owner, endpoint: Endpoint, ago: timedelta, **body: Any) -> dict[str, Any]:
    """Start one; the job."""
    since = (datetime.now(UTC) - ago).isoformat()
    job: dict[str, Any] = await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/recover", 202, since=since, **body)
    return job


def heard(receiver: Receiver) -> list[str]:
    return [request.headers["webhook-id"] for request in receiver.requests]


async def test_what_was_missed_since_then_goes_out_again(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any
) -> None:
    """What is exhausted or waits for a retry in the span, once each; not what was delivered, held back or earlier."""
    endpoint = await endpoint_at(receiver.url)
    hours = [timedelta(hours=n) for n in range(6)]
    await missed(endpoint, 3, ago=hours[5])
    wanted = await missed(endpoint, 20, ago=hours[3])
    wanted |= await missed(endpoint, 4, status="retrying", ago=hours[2])
    await missed(endpoint, 7, status="delivered", ago=hours[2])
    await missed(endpoint, 2, status="cancelled", ago=hours[2])
    await missed(endpoint, 5, ago=hours[1])
    until = (datetime.now(UTC) - timedelta(minutes=90)).isoformat()

    job = await recover(owner, endpoint, hours[4], until=until)
    ended = await owner.ended(job["id"])

    assert (job["kind"], job["status"], job["done"]) == ("webhooks.recover", "running", 0)
    assert (ended["done"], ended["total"], ended["error"]) == (24, 24, None)
    await receiver.received(24)
    await eventually_settled(owner, endpoint)
    assert sorted(heard(receiver)) == sorted(wanted)


async def eventually_settled(owner: Owner, endpoint: Endpoint) -> None:
    async def check() -> None:
        assert not await owner.messages(endpoint_id=endpoint["id"], status=["pending", "delivering"])

    await eventually(check)


async def test_everything_goes_out_again_when_asked(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any
) -> None:
    """`include: all` sends what was delivered too."""
    endpoint = await endpoint_at(receiver.url)
    wanted = await missed(endpoint, 5, ago=timedelta(days=29))
    wanted |= await missed(endpoint, 6, status="delivered", ago=timedelta(days=1))

    job = await recover(owner, endpoint, timedelta(days=30), include="all")

    assert (await owner.ended(job["id"]))["done"] == 11
    await receiver.received(11)
    await eventually_settled(owner, endpoint)
    assert sorted(heard(receiver)) == sorted(wanted)


async def test_what_is_recovered_begins_its_schedule_anew(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any
) -> None:
    """A message whose attempts were used up is retried again when its recovery fails; its attempts are counted on."""
    endpoint = await endpoint_at(receiver.url)
    await missed(endpoint, 1, ago=timedelta(hours=1))
    receiver.script(reply(500), reply(503))

    job = await recover(owner, endpoint, timedelta(hours=2))
    await owner.ended(job["id"])

    (message,) = await owner.settled(endpoint, "delivered")
    assert (message["attempts"], len(receiver.requests)) == (7, 3)


async def test_a_recovery_that_was_killed_goes_on(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any, live: LiveService
) -> None:
    """kill -9 in the middle: after the restart the job goes on where it was; nothing is left out, doubles were in flight."""
    endpoint = await endpoint_at(receiver.url, timeout_s=1)
    receiver.default = reply(204)
    wanted = await missed(endpoint, 900, ago=timedelta(hours=1))
    job = await recover(owner, endpoint, timedelta(hours=2))
    seen = await half_done(owner, job)

    live.kill()
    at_kill = len(receiver.requests)
    await live.start_soon()
    ended = await owner.ended(job["id"], timeout_s=60)
    await eventually_settled(owner, endpoint)

    assert 0 < seen["done"] < seen["total"] == 900
    assert at_kill < 900
    assert (ended["done"], ended["total"]) == (900, 900)
    assert set(heard(receiver)) == wanted
    assert len(heard(receiver)) - len(wanted) <= SLOTS


async def half_done(owner: Owner, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has begun to send."""

    async def check() -> dict[str, Any]:
        found: dict[str, Any] = await owner.get(f"/v1/jobs/{job['id']}")
        assert found["status"] == "running"
        assert found["done"] > 0
        return found

    found: dict[str, Any] = await eventually(check)
    return found


async def test_a_cancelled_recovery_sends_nothing_more(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """What is due already goes out, the rest stays as it was; a job that ended cannot be cancelled."""
    endpoint = await endpoint_at(receiver.url)
    receiver.default = reply(204, delay_s=0.02)
    await missed(endpoint, 900, ago=timedelta(hours=1))
    job = await recover(owner, endpoint, timedelta(hours=2))
    await half_done(owner, job)

    cancelled = await owner.post(f"/v1/jobs/{job['id']}/cancel")
    again = await client.post(f"/v1/jobs/{job['id']}/cancel", headers=tenant.partner.headers)
    await eventually_settled(owner, endpoint)

    assert cancelled["status"] == "cancelled"
    assert 0 < cancelled["done"] < 900
    assert (again.status_code, again.json()["code"]) == (409, "invalid-transition")
    assert len(set(heard(receiver))) == cancelled["done"]
    assert len(await owner.messages(endpoint_id=endpoint["id"], status="exhausted", limit=200)) == 200


async def test_new_events_do_not_queue_behind_a_whole_recovery(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any
) -> None:
    """A recovery has no more than a bounded number of messages due at once, so that an event of now comes between."""
    endpoint = await endpoint_at(receiver.url)
    receiver.default = reply(204, delay_s=0.02)
    await missed(endpoint, 1_500, ago=timedelta(hours=1))
    job = await recover(owner, endpoint, timedelta(hours=2))
    await half_done(owner, job)

    fresh = (await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202))["event_id"]

    async def has_come() -> None:
        assert fresh in heard(receiver)

    await eventually(has_come)
    assert (await owner.get(f"/v1/jobs/{job['id']}"))["status"] == "running"
    await owner.post(f"/v1/jobs/{job['id']}/cancel")


async def test_a_paused_endpoint_keeps_its_recovery_waiting(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any, database: Database, client: httpx.AsyncClient,
    tenant: Tenant,
) -> None:  # fmt: skip
    """It goes on when the endpoint is enabled; deleting the endpoint ends it; a paused one cannot be recovered."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    receiver.default = reply(204, delay_s=0.02)
    await missed(endpoint, 900, ago=timedelta(hours=1))
    job = await recover(owner, endpoint, timedelta(hours=2))
    await half_done(owner, job)
    since = datetime.now(UTC).isoformat()

    running = await client.post(
        f"{path}/recover", json={"since": endpoint["created_at"]}, headers=tenant.partner.headers
    )
    await owner.post(f"{path}/pause")
    paused = await client.post(f"{path}/recover", json={"since": since}, headers=tenant.partner.headers)
    waiting = await owner.get(f"/v1/jobs/{job['id']}")
    await client.delete(path, headers=tenant.partner.headers)
    ended = await owner.ended(job["id"], "cancelled")

    assert (running.status_code, running.json()["code"]) == (409, "recovery-running")
    assert (paused.status_code, paused.json()["code"]) == (409, "invalid-transition")
    assert waiting["status"] == "running"
    assert ended["error"] == "the endpoint was deleted"
    assert len(receiver.requests) < 900


async def test_a_span_has_bounds(
    receiver: Receiver, endpoint_at: Register, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Thirty days and no more, not upside down, nothing unknown, with an offset."""
    endpoint = await endpoint_at(receiver.url)
    now = datetime.now(UTC)

    async def refused(**body: Any) -> tuple[int, str]:
        path = f"/v1/webhook-endpoints/{endpoint['id']}/recover"
        answer = await client.post(path, json=body, headers=tenant.partner.headers)
        return answer.status_code, answer.json()["code"]

    early, later = (now - timedelta(days=31)).isoformat(), (now + timedelta(hours=1)).isoformat()
    assert await refused(since=early) == (422, "invalid-span")
    assert await refused(since=later) == (422, "invalid-span")
    assert await refused(since=now.isoformat(), until=now.isoformat()) == (422, "invalid-span")
    assert await refused() == (422, "invalid-input")
    assert await refused(since=now.isoformat(), include="some") == (422, "invalid-input")
    assert await refused(since=now.isoformat(), everything=True) == (422, "invalid-input")
    assert await refused(since="2026-01-01T00:00:00") == (422, "invalid-input")


async def test_one_recovery_of_an_endpoint_at_a_time_however_many_ask(
    receiver: Receiver, endpoint_at: Register, owner: Owner, missed: Any, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Of many requests at once one starts a job."""
    endpoint = await endpoint_at(receiver.url)
    receiver.default = reply(204, delay_s=0.02)
    await missed(endpoint, 900, ago=timedelta(hours=1))
    body = {"since": (datetime.now(UTC) - timedelta(hours=2)).isoformat()}
    path = f"/v1/webhook-endpoints/{endpoint['id']}/recover"

    answers = await asyncio.gather(*(client.post(path, json=body, headers=tenant.partner.headers) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409, 409]
    (started,) = [answer.json() for answer in answers if answer.status_code == 202]
    await owner.post(f"/v1/jobs/{started['id']}/cancel")
