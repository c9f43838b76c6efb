"""The routes of webhooks on a live process: status, problem code and rights per role."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Callers, LiveService
from contracts.registry import event_types
from webhooks.signing import parse_secret

from services.webhooks.tests.builders import Tenant

URL = "https://93.184.215.14/hook"
READY = "vouajudar.batches.batch.ready.v1"
Endpoint = dict[str, Any]
Register = Callable[..., Awaitable[Endpoint]]


@pytest.fixture
async def endpoint(endpoint_at: Register) -> Endpoint:
    return await endpoint_at(URL)


# ---------------------------------------------------------------- registering


async def test_an_endpoint_is_registered_with_a_secret_shown_once(
    client: httpx.AsyncClient, tenant: Tenant, database: Database, live: LiveService
) -> None:
    """The answer to POST alone carries the secret, uncached; neither database nor log has it in clear."""
    body = {"url": URL, "event_types": ["vouajudar.batches.*", READY], "description": "Estoque", "rate_per_s": 5}

    made = await client.post("/v1/webhook-endpoints", json=body, headers=tenant.partner.headers)
    shown = await client.get(made.headers["location"], headers=tenant.partner.headers)

    secret = made.json()["secret"]
    assert (made.status_code, made.headers["cache-control"], made.headers["etag"]) == (201, "no-store", '"1"')
    assert len(parse_secret(secret)) == 32
    assert shown.status_code == 200
    once = ("secret", "public_key")
    assert shown.json() == {name: value for name, value in made.json().items() if name not in once}
    assert shown.json() | body == shown.json()
    assert (shown.json()["status"], shown.json()["ordered"], shown.json()["timeout_s"]) == ("active", False, 15)
    bare = secret.removeprefix("whsec_")
    assert bare not in live.log_path.read_text()
    for table in ("webhook_endpoints", "events", "idempotency_keys", "outbox"):
        rows = await database.reading().fetch(f"SELECT t::text AS whole FROM {table} t")
        forms = (bare, parse_secret(secret).hex())
        assert not [row for row in rows if any(form in row["whole"] for form in forms)]


async def test_a_repeated_registration_gives_the_same_endpoint_and_secret(
    client: httpx.AsyncClient, tenant: Tenant
) -> None:
    """With an idempotency key the secret can be fetched again by who made it, and no second endpoint is made."""
    headers = tenant.partner.headers | {"Idempotency-Key": f"k-{new_id()}"}

    first = await client.post("/v1/webhook-endpoints", json={"url": URL}, headers=headers)
    second = await client.post("/v1/webhook-endpoints", json={"url": URL}, headers=headers)

    assert second.json() == first.json()
    assert (second.headers["idempotency-replayed"], second.headers["cache-control"]) == ("true", "no-store")


async def test_people_name_the_organization_they_manage(
    client: httpx.AsyncClient, tenant: Tenant, callers: Callers
) -> None:
    """A manager registers for the organization; staff may not, outsiders do not even see it."""
    staff = await callers.person(member_of=tenant.organization_id, role="staff")
    stranger = await callers.person()
    body = {"url": URL, "organization_id": str(tenant.organization_id)}

    async def tried(headers: dict[str, str], body: dict[str, Any]) -> tuple[int, str | None]:
        answer = await client.post("/v1/webhook-endpoints", json=body, headers=headers)
        return answer.status_code, answer.json().get("code")

    assert await tried(tenant.manager.headers, body) == (201, None)
    assert await tried(tenant.partner.headers, body) == (201, None)
    assert await tried(tenant.manager.headers, {"url": URL}) == (422, "invalid")
    assert await tried(staff.headers, body) == (403, "not-your-organization")
    assert await tried(stranger.headers, body) == (404, "organization-not-found")
    assert await tried(tenant.partner.headers, body | {"organization_id": str(new_id())}) == (
        404,
        "organization-not-found",
    )


async def test_a_key_needs_the_scope(client: httpx.AsyncClient, tenant: Tenant, callers: Callers) -> None:
    """A key without `webhooks:manage` is refused everywhere."""
    other = await callers.partner(tenant.organization_id, scopes=["batches:read"])
    for path in ("/v1/webhook-endpoints", "/v1/webhook-messages", "/v1/event-types"):
        answer = await client.get(path, headers=other.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://user:pass@93.184.215.14/",
        "https://nobody.invalid/hook",
        "ftp://93.184.215.14/",
        "not a url",
    ],
)
async def test_addresses_that_a_webhook_may_not_have_are_refused(
    client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint, url: str
) -> None:
    """422 `url-not-allowed` with a reason, on POST and on PATCH."""
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    for answer in (
        await client.post("/v1/webhook-endpoints", json={"url": url}, headers=tenant.partner.headers),
        await client.patch(path, json={"url": url}, headers=tenant.partner.headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "url-not-allowed")
        assert answer.json()["errors"][0]["pointer"] == "/url"
        assert answer.json()["detail"]


async def test_bad_input_is_a_problem_never_an_error(client: httpx.AsyncClient, tenant: Tenant) -> None:
    """Whatever is sent, the answer is a 4xx problem with a stable code."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "invalid-input"),
        ({"url": URL, "surprise": 1}, "invalid-input"),
        ({"url": 5}, "invalid-input"),
        ({"url": URL, "rate_per_s": 0}, "invalid-input"),
        ({"url": URL, "rate_per_s": "5"}, "invalid-input"),
        ({"url": URL, "timeout_s": 31}, "invalid-input"),
        ({"url": URL, "ordered": "yes"}, "invalid-input"),
        ({"url": URL, "description": "x" * 501}, "invalid-input"),
        ({"url": URL, "event_types": ["*"]}, "invalid-event-type"),
        ({"url": URL, "event_types": [READY, "vouajudar.batches.batch.reedy.v1"]}, "invalid-event-type"),
        ({"url": URL, "event_types": ["vouajudar.identity.user.*"]}, "invalid-event-type"),
        ({"url": URL, "event_types": [READY] * 101}, "invalid-input"),
        ({"url": URL, "parties": ["nobody"]}, "invalid-input"),
        ({"url": URL, "parties": [str(new_id()) for _ in range(101)]}, "invalid-input"),
        ({"url": URL, "ed25519": 1}, "invalid-input"),
        ({"url": URL, "secret": "whsec_" + "A" * 95}, "invalid-input"),
        ({"url": URL, "secret": "whsec_" + "A" * 28}, "invalid-secret"),
        ({"url": URL, "secret": "whsec_no base64 at all, however long"}, "invalid-secret"),
    ]
    for body, code in cases:
        answer = await client.post("/v1/webhook-endpoints", json=body, headers=tenant.partner.headers)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


