"""A route is one command: what it answers, what it keeps, what it refuses, on a small API of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from chassis import ratelimit
from chassis.access import Principal
from chassis.app import Runtime, Service, create_api
from chassis.database import Database
from chassis.kernel import ConcurrentUpdate, Conflict, new_id
from chassis.routing import Tx, api_router, require
from chassis.testing import Callers
from chassis.wire import Body, Count, UtcMoment
from fastapi import Response

router = api_router("probe")
Caller = Annotated[Principal, require("batches:read")]
clashes: list[int] = []


class Taken(Conflict):
    """The thing is there already."""

    slug = "thing-taken"


class ThingIn(Body):
    size: Count
    at: UtcMoment | None = None


class ThingOut(Body):
    id: UUID
    size: int


@router.post("/v1/things", status_code=201)
async def make_thing(body: ThingIn, tx: Tx, caller: Caller, response: Response) -> ThingOut:
    if clashes:
        clashes.pop()
        raise ConcurrentUpdate
    if body.size == 13:
        raise Taken("thirteen is taken", size=13)
    thing = ThingOut(id=new_id(), size=body.size)
    tx.write("INSERT INTO things (id, size) VALUES ($1, $2)", thing.id, thing.size)
    response.headers["Location"] = f"/v1/things/{thing.id}"
    return thing


@router.post("/v1/slow-things", status_code=201)
async def make_slow_thing(body: ThingIn, tx: Tx, caller: Caller) -> ThingOut:
    await tx.fetch("SELECT pg_sleep(0.3)")
    thing = ThingOut(id=new_id(), size=body.size)
    tx.write("INSERT INTO things (id, size) VALUES ($1, $2)", thing.id, thing.size)
    return thing


@router.get("/v1/things/{thing_id}")
async def get_thing(thing_id: UUID, caller: Caller) -> ThingOut:
    raise RuntimeError("a defect with a secret in it")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def runtime(service: Service, database: Database) -> AsyncIterator[Runtime]:
    await database.pool.execute("CREATE TABLE IF NOT EXISTS things (id uuid PRIMARY KEY, size int NOT NULL)")
    settings = service.settings.model_copy(update={"trace_sample_ratio": 0.5, "rate_per_minute": 100_000})
    made = Runtime(replace(service, routers=[router], settings=settings))
    await made.database.open()
    yield made
    await made.database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def api(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_api(runtime), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        yield client


@pytest.fixture
async def headers(callers: Callers) -> dict[str, str]:
    partner = await callers.partner(await callers.organization())
    return partner.headers


async def _things(database: Database, size: int) -> int:
    count: int = await database.reading().fetchval("SELECT count(*) FROM things WHERE size = $1", size)
    return count


async def test_the_effect_and_its_answer_are_kept_together(
    api: httpx.AsyncClient, headers: dict[str, str], database: Database
) -> None:
    """The same key gives the stored answer, with its headers, and no second effect."""
    keyed = headers | {"Idempotency-Key": "once-4711"}

    first = await api.post("/v1/things", json={"size": 4711}, headers=keyed)
    second = await api.post("/v1/things", json={"size": 4711}, headers=keyed)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert second.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    assert await _things(database, 4711) == 1


async def test_one_of_many_at_once_has_the_effect(
    api: httpx.AsyncClient, headers: dict[str, str], database: Database
) -> None:
    """Twenty requests with one key at the same time: one effect; the others are 409 while it runs."""
    keyed = headers | {"Idempotency-Key": "many"}

    answers = await asyncio.gather(*(api.post("/v1/slow-things", json={"size": 20}, headers=keyed) for _ in range(20)))

    assert sorted(a.status_code for a in answers) == [201] + [409] * 19
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"idempotency-in-progress"}
    assert await _things(database, 20) == 1


async def test_another_process_with_the_same_key_has_no_effect(
    runtime: Runtime, api: httpx.AsyncClient, headers: dict[str, str], database: Database
) -> None:
    """Two replicas given the same key at once: the database lets one effect in, and both give its answer."""
    keyed = headers | {"Idempotency-Key": "replicas"}
    other = Runtime(runtime.service)
    await other.database.open()
    transport = httpx.ASGITransport(create_api(other), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as replica:
        answers = await asyncio.gather(
            *(client.post("/v1/slow-things", json={"size": 21}, headers=keyed) for client in (api, replica))
        )
    await other.database.close()

    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert [a.headers.get("idempotency-replayed") for a in answers].count("true") == 1
    assert await _things(database, 21) == 1


async def test_a_rules_no_is_kept_too(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """A 409 decided by the domain is the key's answer; 422 is not kept."""
    keyed = headers | {"Idempotency-Key": "no"}

    first = await api.post("/v1/things", json={"size": 13}, headers=keyed)
    second = await api.post("/v1/things", json={"size": 13}, headers=keyed)
    malformed = await api.post("/v1/things", json={"size": -1}, headers=headers | {"Idempotency-Key": "bad"})
    mended = await api.post("/v1/things", json={"size": 1}, headers=headers | {"Idempotency-Key": "bad"})

    assert (first.status_code, first.json()["code"], first.json()["size"]) == (409, "thing-taken", 13)
    assert second.headers["idempotency-replayed"] == "true"
    assert (malformed.status_code, mended.status_code) == (422, 201)


