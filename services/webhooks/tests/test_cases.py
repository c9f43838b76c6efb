"""The cases that a delivery must stand, each by name, from a fact on the bus to a programmable receiver on a real socket.

What a single POST does with odd receivers is in `test_sender.py`; what the engine promises over processes in
`test_gates.py`; the way of an event in `test_delivery.py`.
"""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.kernel import new_id
from chassis.testing import Bus, LiveService, eventually
from chassis.testing.live import free_port
from contracts.events.batches import BatchReady

from contracts import catalogue
from services.webhooks.tests.builders import Owner, Tenant
from services.webhooks.tests.receiver import Answer, Receiver, drip, endless, raw, reply, reset, silence

Endpoint = dict[str, Any]
Register = Callable[..., Awaitable[Endpoint]]
Publish = Callable[..., Awaitable[UUID]]
ATTEMPTS = 4  # of the tests' schedule


# ---------------------------------------------------------------- retries


async def test_every_attempt_is_made_on_a_refused_connection(
    endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Nobody listens: as many attempts as on a 403 or a 500, each logged as `connect`; then the message is exhausted."""
    endpoint = await endpoint_at(f"http://127.0.0.1:{free_port()}/")

    await publish()
    (message,) = await owner.settled(endpoint, "exhausted")

    attempts = await owner.attempts(message["id"])
    assert [(attempt["status"], attempt["error"]) for attempt in attempts] == [(None, "connect")] * ATTEMPTS


async def test_an_empty_schedule_means_one_attempt(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """An endpoint that wants no retries gets none."""
    endpoint = await endpoint_at(receiver.url, retry_schedule_s=[])
    receiver.default = reply(500)

    await publish()
    (message,) = await owner.settled(endpoint, "exhausted")

    assert (message["attempts"], len(receiver.requests)) == (1, 1)


async def test_an_endpoint_has_a_schedule_of_its_own(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Its waits count instead of the service's, never early; null gives the service's back."""
    endpoint = await endpoint_at(receiver.url, retry_schedule_s=[1, 86_400])
    receiver.default = reply(500)

    await publish()
    (message,) = await owner.settled(endpoint, "retrying")
    await receiver.received(2)
    waits = await owner.until_waiting(message["id"], attempts=2)
    second, first = await owner.attempts(message["id"])
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    back = await client.patch(path, json={"retry_schedule_s": None}, headers=tenant.partner.headers)

    assert _moment(second["attempted_at"]) - _moment(first["attempted_at"]) >= timedelta(seconds=1)
    assert timedelta(hours=23.9) < waits < timedelta(hours=24) * 1.2
    assert (endpoint["retry_schedule_s"], back.json()["retry_schedule_s"]) == ([1, 86_400], None)


@pytest.mark.parametrize("schedule", [[0], [86_401], [1] * 21, [1.5], ["soon"]])
async def test_a_schedule_has_bounds(
    receiver: Receiver, client: httpx.AsyncClient, tenant: Tenant, schedule: list[Any]
) -> None:
    """At most twenty waits of a second to a day."""
    body = {"url": receiver.url, "retry_schedule_s": schedule}

    answer = await client.post("/v1/webhook-endpoints", json=body, headers=tenant.partner.headers)

    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("status", "hint", "low_s", "high_s"),
    [
        pytest.param(429, "40", 40, 48, id="seconds"),
        pytest.param(503, "@60", 57, 72, id="date"),
        pytest.param(503, "@-3600", 0, 1, id="past date"),
        pytest.param(429, "soon, I hope", 0, 1, id="garbage"),
        pytest.param(503, str(30 * 86_400), 86_400, 86_400 * 1.2, id="a month"),
        pytest.param(500, "40", 0, 1, id="not on a 500"),
    ],
)
async def test_retry_after(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, status: int, hint: str, low_s: float,
    high_s: float,
) -> None:  # fmt: skip
    """The longer of step and hint, in seconds or as a date, up to 24 h; what is past or unreadable changes nothing."""
    endpoint = await endpoint_at(receiver.url)
    if hint.startswith("@"):
        hint = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=int(hint[1:])), usegmt=True)
    receiver.default = reply(status, headers=[("Retry-After", hint)])

    await publish()
    if low_s:
        (message,) = await owner.settled(endpoint, "retrying")
        wait = await owner.until_waiting(message["id"], attempts=1)
        assert low_s - 5 <= wait.total_seconds() <= high_s
    else:
        (message,) = await owner.settled(endpoint, "exhausted")
        times = [_moment(attempt["attempted_at"]) for attempt in (await owner.attempts(message["id"]))[::-1]]
        assert len(times) == ATTEMPTS
        assert all((b - a).total_seconds() >= 0.3 for a, b in itertools.pairwise(times))