# ---------------------------------------------------------------- changing


async def test_what_is_patched_changes_and_the_rest_stays(
    client: httpx.AsyncClient, tenant: Tenant, endpoint_at: Register
) -> None:
    """PATCH changes what it names; a null rate lifts the limit, other nulls say nothing."""
    endpoint = await endpoint_at(URL, rate_per_s=3, description="before", event_types=[READY])
    path = f"/v1/webhook-endpoints/{endpoint['id']}"

    changed = await client.patch(
        path, json={"rate_per_s": None, "url": None, "ordered": True}, headers=tenant.manager.headers
    )

    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    expected = {"rate_per_s": None, "ordered": True, "url": URL, "description": "before", "event_types": [READY]}
    assert changed.json() | expected == changed.json()
    assert (await client.get(path, headers=tenant.manager.headers)).json() == changed.json()


async def test_a_stale_if_match_changes_nothing(client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint) -> None:
    """`If-Match` with another version is 412 on every command; for strangers it is 404 all the same."""
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    headers = tenant.partner.headers | {"If-Match": '"7"'}
    answers = [
        await client.patch(path, json={"description": "x"}, headers=headers),
        await client.post(f"{path}/rotate-secret", headers=headers),
        await client.post(f"{path}/pause", headers=headers),
        await client.post(f"{path}/enable", headers=headers),
        await client.delete(path, headers=headers),
    ]
    assert {(a.status_code, a.json()["code"]) for a in answers} == {(412, "stale")}
    assert (await client.get(path, headers=tenant.partner.headers)).headers["etag"] == '"1"'


async def test_states_follow_the_commands(client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint) -> None:
    """Pausing twice and testing what is paused is refused; enabling twice is not."""
    path = f"/v1/webhook-endpoints/{endpoint['id']}"

    async def post(command: str) -> tuple[int, str | None]:
        answer = await client.post(f"{path}/{command}", headers=tenant.manager.headers)
        return answer.status_code, answer.json().get("code") or answer.json().get("status")

    assert await post("pause") == (200, "paused")
    assert await post("pause") == (409, "invalid-transition")
    assert await post("test") == (409, "invalid-transition")
    assert await post("enable") == (200, "active")
    assert await post("enable") == (200, "active")


