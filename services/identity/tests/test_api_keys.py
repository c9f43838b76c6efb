"""The routes of API keys: shown once, kept as a digest, scoped, rotated, revoked at once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.access import Directory, sandbox_of
from chassis.auth import Authenticator, Unauthenticated, make_key
from chassis.database import Database, Transaction
from chassis.kernel import new_id
from chassis.testing import Tap
from contracts.events import identity as events
from identity.repository import API_KEYS

from services.identity.tests.people import People, a_cnpj, a_key


async def _reads(client: httpx.AsyncClient, key: str) -> int:
    return (await client.get("/v1/places", headers={"X-API-Key": key})).status_code


async def test_a_key_is_shown_once(client: httpx.AsyncClient, people: People, tap: Tap, database: Database) -> None:
    """The answer to issuing holds the key, no other does; only its digest is kept and told."""
    tenant = await people.tenant()

    answer = await client.post("/v1/api-keys", json=a_key(tenant.id), headers=tenant.manager.headers)
    listed = await client.get(f"/v1/api-keys?organization_id={tenant.id}", headers=tenant.manager.headers)

    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert made["key"].startswith(made["prefix"])
    assert (made["prefix"][:9], len(made["prefix"]), made["cnpjs"]) == ("vaj_live_", 17, [tenant.cnpj[:8]])
    assert listed.json()["items"] == [{name: value for name, value in made.items() if name != "key"}]
    assert made["key"] not in listed.text
    assert await _reads(client, made["key"]) == 200
    told: Any = (await tap.saw(events.ApiKeyIssued, UUID(made["id"]))).event
    assert told.key_sha256 == hashlib.sha256(made["key"].encode()).hexdigest()
    assert (told.organization_id, told.scopes, told.env) == (tenant.id, ["batches:read"], "live")
    id_ = UUID(made["id"])
    assert await API_KEYS.get(database.reading(), id_) == await API_KEYS.as_of(database.reading(), id_)


async def test_a_repeated_issue_shows_the_same_key(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """The answer kept for an idempotency key is the same one, and lies encrypted."""
    tenant = await people.tenant()
    headers = tenant.manager.headers | {"Idempotency-Key": f"k-{new_id()}"}

    first = await client.post("/v1/api-keys", json=a_key(tenant.id), headers=headers)
    second = await client.post("/v1/api-keys", json=a_key(tenant.id), headers=headers)

    assert first.json() == second.json()
    assert second.headers["cache-control"] == "no-store"
    kept = await database.reading().fetch("SELECT answer FROM idempotency_keys")
    assert all(first.json()["key"].encode() not in row["answer"] for row in kept)


async def test_a_rotated_key_has_a_new_secret(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """Rotation keeps the key's id and rights; the old secret stops counting at once."""
    tenant = await people.tenant()
    made = await people.key(tenant, env="test")

    answer = await client.post(f"/v1/api-keys/{made['id']}/rotate", headers=tenant.manager.headers)

    new = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert {name for name in made if made[name] != new[name]} == {"key", "prefix"}
    assert new["key"].startswith("vaj_test_")
    assert (await _reads(client, made["key"]), await _reads(client, new["key"])) == (401, 200)
    await tap.saw(events.ApiKeyIssued, UUID(made["id"]))