async def test_a_lost_race_is_run_again(api: httpx.AsyncClient, headers: dict[str, str], database: Database) -> None:
    """A command that clashes is decided again on the new state, and gives up with 409 only after several tries."""
    clashes[:] = [1, 1]
    answer = await api.post("/v1/things", json={"size": 31}, headers=headers)
    clashes[:] = [1] * 10
    given_up = await api.post("/v1/things", json={"size": 32}, headers=headers)
    clashes.clear()

    assert answer.status_code == 201
    assert (given_up.status_code, given_up.json()["code"]) == (409, "concurrent-update")
    assert (await _things(database, 31), await _things(database, 32)) == (1, 0)


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "bad-json"),
        (b"", 422, "invalid-input"),
        (b'{"size": 1e400}', 422, "invalid-input"),
        (b'{"size": NaN}', 422, "invalid-input"),
        (b'{"size": ' + b"9" * 5000 + b"}", 400, "bad-request"),
        (b'{"size": 1, "at": "\\u0000"}', 400, "bad-request"),
        (b'{"size": true}', 422, "invalid-input"),
        (b'{"size": "1"}', 422, "invalid-input"),
        (b'{"size": 1, "more": 1}', 422, "invalid-input"),
        (b'{"size": 1, "at": "2026-02-30T00:00:00Z"}', 422, "invalid-input"),
        (b'{"size": 1, "at": "2026-02-03T00:00:00"}', 422, "invalid-input"),
        (b'{"size": 1, "at": 1700000000}', 422, "invalid-input"),
        (b"\xff\xfe", 400, "bad-json"),
        (b"[" * 200_000, 400, "bad-request"),
        (b" " * 1_048_577, 413, "body-too-large"),
    ],
)
async def test_bad_bodies_are_problems(
    api: httpx.AsyncClient, headers: dict[str, str], raw: bytes, status: int, code: str
) -> None:
    """Whatever the bytes, the answer is a problem with a stable code and the request's id."""
    json_headers = headers | {"Content-Type": "application/json", "X-Request-Id": "mine-1"}

    answer = await api.post("/v1/things", content=raw, headers=json_headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["request_id"], answer.headers["x-request-id"]) == ("mine-1", "mine-1")


async def test_a_body_that_hides_its_length_is_stopped(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Without Content-Length the bytes are counted as they come."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    answer = await api.post("/v1/things", content=chunks(), headers=headers | {"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not-found"),
        ("DELETE", "/v1/things", 405, "method-not-allowed"),
        ("GET", "/v1/things/%00", 400, "nul-character"),
        ("GET", "/v1/things/abc", 422, "invalid-input"),
        ("GET", f"/v1/things/{new_id()}", 500, "internal"),
    ],
)
async def test_every_error_is_a_problem(
    api: httpx.AsyncClient, headers: dict[str, str], method: str, path: str, status: int, code: str
) -> None:
    """Routing errors and defects of ours have the same shape, and a defect tells nothing of itself."""
    answer = await api.request(method, path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_a_wrong_content_type_is_415(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """A body that is not JSON is refused as such."""
    answer = await api.post("/v1/things", content=b"size=1", headers=headers | {"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


async def test_junk_request_ids_are_replaced(api: httpx.AsyncClient) -> None:
    """Only 1 to 128 harmless characters are echoed."""
    for junk in ("", "a b", "x" * 129, "ã", 'a"b'):
        answer = await api.get("/v1/nothing", headers={"X-Request-Id": junk.encode()})
        assert answer.headers["x-request-id"] != junk


async def test_a_quota_ends_with_429_and_says_when_to_come_back(
    api: httpx.AsyncClient, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key's own rate counts; what is left is told on every answer."""
    monkeypatch.setattr(ratelimit, "TIMEOUT_S", 5)  # a busy machine must not open the quota here
    partner = await callers.partner(await callers.organization(), rate_per_minute=3)

    answers = [await api.post("/v1/things", json={"size": 1}, headers=partner.headers) for _ in range(5)]

    assert [a.status_code for a in answers] == [201, 201, 201, 429, 429]
    assert answers[0].headers["ratelimit"].startswith('"default";r=2')
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["code"] == "quota-exceeded"


async def test_a_key_without_the_scope_is_403(api: httpx.AsyncClient, callers: Callers) -> None:
    """A key may do what its scopes say."""
    partner = await callers.partner(await callers.organization(), scopes=["webhooks:manage"])

    answer = await api.post("/v1/things", json={"size": 1}, headers=partner.headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


async def test_a_revoked_key_and_an_ended_session_stop_working(
    api: httpx.AsyncClient, callers: Callers, runtime: Runtime
) -> None:
    """Once the event is here the credentials count no more, at most a second later."""
    from chassis.testing import eventually
    from contracts.events.identity import ApiKeyRevoked, UserSessionEnded

    organization_id = await callers.organization()
    partner, person = await callers.partner(organization_id), await callers.person(member_of=organization_id)
    for caller in (partner, person):
        assert (await api.post("/v1/things", json={"size": 1}, headers=caller.headers)).status_code == 201

    assert person.session_id is not None
    await callers.know(ApiKeyRevoked(api_key_id=partner.id, organization_id=organization_id))
    await callers.know(UserSessionEnded(user_id=person.id, session_id=person.session_id))

    for caller in (partner, person):

        async def refused(headers: dict[str, Any] = caller.headers) -> None:
            assert (await api.post("/v1/things", json={"size": 1}, headers=headers)).status_code == 401

        await eventually(refused, timeout_s=2)
