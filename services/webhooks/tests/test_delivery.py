"""From a fact on the bus to a signed POST at a real socket, and everything that may go wrong on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import LiveService, eventually
from contracts.events.batches import BatchReady, BatchRecalled
from contracts.events.identity import UserRegistered
from standardwebhooks.webhooks import Webhook
from webhooks.signing import parse_secret

from services.webhooks.tests.builders import Owner, Tenant
from services.webhooks.tests.receiver import Answer, Receiver, reply, reset, silence

Endpoint = dict[str, Any]
Register = Callable[..., Awaitable[Endpoint]]
Publish = Callable[..., Awaitable[UUID]]
RETRIES = 3  # of the tests' schedule


# ---------------------------------------------------------------- once, signed


async def test_an_event_arrives_once_with_a_valid_signature(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """The POST carries the event's own bytes under its id, and an official library verifies it."""
    endpoint = await endpoint_at(receiver.url, event_types=["vouajudar.batches.*"])

    event_id = await publish()
    (request,) = await receiver.received(1)

    verified = Webhook(endpoint["secret"]).verify(request.body, request.headers)
    assert (verified["id"], verified["type"]) == (str(event_id), BatchReady.type_name())
    assert request.headers["webhook-id"] == str(event_id)
    assert request.headers["content-type"] == "application/cloudevents+json"
    (message,) = await owner.settled(endpoint, "delivered")
    assert (message["event_id"], message["attempts"], message["last_status"]) == (str(event_id), 1, 204)
    assert message["delivered_at"]
    assert message["next_attempt_at"] is None
    assert len(receiver.requests) == 1


async def test_the_stored_bytes_are_those_that_were_published(
    receiver: Receiver, endpoint_at: Register, publish: Publish, database: Database
) -> None:
    """What is sent is what came over the bus, byte for byte, on every attempt."""
    await endpoint_at(receiver.url)
    receiver.script(reply(500))

    event_id = await publish()
    first, second = await receiver.received(2)

    stored = await database.reading().fetchval("SELECT body FROM webhook_events WHERE id = $1", event_id)
    assert first.body == second.body == stored
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != "" != second.headers["webhook-signature"]