async def test_a_revoked_key_counts_no_more(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """Revocation ends a key at once and for good; twice is once."""
    tenant = await people.tenant()
    made = await people.key(tenant)
    path, headers = f"/v1/api-keys/{made['id']}", tenant.manager.headers

    gone = [(await client.delete(path, headers=headers)).status_code for _ in range(2)]
    rotated = await client.post(f"{path}/rotate", headers=headers)

    assert gone == [204, 204]
    assert await _reads(client, made["key"]) == 401
    assert (rotated.status_code, rotated.json()["code"]) == (409, "api-key-not-active")
    listed = (await client.get("/v1/api-keys", headers=headers)).json()["items"]
    assert [item["status"] for item in listed] == ["revoked"]
    await tap.saw(events.ApiKeyRevoked, UUID(made["id"]))
    assert len(tap.of(events.ApiKeyRevoked, UUID(made["id"]))) == 1


async def test_an_expired_key_counts_no_more(client: httpx.AsyncClient, people: People, database: Database) -> None:
    """A key ends at its time, and is listed as expired; rotation does not bring it back."""
    tenant = await people.tenant()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await people.key(tenant, expires_at=soon)
    assert await _reads(client, made["key"]) == 200
    async with database.command() as tx:
        tx.write("UPDATE access_keys SET expires_at = now() WHERE api_key_id = $1", UUID(made["id"]))
        tx.write(
            "UPDATE api_keys SET expires_at = now(),"
            " state = jsonb_set(state, '{expires_at}', to_jsonb('2020-01-01T00:00:00Z'::text)) WHERE id = $1",
            UUID(made["id"]),
        )

    rotated = await client.post(f"/v1/api-keys/{made['id']}/rotate", headers=tenant.manager.headers)
    listed = (await client.get("/v1/api-keys", headers=tenant.manager.headers)).json()["items"]

    assert await _reads(client, made["key"]) == 401
    assert (rotated.status_code, rotated.json()["code"]) == (409, "api-key-not-active")
    assert [item["status"] for item in listed] == ["expired"]


async def test_a_key_with_a_bad_checksum_never_reaches_the_database(people: People, database: Database) -> None:
    """Junk, and keys with a changed character, are refused without a query; a well-formed stranger costs one."""
    queries: list[str] = []

    class Watched(Transaction):
        async def fetchrow(self, query: Any, *args: Any) -> Any:
            queries.append(str(query))
            return await super().fetchrow(query, *args)

    def reading() -> Transaction:
        return Watched(database.pool, {}, locking=False, hung=database.pool.expire_connections)  # type: ignore[arg-type]

    authenticator = Authenticator(Directory(reading, ttl_s=0), issuer="https://vouajudar.org")
    key = (await people.key(await people.tenant()))["key"]
    middle = "b" if key[20] != "b" else "c"
    for junk in (key[:20] + middle + key[21:], key[:-1], key + "0", key.upper(), "vaj_live_", "", "ключ"):
        with pytest.raises(Unauthenticated):
            await authenticator.principal({"x-api-key": junk})
    assert queries == []

    with pytest.raises(Unauthenticated):
        await authenticator.principal({"x-api-key": make_key("live")})
    assert (await authenticator.principal({"x-api-key": key})).kind == "key"
    assert len(queries) == 2


async def test_a_test_key_acts_for_a_sandbox(client: httpx.AsyncClient, people: People, database: Database) -> None:
    """A key of `env: test` is nobody in its organization: it sees of it what the public sees."""
    tenant = await people.tenant(verified=False)
    made = await people.key(tenant, env="test")
    headers = {"X-API-Key": made["key"]}

    principal = await Authenticator(Directory(database.reading, ttl_s=0), issuer="https://vouajudar.org").principal(
        {"x-api-key": made["key"]}
    )

    assert set(principal.memberships) == {sandbox_of(tenant.id)}
    assert (await client.get(f"/v1/organizations/{tenant.id}", headers=headers)).status_code == 404


async def test_only_managers_deal_with_keys(client: httpx.AsyncClient, people: People) -> None:
    """Staff gets 403, keys themselves 403, strangers 404, on every route of a key."""
    tenant, stranger = await people.tenant(), await people.person()
    made = await people.key(tenant)
    path = f"/v1/api-keys/{made['id']}"

    for headers, expected in (
        (tenant.staff.headers, (403, "not-a-manager")),
        ({"X-API-Key": made["key"]}, (403, "missing-scope")),
        (stranger.headers, (404, "api-key-not-found")),
    ):
        answers = [await client.post(f"{path}/rotate", headers=headers), await client.delete(path, headers=headers)]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [expected] * 2
    issued = [
        (await client.post("/v1/api-keys", json=a_key(tenant.id), headers=headers)).status_code
        for headers in (tenant.staff.headers, {"X-API-Key": made["key"]}, stranger.headers)
    ]
    listed = await client.get(f"/v1/api-keys?organization_id={tenant.id}", headers=tenant.staff.headers)
    unknown = await client.post("/v1/api-keys", json=a_key(new_id()), headers=tenant.manager.headers)

    assert issued == [403, 403, 403]
    assert listed.json()["items"] == []
    assert (unknown.status_code, unknown.json()["code"]) == (404, "organization-not-found")
    assert await _reads(client, made["key"]) == 200


async def test_a_key_loads_for_companies_its_issuer_answers_for(client: httpx.AsyncClient, people: People) -> None:
    """CNPJs, whole or roots, may be of nobody registered or of organizations one manages, not of somebody else's."""
    tenant, other = await people.tenant(), await people.tenant(verified=False)
    branch, stranger = a_cnpj(root=tenant.cnpj[:8]), a_cnpj()
    written = f"{branch[:2]}.{branch[2:5]}.{branch[5:8]}/{branch[8:12]}-{branch[12:]}"

    made = await people.key(tenant, cnpjs=[written, stranger[:8], stranger[:8]])
    foreign = [
        await client.post("/v1/api-keys", json=a_key(tenant.id, cnpjs=[cnpj]), headers=tenant.manager.headers)
        for cnpj in (other.cnpj, other.cnpj[:8], a_cnpj(root=other.cnpj[:8]))
    ]

    assert made["cnpjs"] == [branch, stranger[:8]]
    assert {(a.status_code, a.json()["code"]) for a in foreign} == {(403, "cnpj-of-another-organization")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scopes": []}, "invalid-input"),
        ({"scopes": ["batches:read", "batches:read"]}, "invalid-input"),
        ({"scopes": ["admin"]}, "invalid-input"),
        ({"env": "prod"}, "invalid-input"),
        ({"rate_per_minute": 0}, "invalid-input"),
        ({"name": "\t"}, "invalid-input"),
        ({"cnpjs": []}, "invalid-input"),
        ({"cnpjs": ["12abc345"]}, "invalid-input"),
        ({"cnpjs": ["16727230000198"]}, "cnpj-invalid"),
        ({"cnpjs": ["123456789"]}, "cnpj-invalid"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid"),
        ({"expires_at": "tomorrow"}, "invalid-input"),
        ({"key": "vaj_live_mine"}, "invalid-input"),
    ],
)
async def test_keys_that_make_no_sense_are_refused(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any], code: str
) -> None:
    """No scope, unknown scopes, wrong CNPJs and times gone by are 422."""
    admin = await people.admin()
    mine = await client.get("/v1/organizations?status=registered&limit=1", headers=admin.headers)
    organization_id = next((i["id"] for i in mine.json()["items"] if i["trade_name"] == "Chaves"), None)
    if organization_id is None:
        organization_id = (await people.registered(admin, trade_name="Chaves"))["id"]

    answer = await client.post("/v1/api-keys", json=a_key(UUID(organization_id)) | changes, headers=admin.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
