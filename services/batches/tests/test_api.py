"""The routes of batches on a live process: status, problem code and rights per role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest_asyncio
from chassis.kernel import new_id
from chassis.testing import Callers
from chassis.testing.callers import Caller

from services.batches.tests.builders import a_batch


class Provider:
    """A verified provider with a place, a partner's key and a manager."""

    organization_id: UUID
    place_id: UUID
    partner: Caller
    manager: Caller


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def provider(callers: Callers) -> Provider:
    made = Provider()
    made.organization_id = await callers.organization()
    made.place_id = await callers.place(made.organization_id)
    made.partner = await callers.partner(made.organization_id)
    made.manager = await callers.person(member_of=made.organization_id)
    return made


async def _created(client: httpx.AsyncClient, provider: Provider, **changes: Any) -> dict[str, Any]:
    answer = await client.post(
        "/v1/batches", json=a_batch(provider.place_id, **changes), headers=provider.partner.headers
    )
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_partner_announces_and_offers_a_batch(client: httpx.AsyncClient, provider: Provider) -> None:
    """A batch starts in `producing` with everything available, and `ready` opens it."""
    batch = await _created(client, provider)
    assert batch["status"] == "producing"
    assert batch["quantities"] == {"total": 40, "available": 40, "held": 0, "in_transit": 0, "delivered": 0, "lost": 0}

    answer = await client.post(f"/v1/batches/{batch['id']}/ready", json={}, headers=provider.manager.headers)

    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ready"
    assert answer.headers["etag"] == '"2"'


async def test_the_same_key_gives_the_same_answer_once(client: httpx.AsyncClient, provider: Provider) -> None:
    """A repeated POST with its key has one effect; another body with the key is refused."""
    headers = provider.partner.headers | {"Idempotency-Key": f"k-{new_id()}"}
    body = a_batch(provider.place_id)

    first = await client.post("/v1/batches", json=body, headers=headers)
    second = await client.post("/v1/batches", json=body, headers=headers)
    other = await client.post("/v1/batches", json=body | {"quantity": 41}, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


async def test_a_foreign_batch_is_not_found(client: httpx.AsyncClient, provider: Provider, callers: Callers) -> None:
    """Another tenant's unpublished batch is 404 on every route."""
    batch = await _created(client, provider)
    stranger = await callers.person(member_of=await callers.organization())
    stale = stranger.headers | {"If-Match": '"9"'}
    path = f"/v1/batches/{batch['id']}"

    answers = [
        await client.get(path, headers=stranger.headers),
        await client.get(f"{path}/history", headers=stranger.headers),
        await client.post(f"{path}/ready", json={}, headers=stranger.headers),
        await client.post(f"{path}/ready", json={}, headers=stale),
        await client.post(f"{path}/adjust", json={"quantity": 3, "reason": "x"}, headers=stranger.headers),
        await client.post(f"{path}/cancel", json={"reason": "x"}, headers=stranger.headers),
        await client.post(f"{path}/recall", json={"reason": "x", "severity": "low"}, headers=stranger.headers),
        await client.post(
            f"{path}/temperatures", json={"temperature_dc": 30, "stage": "storage"}, headers=stranger.headers
        ),
    ]

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(404, "batch-not-found")}


async def test_bad_input_is_a_problem_never_an_error(client: httpx.AsyncClient, provider: Provider) -> None:
    """Whatever is sent, the answer is a 4xx problem with a stable code."""
    headers = provider.partner.headers | {"Content-Type": "application/json"}
    good = a_batch(provider.place_id)
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    cases: list[tuple[bytes | None, dict[str, Any] | None, int, str]] = [
        (b"{", None, 400, "bad-json"),
        (b'{"quantity": 1e400}', None, 422, "invalid-input"),
        (b'{"handling_notes": "a\\u0000b"}', None, 400, "bad-request"),
        (b"[" * 100_000, None, 400, "bad-request"),
        (b" " * 1_100_000, None, 413, "body-too-large"),
        (None, good | {"surprise": 1}, 422, "invalid-input"),
        (None, good | {"quantity": "40"}, 422, "invalid-input"),
        (None, good | {"quantity": 0}, 422, "invalid-input"),
        (None, good | {"quantity": -1}, 422, "invalid-input"),
        (None, good | {"quantity": True}, 422, "invalid-input"),
        (None, good | {"use_by_at": past}, 422, "invalid"),
        (None, good | {"use_by_at": 5}, 422, "invalid-input"),
        (None, good | {"place_id": str(new_id())}, 404, "place-not-found"),
    ]
    for raw, body, status, code in cases:
        answer = (
            await client.post("/v1/batches", content=raw, headers=headers)
            if raw
            else await client.post("/v1/batches", json=body, headers=headers)
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code), (raw or body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_lists_page_through_everything_once(client: httpx.AsyncClient, provider: Provider) -> None:
    """Following `next_cursor` gives each batch once; a cursor of nobody's making is 400."""
    made = {(await _created(client, provider))["id"] for _ in range(5)}
    seen: list[str] = []
    url: str | None = f"/v1/batches?organization_id={provider.organization_id}&limit=2"
    while url:
        page = await client.get(url, headers=provider.partner.headers)
        assert page.status_code == 200, page.text
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    bad = await client.get("/v1/batches?cursor=abc", headers=provider.partner.headers)

    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-cursor")


async def test_a_stale_if_match_changes_nothing(client: httpx.AsyncClient, provider: Provider) -> None:
    """`If-Match` with an older version is 412."""
    batch = await _created(client, provider)
    headers = provider.manager.headers | {"If-Match": '"9"'}

    answer = await client.post(f"/v1/batches/{batch['id']}/ready", json={}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (412, "stale")


async def test_credentials_that_do_not_count_are_401(
    client: httpx.AsyncClient, provider: Provider, callers: Callers
) -> None:
    """No, altered, expired and badly formed credentials are all 401."""
    expired = await callers.person(lasts_s=-10)
    good = provider.manager.headers["Authorization"]
    for headers in (
        {},
        {"Authorization": good[:-4] + "AAAA"},
        {"Authorization": "Bearer x.y.z"},
        expired.headers,
        {"X-API-Key": "vaj_live_junk"},
        {"X-API-Key": provider.partner.headers["X-API-Key"][:-1] + "!"},
    ):
        answer = await client.get("/v1/batches", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), headers