async def test_deleting_an_endpoint_cancels_waiting_retries(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """A retry that was due after the deletion is not made."""
    endpoint = await endpoint_at(receiver.url, retry_schedule_s=[1, 1])
    receiver.default = reply(500)
    await publish()
    await owner.settled(endpoint, "retrying")
    sent = len(receiver.requests)

    await client.delete(f"/v1/webhook-endpoints/{endpoint['id']}", headers=tenant.partner.headers)

    (message,) = await owner.settled(endpoint, "cancelled")
    assert (len(receiver.requests), message["attempts"]) == (sent, sent)


# ---------------------------------------------------------------- odd receivers

_BOMB = zlib.compress(b"\0" * 10_000_000, wbits=31)


@pytest.mark.parametrize(
    ("answer", "status", "error", "ends"),
    [
        pytest.param(drip(), 200, "timeout", "exhausted", id="drip body"),
        pytest.param(endless(), 200, None, "delivered", id="endless body"),
        pytest.param(
            reply(200, headers=[("Content-Encoding", "gzip")], body=_BOMB), 200, None, "delivered", id="gzip bomb"
        ),
        pytest.param(
            reset(after=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), 200, "closed", "exhausted", id="reset mid-body"
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 2\r\n\r\nok"), 200, None, "delivered",
            id="non-UTF-8 response headers",
        ),
        pytest.param(silence(), None, "timeout", "exhausted", id="no answer"),
    ],
)  # fmt: skip
async def test_odd_answers_end_in_the_log(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, answer: Answer, status: int | None,
    error: str | None, ends: str,
) -> None:  # fmt: skip
    """Whatever comes is read within bounds, stored and shown; only a complete 2xx or 64 KiB of one is an acceptance."""
    endpoint = await endpoint_at(receiver.url, timeout_s=1, retry_schedule_s=[])
    receiver.default = answer

    await publish()
    (message,) = await owner.settled(endpoint, ends)

    (attempt,) = await owner.attempts(message["id"])
    assert (attempt["status"], attempt["error"]) == (status, error)
    assert len(attempt["response_body"].encode()) <= 16 * 1024 * 3  # what is not UTF-8 is shown by a character of three
    assert attempt["duration_ms"] < 2_500


async def test_a_stale_keep_alive_connection_costs_no_attempt(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """A receiver that closed an idle connection just as we wrote to it is asked again at once, on a new one."""
    endpoint = await endpoint_at(receiver.url)
    await publish()
    await owner.settled(endpoint, "delivered")
    receiver.script(reset(), reply(204))

    await publish()

    first, second = await owner.settled(endpoint, "delivered", "delivered")
    assert (first["attempts"], second["attempts"]) == (1, 1)


async def test_an_event_that_is_too_large_is_visible_and_not_sent(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, bus: Bus, tenant: Tenant
) -> None:
    """More than 256 KiB: the message is exhausted with an attempt that says why, and what comes after it goes."""
    endpoint = await endpoint_at(receiver.url)
    event = catalogue.example(BatchReady.type_name())
    event |= {"id": str(new_id()), "subject": str(new_id()), "organizationid": str(tenant.organization_id)}
    event["parties"] = str(tenant.organization_id)
    event["data"]["padding"] = "x" * 256 * 1024

    key = BatchReady.routing_key()
    await bus.send(json.dumps(event).encode(), producer="batches", routing_key=key, message_id=event["id"])
    (message,) = await owner.settled(endpoint, "exhausted")
    await publish()
    await owner.settled(endpoint, "exhausted", "delivered")

    (attempt,) = await owner.attempts(message["id"])
    assert (attempt["outcome"], attempt["error"], message["last_error"]) == (
        "refused",
        "payload-too-large",
        "payload-too-large",
    )
    assert "262144" in attempt["detail"]
    assert [request.headers["webhook-id"] for request in receiver.requests] != [event["id"]]


# ---------------------------------------------------------------- held apart


async def test_a_hundred_endpoints_of_which_ten_hang(endpoint_at: Register, publish: Publish, owner: Owner) -> None:
    """Ninety get all their events while ten hold every slot they have."""
    async with Receiver() as healthy, Receiver() as hanging:
        hanging.default = silence()
        for number in range(100):
            where = hanging if number < 10 else healthy
            await endpoint_at(f"{where.url}/{number}", timeout_s=30)

        events = {str(await publish()) for _ in range(12)}
        requests = await healthy.received(90 * 12, timeout_s=25)

    arrived = Counter((request.target, request.headers["webhook-id"]) for request in requests)
    assert len(arrived) == 90 * 12
    assert {event_id for _, event_id in arrived} == events
    assert set(arrived.values()) == {1}
    assert len(hanging.requests) == 100  # ten slots each, and nothing of it came to an end meanwhile


async def test_a_rate_holds_over_two_workers(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, live: LiveService,
    environment: dict[str, str],
) -> None:  # fmt: skip
    """Twenty a second, whichever process sends: in no second more than that and a tenth, and no attempt is lost to it."""
    ports = {name: str(free_port()) for name in ("VAJ_API_PORT", "VAJ_OPS_PORT")}
    second = LiveService("webhooks", environment | ports, role="worker")
    await second.start_soon()
    try:
        endpoint = await endpoint_at(receiver.url, rate_per_s=20)
        await asyncio.gather(*(publish() for _ in range(50)))
        await receiver.received(50)
        messages = await owner.settled(endpoint, *["delivered"] * 50)
        logs = live.log_path, second.log_path  # each attempt has its line once it is recorded
        await eventually(lambda: sum(log.read_text().count(endpoint["id"]) for log in logs) == 50)
    finally:
        second.kill()

    assert {message["attempts"] for message in messages} == {1}
    times = sorted([_moment((await owner.attempts(message["id"]))[0]["attempted_at"]) for message in messages])
    assert max(sum(a <= b < a + timedelta(seconds=1) for b in times) for a in times) <= 20 + 2 + 1
    assert timedelta(seconds=2) <= times[-1] - times[0]


async def test_ordered_events_of_an_aggregate_come_in_order_while_others_pass(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """A receiver that fails on one aggregate's event gets its successors after it, and other aggregates' meanwhile."""
    endpoint = await endpoint_at(receiver.url, ordered=True, retry_schedule_s=[1, 1])
    blocked, free = new_id(), new_id()
    receiver.script(reply(503))

    first = await publish(subject=blocked, version=1)
    await receiver.received(1)
    later = [await publish(subject=blocked, version=version) for version in (2, 3, 4)]
    others = [await publish(subject=free, version=version) for version in (1, 2, 3)]
    requests = await receiver.received(8)

    await owner.settled(endpoint, *["delivered"] * 7)
    ids = [request.headers["webhook-id"] for request in requests]
    assert [each for each in ids if each in {str(first), *map(str, later)}] == [
        str(first),
        str(first),
        *map(str, later),
    ]
    assert [each for each in ids if each in set(map(str, others))] == list(map(str, others))
    assert ids.index(str(others[0])) < ids.index(str(later[0]))


# ---------------------------------------------------------------- health


async def test_owners_hear_of_a_failing_endpoint_at_another_one(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, live: LiveService
) -> None:
    """What was given up, failing, disabled and recovered come to the endpoint that asks for them, and to no other."""
    async with Receiver() as watching, Receiver() as catching_all:
        await endpoint_at(watching.url, event_types=["vouajudar.webhooks.*"])
        await endpoint_at(catching_all.url)
        endpoint = await endpoint_at(receiver.url, retry_schedule_s=[], event_types=["vouajudar.batches.*"])
        receiver.script(*[reply(500)] * 10)

        for _ in range(10):  # the tenth also opens the breaker
            await publish()
        failing = await _told(watching, 11)
        await publish()  # the probe
        recovered = await _told(watching, 12)
        receiver.script(reply(410))
        await publish()
        gone = await _told(watching, 14)

    assert failing == Counter({"message.exhausted": 10, "endpoint.failing": 1})
    assert recovered - failing == Counter({"endpoint.recovered": 1})
    assert gone - recovered == Counter({"message.exhausted": 1, "endpoint.disabled": 1})
    told = [json.loads(request.body) for request in watching.requests]
    assert {event["data"]["endpoint_id"] for event in told} == {endpoint["id"]}
    [notice] = [event["data"] for event in told if event["type"].endswith("failing.v1")]
    [end] = [event["data"] for event in told if event["type"].endswith("disabled.v1")]
    assert (notice["percent"], end["reason"]) == (50, "gone")
    assert {json.loads(request.body)["type"] for request in catching_all.requests} == {BatchReady.type_name()}


async def _told(receiver: Receiver, count: int) -> Counter[str]:
    requests = await receiver.received(count, timeout_s=20)
    names = [json.loads(request.body)["type"] for request in requests]
    return Counter(name.removeprefix("vouajudar.webhooks.").removesuffix(".v1") for name in names)


async def test_held_while_disabled_and_replayed_when_enabled(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Everything that came while it was off arrives once it is on, each event once; the count begins anew."""
    endpoint = await endpoint_at(receiver.url, retry_schedule_s=[])
    receiver.script(reply(410))
    lost = await publish()
    await owner.settled(endpoint, "exhausted")
    held = [str(await publish()) for _ in range(30)]
    await owner.settled(endpoint, "exhausted", *["held"] * 30)

    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/enable")

    await owner.settled(endpoint, "exhausted", *["delivered"] * 30)
    assert [request.headers["webhook-id"] for request in receiver.requests[:1]] == [str(lost)]
    assert sorted(request.headers["webhook-id"] for request in receiver.requests[1:]) == sorted(held)
    shown = await owner.get(f"/v1/webhook-endpoints/{endpoint['id']}")
    assert (shown["status"], shown["failing_percent"]) == ("active", 0)


async def test_a_stuck_message_is_swept_up(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, live: LiveService, database: Any
) -> None:
    """A lease that nobody will ever come back for ends, and the message goes again with no attempt lost."""
    endpoint = await endpoint_at(receiver.url, event_types=["vouajudar.batches.*"])
    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/pause")
    await publish()
    (message,) = await owner.settled(endpoint, "held")
    await database.pool.execute(
        "UPDATE webhook_messages SET status = 'delivering', lease_id = gen_random_uuid(), due_at = now() WHERE id = $1",
        UUID(message["id"]),
    )
    await owner.settled(endpoint, "held")  # swept, and held again because the endpoint is paused
    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/enable")

    (delivered,) = await owner.settled(endpoint, "delivered")
    assert (delivered["attempts"], len(receiver.requests)) == (1, 1)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
