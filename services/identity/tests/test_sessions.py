"""Signing in and staying so: tokens that count and tokens that do not, rotation, grace, reuse, logout."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import LiveService, Tap, eventually, free_port
from contracts.events import identity as events
from identity.tokens import refresh_digest
from identity.usecases import sessions
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from services.identity.tests.people import PASSWORD, People, Person, an_email


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified."""
    header, claims = (json.loads(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in token.split(".")[:2])
    return header, claims


def _token(person: Person) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


async def _refreshed(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/v1/auth/refresh", json={"refresh_token": token})


async def _me(client: httpx.AsyncClient, access_token: str) -> int:
    return (await client.get("/v1/me", headers={"Authorization": f"Bearer {access_token}"})).status_code


async def _grow_old(database: Database, token: str, seconds: int) -> None:
    """Let a refresh token have been replaced so much earlier."""
    async with database.command() as tx:
        tx.write(
            "UPDATE refresh_tokens SET replaced_at = replaced_at - make_interval(secs => $2) WHERE token_sha256 = $1",
            refresh_digest(token),
            seconds,
        )


async def test_a_sign_in_gives_a_token_that_verifies_by_the_published_key(
    client: httpx.AsyncClient, people: People, tap: Tap
) -> None:
    """Access tokens are RFC 9068 JWTs of ten minutes, signed with the key in the JWK set, which the others heard of."""
    person = await people.person()
    answer = await client.post("/v1/auth/login", json={"email": person.email.upper(), "password": PASSWORD})
    body = answer.json()
    header, claims = _parts(body["access_token"])

    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    key = next(key for key in keys if key["kid"] == header["kid"])
    verified = jwt.decode(body["access_token"], ECKey.import_key(key), algorithms=["ES256"])

    assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)
    assert answer.headers["cache-control"] == "no-store"
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key["kid"]}
    assert verified.claims["sub"] == str(person.id)
    assert claims.keys() == {"iss", "aud", "sub", "sid", "client_id", "jti", "iat", "exp"}
    assert claims["exp"] - claims["iat"] == 600
    assert "d" not in key
    told: Any = (await tap.saw(events.SigningKeyPublished)).event
    assert (told.key_id, told.jwk) == (key["kid"], key)


async def test_discovery_names_issuer_and_keys(client: httpx.AsyncClient, people: People) -> None:
    """The discovery document says what tokens say."""
    _, claims = _parts(_token(await people.admin()))

    found = (await client.get("/.well-known/openid-configuration")).json()

    assert found["issuer"] == claims["iss"]
    assert found["jwks_uri"].endswith("/.well-known/jwks.json")


async def test_unknown_and_wrong_are_the_same_answer(client: httpx.AsyncClient, people: People) -> None:
    """An unknown address and a wrong password cannot be told apart, by answer or by time."""
    person = await people.person()

    async def attempt(email: str) -> tuple[float, httpx.Response]:
        started = time.perf_counter()
        answer = await client.post("/v1/auth/login", json={"email": email, "password": "not the password"})
        return time.perf_counter() - started, answer

    wrong = [await attempt(person.email) for _ in range(5)]
    unknown = [await attempt(an_email()) for _ in range(5)]

    bodies = [{k: v for k, v in a.json().items() if k != "request_id"} for _, a in (*wrong, *unknown)]
    assert all(body == bodies[0] for body in bodies)
    assert (bodies[0]["status"], bodies[0]["code"]) == (401, "wrong-credentials")
    assert min(s for s, _ in unknown) > min(s for s, _ in wrong) / 2


async def test_sign_in_attempts_are_counted(client: httpx.AsyncClient, people: People) -> None:
    """After ten attempts within a minute an account is closed to that address, even with the right password."""
    person, other = await people.person(), await people.person()
    wrong = {"email": person.email, "password": "not the password"}

    answers = [await client.post("/v1/auth/login", json=wrong) for _ in range(10)]
    right = await client.post("/v1/auth/login", json={"email": person.email.upper(), "password": PASSWORD})

    assert {a.status_code for a in answers[:9]} == {401}
    assert (right.status_code, right.json()["code"]) == (429, "quota-exceeded")
    assert int(right.headers["retry-after"]) >= 1
    await people.signed_in(other.email)


async def test_sign_in_fails_closed_without_redis(
    environment: dict[str, str], people: People, client: httpx.AsyncClient
) -> None:
    """When attempts cannot be counted nobody signs in, but who is signed in goes on."""
    person = await people.person()
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    ports = {"VAJ_API_PORT": str(free_port()), "VAJ_OPS_PORT": str(free_port())}
    process = LiveService("identity", environment | ports | {"VAJ_REDIS_URL": nowhere}, role="api")
    await process.start_soon()
    try:
        async with httpx.AsyncClient(base_url=process.url, timeout=20) as alone:
            refused = await alone.post("/v1/auth/login", json={"email": person.email, "password": PASSWORD})
            me = await alone.get("/v1/me", headers=person.headers)
    finally:
        process.kill()

    assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")
    assert me.status_code == 200


