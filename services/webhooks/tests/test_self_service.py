"""What owners do by themselves: secrets and keys, whom they hear of, what never arrived, one message again."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis import jobs
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Callers, LiveService
from contracts.events.batches import BatchReady, BatchRecalled
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook
from webhooks.repository import recoveries
from webhooks.signing import verify

from services.webhooks.tests.builders import Endpoint, Owner, Tenant
from services.webhooks.tests.receiver import Received, Receiver, reply, silence

Register = Callable[..., Awaitable[Endpoint]]
Publish = Callable[..., Awaitable[UUID]]
OWN_SECRET = "whsec_" + base64.b64encode(bytes(range(64))).decode()


def entries(request: Received) -> list[str]:
    """The schemes of a request's signatures, in their order."""
    return [entry.partition(",")[0] for entry in request.headers["webhook-signature"].split(" ")]


def is_signed_by(key: dict[str, str], request: Received) -> bool:
    """Whether a key of the key set verifies a request, as a receiver would do it."""
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    headers = request.headers
    stamp = int(headers["webhook-timestamp"])
    return verify(headers["webhook-id"], stamp, request.body, headers["webhook-signature"], [public])


async def key_set(client: httpx.AsyncClient, endpoint: Endpoint) -> list[dict[str, str]]:
    """The endpoint's public keys, looked up by somebody without credentials."""
    answer = await client.get(f"/v1/webhook-endpoints/{endpoint['id']}/jwks.json")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=300")
    keys: list[dict[str, str]] = answer.json()["keys"]
    return keys


# ---------------------------------------------------------------- secrets