async def test_an_event_that_comes_twice_is_one_message(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """A duplicate on the bus has no effect; the next event shows that it was looked at."""
    endpoint = await endpoint_at(receiver.url)
    event_id, subject = new_id(), new_id()

    for _ in range(3):
        await publish(event_id=event_id, subject=subject)
    last = await publish()

    await owner.settled(endpoint, "delivered", "delivered")
    assert [request.headers["webhook-id"] for request in receiver.requests] == [str(event_id), str(last)]


async def test_filters_and_tenants_decide_who_hears(
    receiver: Receiver, endpoint_at: Register, publish: Publish, tenant: Tenant, owner: Owner,
    new_tenant: Callable[[], Awaitable[Tenant]],
) -> None:  # fmt: skip
    """Owners and parties hear what they asked for; other tenants nothing; nobody hears about people."""
    endpoint = await endpoint_at(receiver.url, event_types=[BatchRecalled.type_name(), "vouajudar.deliveries.*"])
    stranger = await new_tenant()

    await publish()  # another type
    await publish(BatchRecalled, organization_id=stranger.organization_id)  # somebody else's
    await publish(UserRegistered)
    party = await publish(BatchRecalled, organization_id=stranger.organization_id, parties=[tenant.organization_id])
    own = await publish(BatchRecalled)

    await owner.settled(endpoint, "delivered", "delivered")
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted([str(party), str(own)])


async def test_one_trace_leads_to_the_attempt_in_the_log(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, live: LiveService
) -> None:
    """The attempt's one wide line carries the trace of the event's cause."""
    endpoint = await endpoint_at(receiver.url)

    event_id = await publish()
    (request,) = await receiver.received(1)
    (message,) = await owner.settled(endpoint, "delivered")

    def line() -> dict[str, Any]:
        logged = [json.loads(text) for text in live.log_path.read_text().splitlines() if str(event_id) in text]
        found: list[dict[str, Any]] = [entry for entry in logged if entry["event"] == "webhook.attempted"]
        assert len(found) == 1
        return found[0]

    logged = await eventually(line)
    envelope = json.loads(request.body)
    assert logged["trace_id"] == envelope["traceparent"].split("-")[1]
    assert logged["correlation_id"] == envelope["correlationid"]
    expected = {
        "endpoint_id": endpoint["id"],
        "message_id": message["id"],
        "event_id": str(event_id),
        "event_type": BatchReady.type_name(),
        "attempt": 1,
        "outcome": "delivered",
        "status": 204,
    }
    assert logged | expected == logged
    assert logged["duration_ms"] >= 0


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (reply(500), 500, None),
        (reply(403), 403, None),
        (reply(308, headers=[("Location", "/elsewhere")]), 308, None),
        (reset(), None, "closed"),
    ],
)
async def test_a_failing_endpoint_is_retried_until_the_schedule_ends(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, answer: Answer, status: int | None,
    error: str | None,
) -> None:  # fmt: skip
    """One attempt and one more per step, each logged, never early; then the message is exhausted."""
    endpoint = await endpoint_at(receiver.url)
    receiver.default = answer

    await publish()
    (message,) = await owner.settled(endpoint, "exhausted")

    attempts = (await owner.attempts(message["id"]))[::-1]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4]
    assert {(attempt["status"], attempt["error"], attempt["outcome"]) for attempt in attempts} == {
        (status, error, "failed")
    }
    assert (message["attempts"], message["last_status"], message["last_error"]) == (RETRIES + 1, status, error)
    assert {request.target for request in receiver.requests} == {"/hook"}
    times = [request["attempted_at"] for request in attempts]
    assert times == sorted(times)