async def test_a_refresh_token_is_used_once(client: httpx.AsyncClient, people: People) -> None:
    """Each refresh gives a new pair of the same session, and the newest goes on."""
    person = await people.person()

    first = (await _refreshed(client, person.refresh_token)).json()
    second = await _refreshed(client, first["refresh_token"])

    assert second.status_code == 200
    assert first["refresh_token"] not in (person.refresh_token, second.json()["refresh_token"])
    assert _parts(first["access_token"])[1]["sid"] == _parts(_token(person))[1]["sid"]
    assert await _me(client, second.json()["access_token"]) == 200


async def test_a_lost_answer_may_be_asked_for_again(
    client: httpx.AsyncClient, people: People, database: Database, tap: Tap
) -> None:
    """Within 20 s the old token works again, also for several at once; each pair goes on."""
    person = await people.person()

    answers = await asyncio.gather(*(_refreshed(client, person.refresh_token) for _ in range(5)))
    await _grow_old(database, person.refresh_token, 15)
    later = await _refreshed(client, person.refresh_token)

    assert [a.status_code for a in (*answers, later)] == [200] * 6
    assert len({a.json()["refresh_token"] for a in (*answers, later)}) == 6
    assert (await _refreshed(client, answers[0].json()["refresh_token"])).status_code == 200
    assert tap.of(events.UserSessionEnded, person.id) == []


async def test_a_token_used_again_later_ends_the_session(
    client: httpx.AsyncClient, people: People, database: Database, tap: Tap
) -> None:
    """A replaced token that comes back after the grace was copied: its session ends for both, and is told once."""
    person = await people.person()
    thief = (await _refreshed(client, person.refresh_token)).json()
    await _grow_old(database, person.refresh_token, 21)

    reused = await asyncio.gather(*(_refreshed(client, person.refresh_token) for _ in range(3)))

    assert {a.status_code for a in reused} == {401}
    assert {a.json()["code"] for a in reused} <= {"refresh-token-reused", "refresh-token-invalid"}
    assert "refresh-token-reused" in {a.json()["code"] for a in reused}
    assert (await _refreshed(client, thief["refresh_token"])).json()["code"] == "refresh-token-invalid"
    assert await _me(client, thief["access_token"]) == 401
    ended: Any = (await tap.saw(events.UserSessionEnded, person.id)).event
    assert str(ended.session_id) == _parts(thief["access_token"])[1]["sid"]
    await people.signed_in(person.email)
    assert len(tap.of(events.UserSessionEnded, person.id)) == 1