async def test_after_two_rotations_three_signatures_verify(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Each of the three secrets verifies the one request by itself, newest first; a fourth key does not."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret"
    secrets = [endpoint["secret"], *[(await owner.post(path))["secret"] for _ in range(2)]]

    await publish()
    (request,) = await receiver.received(1)

    assert entries(request) == ["v1", "v1", "v1"]
    for secret in secrets:
        assert Webhook(secret).verify(request.body, request.headers)
    newest_alone = request.headers | {"webhook-signature": request.headers["webhook-signature"].split(" ")[0]}
    assert Webhook(secrets[-1]).verify(request.body, newest_alone)


async def test_a_secret_of_ones_own_signs(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, database: Database, live: LiveService
) -> None:
    """On creation and on rotation; the service keeps it sealed like its own and never logs it."""
    endpoint = await endpoint_at(receiver.url, secret=OWN_SECRET)
    other = "whsec_" + base64.b64encode(bytes(range(100, 124))).decode()
    rotated = await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret", secret=other)

    await publish()
    (request,) = await receiver.received(1)

    assert (endpoint["secret"], rotated["secret"]) == (OWN_SECRET, other)
    for secret in (OWN_SECRET, other):
        assert Webhook(secret).verify(request.body, request.headers)
    bare = OWN_SECRET.removeprefix("whsec_")
    assert bare not in live.log_path.read_text()
    for table in ("webhook_endpoints", "events", "idempotency_keys"):
        rows = await database.reading().fetch(f"SELECT t::text AS whole FROM {table} t")
        assert not [row for row in rows if bare in row["whole"] or bytes(range(64)).hex() in row["whole"]]


async def test_a_secret_that_signs_already_is_no_rotation(
    client: httpx.AsyncClient, tenant: Tenant, endpoint_at: Register
) -> None:
    """Rotating to a valid secret is refused, whether it is the newest or an old one."""
    endpoint = await endpoint_at("https://93.184.215.14/hook", secret=OWN_SECRET)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret"

    same = await client.post(path, json={"secret": OWN_SECRET}, headers=tenant.partner.headers)
    await client.post(path, headers=tenant.partner.headers)
    old = await client.post(path, json={"secret": OWN_SECRET}, headers=tenant.partner.headers)

    for refused in (same, old):
        assert (refused.status_code, refused.json()["code"]) == (422, "secret-in-use")
        assert OWN_SECRET not in refused.text


# ---------------------------------------------------------------- public keys


async def test_with_ed25519_every_secret_signs_twice(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient
) -> None:
    """`v1` and `v1a` for each valid secret; the key set, open to everyone, verifies them, and so does the shown key."""
    endpoint = await endpoint_at(receiver.url, ed25519=True)
    (first,) = await key_set(client, endpoint)
    rotated = await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret")

    await publish()
    (request,) = await receiver.received(1)

    newest, oldest = await key_set(client, endpoint)
    assert entries(request) == ["v1", "v1", "v1a", "v1a"]
    assert is_signed_by(newest, request)
    assert is_signed_by(oldest, request)
    assert oldest == first
    assert newest["kid"] != oldest["kid"]
    assert {name: newest[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
    }  # fmt: skip
    shown = base64.b64decode(rotated["public_key"].removeprefix("whpk_"))
    assert shown == base64.urlsafe_b64decode(newest["x"] + "=")
    assert Webhook(endpoint["secret"]).verify(request.body, request.headers)


async def test_without_overlap_the_old_pair_is_gone(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient
) -> None:
    """A rotation with an overlap of nothing takes the old key out of the set and out of the signatures."""
    endpoint = await endpoint_at(receiver.url, ed25519=True)
    (old,) = await key_set(client, endpoint)

    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret", overlap_s=0)
    await publish()
    (request,) = await receiver.received(1)

    (new,) = await key_set(client, endpoint)
    assert entries(request) == ["v1", "v1a"]
    assert is_signed_by(new, request)
    assert not is_signed_by(old, request)


async def test_ed25519_can_be_chosen_later(
    receiver: Receiver, endpoint_at: Register, publish: Publish, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Before, there is no key set; afterwards the next request is signed both ways."""
    endpoint = await endpoint_at(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    before = await client.get(f"{path}/jwks.json")
    await publish()
    await receiver.received(1)

    await client.patch(path, json={"ed25519": True}, headers=tenant.partner.headers)
    await publish()
    first, second = await receiver.received(2)

    assert (before.status_code, before.json()["code"], endpoint["public_key"]) == (404, "endpoint-not-found", None)
    assert (entries(first), entries(second)) == (["v1"], ["v1", "v1a"])
    (key,) = await key_set(client, endpoint)
    assert is_signed_by(key, second)
    await client.delete(path, headers=tenant.partner.headers)
    assert (await client.get(f"{path}/jwks.json")).status_code == 404


async def test_the_same_secret_makes_another_pair_at_each_endpoint(
    client: httpx.AsyncClient, endpoint_at: Register
) -> None:
    """What one receiver was sent does not verify at another, even if both were given one secret."""
    one, other = [await endpoint_at("https://93.184.215.14/hook", secret=OWN_SECRET, ed25519=True) for _ in range(2)]

    assert await key_set(client, one) != await key_set(client, other)


# ---------------------------------------------------------------- whom one hears of


async def test_an_endpoint_hears_of_the_parties_it_names(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """Events of one's own that concern one of the parties too; without parties every one."""
    wanted, other = new_id(), new_id()
    endpoint = await endpoint_at(receiver.url, parties=[str(wanted), str(wanted)])
    async with Receiver() as everything:
        await endpoint_at(everything.url)

        alone = await publish()
        with_other = await publish(parties=[other])
        with_wanted = await publish(parties=[other, wanted])

        await everything.received(3)
        await owner.settled(endpoint, "delivered")
        assert endpoint["parties"] == [str(wanted)]
        assert [request.headers["webhook-id"] for request in receiver.requests] == [str(with_wanted)]
        heard = {request.headers["webhook-id"] for request in everything.requests}
        assert heard == {str(alone), str(with_other), str(with_wanted)}


async def test_endpoints_are_found_by_status_and_by_what_they_hear_of(
    endpoint_at: Register, owner: Owner, tenant: Tenant
) -> None:
    """A type finds the endpoints that name it, name a prefix of it, or name nothing."""
    url = "https://93.184.215.14/hook"
    named = (await endpoint_at(url, event_types=[BatchReady.type_name()]))["id"]
    prefixed = (await endpoint_at(url, event_types=["vouajudar.batches.*"]))["id"]
    open_to_all = (await endpoint_at(url))["id"]
    await endpoint_at(url, event_types=["vouajudar.deliveries.*"])
    await owner.post(f"/v1/webhook-endpoints/{prefixed}/pause")

    async def found(query: str) -> list[str]:
        return [item["id"] for item in (await owner.get(f"/v1/webhook-endpoints?{query}"))["items"]]

    assert await found(f"event_type={BatchReady.type_name()}") == [open_to_all, prefixed, named]
    assert await found(f"event_type={BatchRecalled.type_name()}") == [open_to_all, prefixed]
    assert await found("status=paused") == [prefixed]
    assert len(await found(f"organization_id={tenant.organization_id}")) == 4
    assert await found(f"organization_id={new_id()}") == []


# ---------------------------------------------------------------- what never arrived


async def test_what_was_never_delivered_is_one_list_with_its_reason(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, tenant: Tenant, client: httpx.AsyncClient
) -> None:
    """Exhausted, retrying, held and cancelled, newest first, each with its last answer; not what arrived in the end."""
    failing = await endpoint_at(receiver.url)
    receiver.default = reply(503)
    exhausted = await publish()
    await owner.settled(failing, "exhausted")
    receiver.default = reply(204)
    await publish()
    await owner.settled(failing, "exhausted", "delivered")
    await owner.post(f"/v1/webhook-endpoints/{failing['id']}/pause")
    held = await publish(BatchRecalled)
    async with Receiver() as elsewhere:
        elsewhere.default = reply(429, headers=[("Retry-After", "600")])
        other = await endpoint_at(elsewhere.url)
        retrying = await publish()
        await owner.settled(other, "retrying")

        undelivered = await owner.messages(status="undelivered")

        found = [(m["event_id"], m["endpoint_id"], m["status"], m["last_status"], m["attempts"]) for m in undelivered]
        assert sorted(found[:2]) == sorted(
            [(str(retrying), other["id"], "retrying", 429, 1), (str(retrying), failing["id"], "held", None, 0)]
        )
        assert found[2:] == [
            (str(held), failing["id"], "held", None, 0),
            (str(exhausted), failing["id"], "exhausted", 503, 4),
        ]
        assert [m["next_attempt_at"] is not None for m in undelivered] == [
            m["status"] == "retrying" for m in undelivered
        ]
        of_one = await owner.messages(status="undelivered", endpoint_id=failing["id"], event_type="vouajudar.batches.*")
        assert [m["event_id"] for m in of_one] == [str(retrying), str(held), str(exhausted)]
        recalled = await owner.messages(status="undelivered", event_type=BatchRecalled.type_name())
        assert [m["event_id"] for m in recalled] == [str(held)]
        assert await owner.messages(status="undelivered", organization_id=str(new_id())) == []
        mixed = await client.get("/v1/webhook-messages?status=undelivered&status=held", headers=tenant.partner.headers)
        assert (mixed.status_code, mixed.json()["code"]) == (422, "invalid")


async def test_what_was_delivered_once_is_never_undelivered(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """A message that arrived and fails when it is asked for again stands as exhausted, but not among the undelivered."""
    endpoint = await endpoint_at(receiver.url, retry_schedule_s=[])
    await publish()
    (message,) = await owner.settled(endpoint, "delivered")
    receiver.default = reply(500)
    await owner.post(f"/v1/webhook-messages/{message['id']}/retry", 202)
    await owner.settled(endpoint, "exhausted")
    missed = await publish()
    await owner.settled(endpoint, "exhausted", "exhausted")

    undelivered = await owner.messages(status="undelivered", endpoint_id=endpoint["id"])

    assert [found["event_id"] for found in undelivered] == [str(missed)]


async def test_the_list_of_the_undelivered_pages_through_everything_once(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, tenant: Tenant, client: httpx.AsyncClient,
    new_tenant: Callable[[], Awaitable[Tenant]],
) -> None:  # fmt: skip
    """Over types and endpoints, in one order; strangers see none of it."""
    for _ in range(2):
        endpoint = await endpoint_at(receiver.url)
        await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/pause")
    for kind in (BatchReady, BatchRecalled, BatchReady):
        await publish(kind)
    await owner.settled(endpoint, "held", "held", "held")

    seen: list[str] = []
    url: str | None = "/v1/webhook-messages?status=undelivered&limit=2"
    while url:
        page = await client.get(url, headers=tenant.manager.headers)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None

    assert len(seen) == 6
    assert seen == sorted(set(seen), reverse=True)
    stranger = await new_tenant()
    for query in ("status=undelivered", f"status=undelivered&endpoint_id={endpoint['id']}"):
        answer = await client.get(f"/v1/webhook-messages?{query}", headers=stranger.partner.headers)
        assert answer.json()["items"] == []


# ---------------------------------------------------------------- while a retry waits


async def test_a_retry_by_hand_does_not_wait_for_the_next_one(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner
) -> None:
    """While a retry waits for its time, asking sends the message now, once, and the waiting retry is gone with it."""
    endpoint = await endpoint_at(receiver.url)
    receiver.script(reply(503, headers=[("Retry-After", "3600")]))
    event_id = await publish()
    (waiting,) = await owner.settled(endpoint, "retrying")

    answer = await owner.post(f"/v1/webhook-messages/{waiting['id']}/retry", 202)
    (message,) = await owner.settled(endpoint, "delivered")

    assert (answer["status"], answer["attempts"]) == ("pending", 1)
    assert (message["attempts"], message["next_attempt_at"]) == (2, None)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [str(event_id)] * 2


async def test_an_endpoint_that_is_changed_while_retries_wait_is_asked_at_its_new_address(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """The waiting retry goes to the new URL, signed with the new secret, and nothing more to the old one."""
    async with Receiver() as elsewhere:
        endpoint = await endpoint_at(receiver.url)
        path = f"/v1/webhook-endpoints/{endpoint['id']}"
        receiver.script(reply(503, headers=[("Retry-After", "1")]))
        await publish()
        await owner.settled(endpoint, "retrying")

        await client.patch(path, json={"url": elsewhere.url}, headers=tenant.partner.headers)
        secret = (await owner.post(f"{path}/rotate-secret", overlap_s=0))["secret"]

        (request,) = await elsewhere.received(1)
        await owner.settled(endpoint, "delivered")
        assert Webhook(secret).verify(request.body, request.headers)
        assert entries(request) == ["v1"]
        assert len(receiver.requests) == 1


async def test_an_endpoint_that_is_deleted_while_retries_wait_hears_nothing_more(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """Waiting retries are cancelled when they come due, and so is what is under way if it fails."""
    endpoint = await endpoint_at(receiver.url, timeout_s=1)
    receiver.script(reply(503, headers=[("Retry-After", "1")]), silence())
    await publish()
    await owner.settled(endpoint, "retrying")
    await publish()
    await receiver.received(2)

    await client.delete(f"/v1/webhook-endpoints/{endpoint['id']}", headers=tenant.partner.headers)

    await owner.settled(endpoint, "cancelled", "cancelled")
    assert len(receiver.requests) == 2
    assert [m["status"] for m in await owner.messages(status="undelivered")] == ["cancelled", "cancelled"]


async def test_keys_with_the_scope_may_do_all_of_it(
    receiver: Receiver, endpoint_at: Register, owner: Owner, client: httpx.AsyncClient, tenant: Tenant, callers: Callers
) -> None:
    """A key with `webhooks:manage` alone suffices; one without it is refused at every route."""
    endpoint = await endpoint_at(receiver.url)
    only = await callers.partner(tenant.organization_id, scopes=["webhooks:manage"])
    without = await callers.partner(tenant.organization_id, scopes=["batches:read", "batches:write"])
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    message = (await client.post(f"{path}/test", headers=only.headers)).json()
    job = (await client.post(f"{path}/recover", json={"since": message["created_at"]}, headers=only.headers)).json()
    await owner.ended(job["id"])
    await owner.settled(endpoint, "delivered")
    routes: list[tuple[str, str, Any]] = [
        ("GET", "/v1/event-types", None), ("GET", "/v1/webhook-endpoints", None), ("GET", path, None),
        ("GET", "/v1/webhook-messages?status=undelivered", None), ("GET", f"/v1/jobs/{job['id']}", None),
        ("GET", f"/v1/webhook-messages/{message['id']}", None),
        ("GET", f"/v1/webhook-messages/{message['id']}/attempts", None),
        ("POST", f"/v1/webhook-messages/{message['id']}/retry", None), ("POST", f"{path}/test", None),
        ("POST", f"{path}/recover", {"since": message["created_at"]}), ("POST", f"{path}/rotate-secret", None),
        ("POST", f"{path}/pause", None), ("POST", f"{path}/enable", None),
    ]  # fmt: skip

    for method, route, body in routes:
        allowed = await client.request(method, route, json=body, headers=only.headers)
        refused = await client.request(method, route, json=body, headers=without.headers)
        assert allowed.status_code in (200, 202), (route, allowed.text)
        assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope"), route


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_jobs_of_others_are_not_found(
    receiver: Receiver, endpoint_at: Register, owner: Owner, client: httpx.AsyncClient, method: str,
    new_tenant: Callable[[], Awaitable[Tenant]],
) -> None:  # fmt: skip
    """Another tenant's job is 404, to look at and to cancel, and so is one that never was."""
    endpoint = await endpoint_at(receiver.url)
    job = await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/recover", 202, since=endpoint["created_at"])
    stranger = await new_tenant()
    suffix = "" if method == "GET" else "/cancel"

    for job_id in (job["id"], new_id()):
        answer = await client.request(method, f"/v1/jobs/{job_id}{suffix}", headers=stranger.partner.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")
    await owner.ended(job["id"])


async def test_operators_see_and_stop_recoveries(
    receiver: Receiver, endpoint_at: Register, publish: Publish, owner: Owner, client: httpx.AsyncClient, callers: Callers,
    database: Database,
) -> None:  # fmt: skip
    """An admin finds a recovery among the service's jobs; cancelled there it is cancelled for its owner too."""
    endpoint = await endpoint_at(receiver.url)
    admin = await callers.person(platform_role="admin")
    await owner.post(f"/v1/webhook-endpoints/{endpoint['id']}/pause")
    job_id, organization_id = new_id(), UUID(endpoint["organization_id"])
    async with database.command() as tx:
        jobs.start(tx, job_id, "webhooks.recover", total=0, now=datetime.now(UTC))
        span = recoveries.Span(UUID(endpoint["id"]), datetime.now(UTC), datetime.now(UTC), everything=False)
        recoveries.store(tx, job_id, organization_id, span)
    path = f"/v1/ops/webhooks/jobs/{job_id}"

    shown = (await client.get(path, headers=admin.headers)).json()
    stopped = await client.post(f"{path}/cancel", headers=admin.headers)

    assert (shown["kind"], shown["status"]) == ("webhooks.recover", "running")
    assert (stopped.status_code, stopped.json()["status"]) == (200, "cancelled")
    assert (await owner.get(f"/v1/jobs/{job_id}"))["status"] == "cancelled"