async def test_an_endpoint_that_comes_back_gets_what_it_missed(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """After a failure the same bytes arrive under the same id, freshly stamped."""
    endpoint = await endpoint_at(receiver.url)
    receiver.script(reply(503, headers=[("Retry-After", "1")], body=b"later"), reply(200, body=b"thanks"))

    await publish()
    (message,) = await owner.settled(endpoint, "delivered")

    second, first = await owner.attempts(message["id"])
    assert (first["status"], first["response_body"], second["response_body"]) == (503, "later", "thanks")
    assert {"name": "Retry-After", "value": "1"} in first["response_head"]
    names = {header["name"] for header in second["request_head"]}
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= names
    stamps = [int(request.headers["webhook-timestamp"]) for request in receiver.requests]
    assert stamps[1] > stamps[0]  # the receiver asked for a second more than the schedule's 0.3


async def test_one_failing_endpoint_does_not_hold_the_others(
    endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Of five endpoints one fails and one hangs with all its slots; the others get everything meanwhile."""
    async with AsyncExitStack() as stack:
        failing, hanging, *healthy = [await stack.enter_async_context(Receiver()) for _ in range(5)]
        failing.default, hanging.default = reply(500), silence()
        endpoints = [await endpoint_at(receiver.url, timeout_s=3) for receiver in (failing, hanging, *healthy)]

        events = {str(await publish()) for _ in range(25)}
        for receiver in healthy:
            await receiver.received(25)

        for receiver in healthy:
            assert {request.headers["webhook-id"] for request in receiver.requests} == events
        assert len(hanging.requests) == 10
        assert len(await owner.messages(endpoint_id=endpoints[1]["id"], status="delivering")) == 10
        for endpoint in endpoints[2:]:
            await owner.settled(endpoint, *["delivered"] * 25)


async def test_gone_disables_the_endpoint_at_once(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """After 410 nothing is sent until somebody enables it; what came meanwhile is held and then goes out."""
    endpoint = await endpoint_at(receiver.url)
    receiver.script(reply(410))

    await publish()
    await owner.settled(endpoint, "exhausted")
    shown = await owner.get(f"/v1/webhook-endpoints/{endpoint['id']}")
    held = await publish()
    await owner.settled(endpoint, "exhausted", "held")
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "gone")
    assert len(receiver.requests) == 1

    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/enable")

    await owner.settled(endpoint, "exhausted", "delivered")
    assert receiver.requests[1].headers["webhook-id"] == str(held)


async def test_killed_in_the_middle_of_a_send_it_sends_again(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, live: LiveService
) -> None:
    """After kill -9 the lease runs out and the message arrives again under the same id."""
    endpoint = await endpoint_at(receiver.url, timeout_s=1)
    receiver.script(silence())

    event_id = await publish()
    await receiver.received(1)
    live.kill()
    await live.start_soon()

    requests = await receiver.received(2, timeout_s=20)
    (message,) = await owner.settled(endpoint, "delivered")
    assert [request.headers["webhook-id"] for request in requests] == [str(event_id)] * 2
    assert message["attempts"] == 1  # the one that was cut off never came to an end


# ---------------------------------------------------------------- owners


async def test_after_a_rotation_both_secrets_verify(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Old and new secret sign until the overlap ends; without overlap only the new one does."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret"
    old = endpoint["secret"]
    new = (await owner.post(path))["secret"]

    await publish()
    (both,) = await receiver.received(1)
    newest = (await owner.post(path, overlap_s=0))["secret"]
    await publish()
    after = (await receiver.received(2))[1]

    for secret in (old, new):
        assert Webhook(secret).verify(both.body, both.headers)
    assert len(both.headers["webhook-signature"].split()) == 2
    assert Webhook(newest).verify(after.body, after.headers)
    assert Webhook(old).verify(after.body, after.headers)  # its own overlap of a day goes on
    assert len(after.headers["webhook-signature"].split()) == 2


async def test_paused_holds_and_enable_releases(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """While paused, new events and waiting retries stay; enabling sends them, each once."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    receiver.script(reply(500))
    first = await publish()
    await receiver.received(1)
    await owner.post(f"{path}/pause")

    second = await publish()
    await owner.settled(endpoint, "held", "held")
    sent_while_paused = len(receiver.requests)
    await owner.post(f"{path}/enable")

    await owner.settled(endpoint, "delivered", "delivered")
    assert sent_while_paused == 1
    assert sorted(r.headers["webhook-id"] for r in receiver.requests[1:]) == sorted([str(first), str(second)])


async def test_a_changed_address_counts_for_waiting_retries(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """The next attempt goes where the endpoint is then."""
    async with Receiver() as elsewhere:
        endpoint = await endpoint_at(receiver.url)
        receiver.script(reply(500, delay_s=0.2))
        await publish()
        await receiver.received(1)
        path = f"/v1/webhook-endpoints/{endpoint['id']}"

        await client.patch(path, json={"url": elsewhere.url}, headers=tenant.partner.headers)

        await elsewhere.received(1)
        await owner.settled(endpoint, "delivered")
        assert len(receiver.requests) == 1


async def test_deleting_an_endpoint_cancels_what_waits(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Held messages and retries of a deleted endpoint are never sent; they stay visible as cancelled."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    await owner.post(f"{path}/pause")
    await publish()
    (message,) = await owner.settled(endpoint, "held")

    await client.delete(path, headers=tenant.partner.headers)

    await owner.settled(endpoint, "cancelled")
    assert receiver.requests == []
    retried = await client.post(f"/v1/webhook-messages/{message['id']}/retry", headers=tenant.partner.headers)
    assert (retried.status_code, retried.json()["code"]) == (409, "invalid-transition")


async def test_a_message_is_retried_by_hand(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """An exhausted or delivered message goes once more under the same id; while it is under way asking is refused."""
    endpoint = await endpoint_at(receiver.url)
    receiver.default = reply(500)
    event_id = await publish()
    (message,) = await owner.settled(endpoint, "exhausted")
    path = f"/v1/webhook-messages/{message['id']}"
    receiver.default = reply(200, delay_s=0.5)

    answer = await owner.post(f"{path}/retry", 202)
    await receiver.received(RETRIES + 2)
    refused = await client.post(f"{path}/retry", headers=tenant.partner.headers)
    await owner.settled(endpoint, "delivered")
    await owner.post(f"{path}/retry", 202)
    await receiver.received(RETRIES + 3)

    assert (answer["status"], answer["id"]) == ("pending", message["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid-transition")
    (after,) = await owner.settled(endpoint, "delivered")
    assert after["attempts"] == RETRIES + 3
    assert {request.headers["webhook-id"] for request in receiver.requests} == {str(event_id)}


async def test_a_test_event_reaches_its_endpoint_only(receiver: Receiver, endpoint_at: Register, owner: Owner) -> None:
    """The test event comes whatever the filter says, signed, and to nobody else."""
    async with Receiver() as other:
        endpoint = await endpoint_at(receiver.url, event_types=[BatchRecalled.type_name()])
        await endpoint_at(other.url)

        message = await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)

        (request,) = await receiver.received(1)
        event = Webhook(endpoint["secret"]).verify(request.body, request.headers)
        assert (event["type"], event["data"]) == (
            "vouajudar.webhooks.endpoint.test.v1",
            {"endpoint_id": endpoint["id"]},
        )
        assert (event["id"], event["organizationid"]) == (message["event_id"], endpoint["organization_id"])
        await owner.settled(endpoint, "delivered")
        assert other.requests == []


async def test_messages_are_found_by_status_and_type(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Filters narrow the list; a prefix ends in `.*`."""
    endpoint = await endpoint_at(receiver.url)
    receiver.script(reply(410))
    await publish(BatchRecalled)
    await owner.settled(endpoint, "exhausted")
    await publish()
    await owner.settled(endpoint, "exhausted", "held")

    async def found(**query: Any) -> list[str]:
        return [message["event_type"] for message in await owner.messages(**query)]

    recalled, ready = BatchRecalled.type_name(), BatchReady.type_name()
    assert await found() == [ready, recalled]
    assert await found(status="exhausted") == [recalled]
    assert await found(status=["exhausted", "held"], event_type="vouajudar.batches.*") == [ready, recalled]
    assert await found(event_type=ready) == [ready]
    assert await found(event_type="vouajudar.bat.*") == []
    assert await found(status="delivered") == []


async def test_the_signature_is_made_with_the_stored_key(
    receiver: Receiver, endpoint_at: Register, publish: Publish, database: Database
) -> None:
    """The attempt log tells which signature was sent, and never the key."""
    endpoint = await endpoint_at(receiver.url)
    receiver.keys = [parse_secret(endpoint["secret"])]
    await publish()
    (request,) = await receiver.received(1)

    async def logged() -> list[Any]:
        rows = await database.reading().fetch(
            "SELECT a::text AS whole FROM webhook_attempts a WHERE endpoint_id = $1", UUID(endpoint["id"])
        )
        assert len(rows) == 1
        return rows

    (row,) = await eventually(logged)
    assert request.verified
    assert request.headers["webhook-signature"] in row["whole"]
    assert endpoint["secret"].removeprefix("whsec_") not in row["whole"]


async def test_many_events_arrive_once_each(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """A burst goes through ten slots without a loss or a double."""
    endpoint = await endpoint_at(receiver.url)

    events = set(map(str, await asyncio.gather(*(publish() for _ in range(150)))))
    await receiver.received(150)

    async def none_is_left() -> None:
        assert await owner.messages(endpoint_id=endpoint["id"], status=["pending", "delivering", "retrying"]) == []

    await eventually(none_is_left)
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted(events)