async def test_an_expired_refresh_token_counts_no_more(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """Thirty days without a refresh end a session quietly."""
    person = await people.person()
    async with database.command() as tx:
        tx.write(
            "UPDATE refresh_tokens SET expires_at = now() WHERE token_sha256 = $1",
            refresh_digest(person.refresh_token),
        )

    answer = await _refreshed(client, person.refresh_token)

    assert (answer.status_code, answer.json()["code"]) == (401, "refresh-token-invalid")


@pytest.mark.parametrize("by", ["access token", "refresh token", "both"])
async def test_logout_ends_the_session_alone(client: httpx.AsyncClient, people: People, tap: Tap, by: str) -> None:
    """After logout, by either token, neither counts; the person's other sessions go on."""
    person = await people.person()
    other = await people.signed_in(person.email)
    headers = {} if by == "refresh token" else person.headers
    body = None if by == "access token" else {"refresh_token": person.refresh_token}

    answer = await client.post("/v1/auth/logout", headers=headers, json=body)

    assert (answer.status_code, answer.content) == (204, b"")
    assert await _me(client, _token(person)) == 401
    assert (await _refreshed(client, person.refresh_token)).status_code == 401
    assert await _me(client, _token(other)) == 200
    ended: Any = (await tap.saw(events.UserSessionEnded, person.id)).event
    assert str(ended.session_id) == _parts(_token(person))[1]["sid"]


async def test_logging_out_twice_or_of_nothing(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """An ended or unknown refresh token needs no logout; without any token there is nobody to log out."""
    person = await people.person()
    body = {"refresh_token": person.refresh_token}

    answers = [await client.post("/v1/auth/logout", json=body) for _ in range(2)]
    unknown = await client.post("/v1/auth/logout", json={"refresh_token": "x" * 43})
    nobody = await client.post("/v1/auth/logout")

    assert [a.status_code for a in (*answers, unknown, nobody)] == [204, 204, 204, 401]
    await tap.saw(events.UserSessionEnded, person.id)
    assert len(tap.of(events.UserSessionEnded, person.id)) == 1


async def test_tokens_that_do_not_count_are_401(client: httpx.AsyncClient, people: People) -> None:
    """Altered, expired, unsigned, otherwise signed and otherwise addressed tokens are all refused alike."""
    person = await people.person()
    good = _token(person)
    header, claims = _parts(good)
    stranger = ECKey.generate_key("P-256", parameters={"kid": header["kid"]})
    public = (await client.get("/.well-known/jwks.json")).json()["keys"][0]
    hmac_key = OctKey.import_key(json.dumps(public))

    def signed(**changes: Any) -> str:
        return jwt.encode(header, claims | changes, stranger, algorithms=["ES256"])

    def unsigned(algorithm: str) -> str:
        parts = [json.dumps(header | {"alg": algorithm}).encode(), json.dumps(claims).encode(), b""]
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    head, body, signature = good.split(".")
    promoted = base64.urlsafe_b64encode(json.dumps(claims | {"sub": str(new_id())}).encode()).decode().rstrip("=")
    tokens = {
        "altered signature": good[:-6] + ("AAAAAA" if not good.endswith("AAAAAA") else "BBBBBB"),
        "altered claims": f"{head}.{promoted}.{signature}",
        "no signature": f"{head}.{body}.",
        "alg none": unsigned("none"),
        "alg None": unsigned("None"),
        "wrong key": signed(),
        "HMAC with the public key": jwt.encode(header | {"alg": "HS256"}, claims, hmac_key, algorithms=["HS256"]),
        "unknown key": jwt.encode(header | {"kid": "nobody"}, claims, stranger, algorithms=["ES256"]),
        "junk": "x.y.z",
        "much junk": "x" * 10_000,
        "refresh token": person.refresh_token,
    }

    for name, token in tokens.items():
        answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), name
        assert "bearer" in answer.headers["www-authenticate"].lower()


async def test_an_access_token_expires(environment: dict[str, str], people: People, client: httpx.AsyncClient) -> None:
    """After its seconds an access token counts no more, and the session goes on by refresh."""
    person = await people.person()
    ports = {"VAJ_API_PORT": str(free_port()), "VAJ_OPS_PORT": str(free_port())}
    process = LiveService("identity", environment | ports | {"VAJ_TOKEN_TTL_S": "1"}, role="api")
    await process.start_soon()
    try:
        async with httpx.AsyncClient(base_url=process.url, timeout=20) as brief:
            pair = (await _refreshed(brief, person.refresh_token)).json()
            expired = pair["access_token"]
            await eventually(lambda: _is_refused(client, expired))
            again = await _refreshed(brief, pair["refresh_token"])
    finally:
        process.kill()

    assert pair["expires_in"] == 1
    assert again.status_code == 200


async def _is_refused(client: httpx.AsyncClient, token: str) -> bool:
    return await _me(client, token) == 401


async def test_processes_share_one_signing_key(
    environment: dict[str, str], client: httpx.AsyncClient, people: People, tap: Tap, database: Database
) -> None:
    """However many processes start, there is one key pair, its private half encrypted, told once."""
    ports = {"VAJ_API_PORT": str(free_port()), "VAJ_OPS_PORT": str(free_port())}
    process = LiveService("identity", environment | ports, role="api")
    await process.start_soon()
    try:
        async with httpx.AsyncClient(base_url=process.url, timeout=20) as second:
            keys = (await second.get("/.well-known/jwks.json")).json()
            me = await second.get("/v1/me", headers=(await people.person()).headers)
    finally:
        process.kill()

    assert keys == (await client.get("/.well-known/jwks.json")).json()
    assert len(keys["keys"]) == 1
    assert me.status_code == 200
    assert len(tap.of(events.SigningKeyPublished)) == 1
    sealed: bytes = await database.reading().fetchval("SELECT sealed FROM signing_keys_private")
    assert b"kty" not in sealed


async def test_old_sessions_are_forgotten(people: People, database: Database) -> None:
    """What can do nothing any more is removed, and only that."""
    old, fresh = await people.person(), await people.person()
    async with database.transaction() as tx:
        tx.write("UPDATE sessions SET expires_at = now() - interval '1 day' WHERE user_id = $1", old.id)
        tx.write(
            "UPDATE refresh_tokens SET expires_at = now() - interval '1 day'"
            " WHERE session_id IN (SELECT id FROM sessions WHERE user_id = $1)",
            old.id,
        )

    async with database.transaction() as tx:
        await sessions.forget_old(tx, now=datetime.now(UTC))

    left: list[UUID] = [
        row["user_id"]
        for row in await database.reading().fetch(
            "SELECT DISTINCT s.user_id FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id"
            " WHERE s.user_id = ANY($1::uuid[])",
            [old.id, fresh.id],
        )
    ]
    assert left == [fresh.id]