async def test_a_deleted_endpoint_is_gone(client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint) -> None:
    """After DELETE it is 404 and in no list."""
    path = f"/v1/webhook-endpoints/{endpoint['id']}"

    gone = await client.delete(path, headers=tenant.manager.headers)

    assert (gone.status_code, gone.content) == (204, b"")
    for answer in (
        await client.get(path, headers=tenant.manager.headers),
        await client.delete(path, headers=tenant.manager.headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "endpoint-not-found")
    assert (await client.get("/v1/webhook-endpoints", headers=tenant.manager.headers)).json()["items"] == []


async def test_the_eleventh_old_secret_is_refused(
    client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint
) -> None:
    """Ten old secrets may overlap; without overlap an old one is gone at once."""
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret"
    seen = {endpoint["secret"]}
    for _ in range(10):
        answer = await client.post(path, json={}, headers=tenant.partner.headers)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        seen.add(answer.json()["secret"])

    refused = await client.post(path, headers=tenant.partner.headers)
    too_long = await client.post(path, json={"overlap_s": 604_801}, headers=tenant.partner.headers)

    assert len(seen) == 11
    assert (refused.status_code, refused.json()["code"]) == (400, "too-many-secrets")
    assert too_long.status_code == 422


# ---------------------------------------------------------------- seeing


async def test_what_belongs_to_others_is_not_found(
    client: httpx.AsyncClient, tenant: Tenant, endpoint: Endpoint, callers: Callers,
    new_tenant: Callable[[], Awaitable[Tenant]],
) -> None:  # fmt: skip
    """Another tenant's and a mere member's requests are 404 on every route, with or without `If-Match`."""
    endpoint_path = f"/v1/webhook-endpoints/{endpoint['id']}"
    message = (await client.post(f"{endpoint_path}/test", headers=tenant.partner.headers)).json()
    message_path = f"/v1/webhook-messages/{message['id']}"
    stranger = await new_tenant()
    staff = await callers.person(member_of=tenant.organization_id, role="staff")
    routes: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", endpoint_path, None),
        ("PATCH", endpoint_path, {"url": "https://10.0.0.1/"}),
        ("DELETE", endpoint_path, None),
        ("POST", f"{endpoint_path}/rotate-secret", {}),
        ("POST", f"{endpoint_path}/test", None),
        ("POST", f"{endpoint_path}/recover", {"since": "2100-01-01T00:00:00Z"}),
        ("POST", f"{endpoint_path}/enable", None),
        ("POST", f"{endpoint_path}/pause", None),
        ("GET", message_path, None),
        ("GET", f"{message_path}/attempts", None),
        ("POST", f"{message_path}/retry", None),
    ]
    for caller in (stranger.partner, stranger.manager, staff):
        for method, path, body in routes:
            for extra in ({}, {"If-Match": '"99"'}):
                answer = await client.request(method, path, json=body, headers=caller.headers | extra)
                code = "endpoint-not-found" if path.startswith(endpoint_path) else "message-not-found"
                assert (answer.status_code, answer.json()["code"]) == (404, code), (method, path)
        for path in (
            "/v1/webhook-endpoints",
            "/v1/webhook-messages",
            f"/v1/webhook-messages?endpoint_id={endpoint['id']}",
        ):
            assert (await client.get(path, headers=caller.headers)).json()["items"] == []
    assert (await client.get(endpoint_path, headers=tenant.partner.headers)).json()["version"] == 1


async def test_without_credentials_nothing_is_shown(client: httpx.AsyncClient) -> None:
    """Every list is 401 to strangers."""
    for path in ("/v1/webhook-endpoints", "/v1/webhook-messages", "/v1/event-types"):
        assert (await client.get(path)).status_code == 401


async def test_lists_page_through_everything_once(
    client: httpx.AsyncClient, tenant: Tenant, endpoint_at: Register
) -> None:
    """Following `next_cursor` gives each endpoint once; a cursor of another list is 400."""
    made = [(await endpoint_at(f"{URL}/{n}"))["id"] for n in range(5)]
    seen: list[str] = []
    url: str | None = f"/v1/webhook-endpoints?organization_id={tenant.organization_id}&limit=2"
    cursor = None
    while url:
        page = await client.get(url, headers=tenant.partner.headers)
        seen += [item["id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"] or cursor
        url = page.links["next"]["url"] if "next" in page.links else None

    bad = await client.get(f"/v1/webhook-messages?cursor={cursor}", headers=tenant.partner.headers)

    assert seen == made[::-1]
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-cursor")


async def test_the_catalogue_tells_what_can_be_received(client: httpx.AsyncClient, tenant: Tenant) -> None:
    """Every public type with schema and example; nothing about people and credentials, offers or the parts of loads."""
    answer = await client.get("/v1/event-types?limit=200", headers=tenant.partner.headers)
    first = await client.get("/v1/event-types?limit=1", headers=tenant.manager.headers)

    kinds = {item["type"]: item for item in answer.json()["items"]}
    about = ("identity.user", "identity.api_key", "identity.signing_key", "resources.catalogue_chunk")
    internal = tuple(f"vouajudar.{name}." for name in about)
    offered = "vouajudar.deliveries.follow_up.delivery_offered.v1"
    assert set(kinds) == {name for name in event_types() if not name.startswith(internal) and name != offered}
    assert kinds[READY]["schema"]["properties"]["batch_id"]
    assert kinds[READY]["example"]["type"] == READY
    assert kinds[READY]["description"]
    assert "vouajudar.webhooks.endpoint.test.v1" in kinds
    assert first.json()["items"] == [answer.json()["items"][0]]
    assert first.json()["next_cursor"]


async def test_times_are_utc(endpoint: Endpoint) -> None:
    """Moments are RFC 3339 with `Z`."""
    assert endpoint["created_at"].endswith("Z")
    assert datetime.fromisoformat(endpoint["created_at"]).tzinfo is not None
