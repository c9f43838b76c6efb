"""The routes of organizations: registration once per CNPJ, verification by admins, members and their rights."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Tap, eventually
from contracts.events import identity as events
from identity.repository import ORGANIZATIONS

from services.identity.tests.people import People, a_cnpj, an_organization


async def test_who_registers_an_organization_manages_it(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """A registered organization is its creator's to manage at once, and the others hear of both."""
    manager = await people.person()
    body = an_organization()

    answer = await client.post("/v1/organizations", json=body, headers=manager.headers)

    made = answer.json()
    assert (answer.status_code, made["status"], made["cnpj"]) == (201, "registered", body["cnpj"])
    assert answer.headers["location"] == f"/v1/organizations/{made['id']}"
    assert answer.headers["etag"] == f'"{made["version"]}"'
    me = (await client.get("/v1/me", headers=manager.headers)).json()
    assert me["memberships"] == [{"organization_id": made["id"], "role": "manager"}]
    registered = await tap.saw(events.OrganizationRegistered, UUID(made["id"]))
    assert registered.envelope.organizationid == UUID(made["id"])
    granted: Any = (await tap.saw(events.MembershipGranted, UUID(made["id"]))).event
    assert (granted.user_id, granted.role) == (manager.id, "manager")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("12.ABC.345/01DE-35", "12ABC34501DE35"), ("16.727.230/0001-97", "16727230000197")],
)
async def test_a_cnpj_is_kept_without_punctuation(
    client: httpx.AsyncClient, people: People, written: str, kept: str
) -> None:
    """Numeric and alphanumeric CNPJs are accepted as people write them."""
    manager = await people.person()

    answer = await client.post("/v1/organizations", json=an_organization(cnpj=written), headers=manager.headers)

    assert (answer.status_code, answer.json()["cnpj"]) == (201, kept)


@pytest.mark.parametrize(
    ("cnpj", "code"),
    [
        ("16.727.230/0001-98", "cnpj-invalid"),
        ("12ABC34501DE36", "cnpj-invalid"),
        ("00000000000000", "cnpj-invalid"),
        ("1672723000019A", "cnpj-invalid"),
        ("12abc34501de35", "invalid-input"),
        ("١٦٧٢٧٢٣٠٠٠٠١٩٧", "invalid-input"),
        ("1672723000019", "invalid-input"),
        (16727230000197, "invalid-input"),
    ],
)
async def test_a_bad_cnpj_is_refused(client: httpx.AsyncClient, people: People, cnpj: Any, code: str) -> None:
    """Wrong check digits, shapes, alphabets and types never become an organization."""
    manager = await people.person()

    answer = await client.post("/v1/organizations", json=an_organization(cnpj=cnpj), headers=manager.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == "/cnpj"


async def test_of_many_registrations_of_one_cnpj_one_wins(client: httpx.AsyncClient, people: People) -> None:
    """A CNPJ is registered once, however many try at the same moment."""
    manager = await people.person()
    body = an_organization()

    answers = await asyncio.gather(
        *(client.post("/v1/organizations", json=body, headers=manager.headers) for _ in range(20))
    )

    assert sorted(a.status_code for a in answers) == [201] + [409] * 19
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"cnpj-taken"}


async def test_only_admins_verify_and_suspend(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """Verification, suspension and its lifting are an admin's; each is told, and each must be possible."""
    tenant, admin = await people.tenant(verified=False), await people.admin()
    path = f"/v1/organizations/{tenant.id}"

    for act in ("verify", "suspend"):
        refused = await client.post(f"{path}/{act}", headers=tenant.manager.headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "admin-only")
    early = await client.post(f"{path}/suspend", json={}, headers=admin.headers)
    seen = [
        await client.post(f"{path}/{act}", headers=admin.headers) for act in ("verify", "suspend", "verify", "verify")
    ]

    assert (early.status_code, early.json()["current_status"]) == (409, "registered")
    assert [a.json().get("status") for a in seen[:3]] == ["verified", "suspended", "verified"]
    assert (seen[3].status_code, seen[3].json()["code"]) == (409, "invalid-transition")
    await eventually(lambda: len(tap.of(events.OrganizationVerified, tenant.id)) == 2)
    assert len(tap.of(events.OrganizationSuspended, tenant.id)) == 1


async def test_an_unverified_organization_is_its_members_business(client: httpx.AsyncClient, people: People) -> None:
    """Strangers get 404 on every route of an organization that is not verified, and change nothing."""
    tenant, stranger = await people.tenant(verified=False), await people.person()
    path = f"/v1/organizations/{tenant.id}"
    member = {"user_id": str(stranger.id), "role": "manager"}

    answers = [
        await client.get(path, headers=stranger.headers),
        await client.get(f"{path}/members", headers=stranger.headers),
        await client.post(f"{path}/members", json=member, headers=stranger.headers),
        await client.delete(f"{path}/members/{tenant.staff.id}", headers=stranger.headers),
        await client.post(f"{path}/close", headers=stranger.headers),
        await client.post(f"{path}/close", headers=stranger.headers | {"If-Match": '"1"'}),
    ]

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(404, "organization-not-found")}


async def test_a_verified_organization_is_public_but_not_yours(client: httpx.AsyncClient, people: People) -> None:
    """Anybody signed in sees a verified organization; acting on it without the right is 403."""
    tenant, stranger = await people.tenant(), await people.person()
    path = f"/v1/organizations/{tenant.id}"
    member = {"user_id": str(stranger.id), "role": "manager"}

    seen = await client.get(path, headers=stranger.headers)
    refused = [
        (await client.get(f"{path}/members", headers=stranger.headers), "not-a-member"),
        (await client.post(f"{path}/members", json=member, headers=stranger.headers), "not-a-manager"),
        (await client.post(f"{path}/members", json=member, headers=tenant.staff.headers), "not-a-manager"),
        (await client.delete(f"{path}/members/{tenant.staff.id}", headers=stranger.headers), "not-a-manager"),
        (await client.delete(f"{path}/members/{tenant.manager.id}", headers=tenant.staff.headers), "not-a-manager"),
        (await client.post(f"{path}/close", headers=tenant.staff.headers), "not-a-manager"),
    ]

    assert seen.status_code == 200
    assert [(a.status_code, a.json()["code"]) for a, _ in refused] == [(403, code) for _, code in refused]


async def test_members_come_by_id_or_address_and_go(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """A manager adds people by id or e-mail, changes their role and lets them go; each is told once."""
    tenant, joins = await people.tenant(verified=False), await people.person()
    path, headers = f"/v1/organizations/{tenant.id}/members", tenant.manager.headers

    added = await client.post(path, json={"email": joins.email.upper(), "role": "staff"}, headers=headers)
    again = await client.post(path, json={"user_id": str(joins.id), "role": "staff"}, headers=headers)
    promoted = await client.post(path, json={"user_id": str(joins.id), "role": "manager"}, headers=headers)
    listed = (await client.get(path, headers=joins.headers)).json()["items"]
    gone = await client.delete(f"{path}/{joins.id}", headers=headers)
    twice = await client.delete(f"{path}/{joins.id}", headers=headers)

    assert [a.status_code for a in (added, again, promoted, gone)] == [201, 201, 201, 204]
    assert added.json() == {"organization_id": str(tenant.id), "user_id": str(joins.id), "role": "staff"}
    assert added.headers["etag"] == again.headers["etag"]
    assert {m["user_id"]: m["role"] for m in listed}[str(joins.id)] == "manager"
    assert all(m["display_name"] == "Ana Clara" for m in listed)
    assert (twice.status_code, twice.json()["code"]) == (404, "member-not-found")
    assert (await client.get(path, headers=joins.headers)).status_code == 404
    await tap.saw(events.MembershipRevoked, tenant.id)
    roles = [(r.event.user_id, r.event.role) for r in tap.of(events.MembershipGranted, tenant.id)]  # type: ignore[attr-defined]
    assert roles[-2:] == [(joins.id, "staff"), (joins.id, "manager")]


async def test_an_organization_keeps_a_manager(client: httpx.AsyncClient, people: People) -> None:
    """The last manager is neither removed nor demoted, not even by two at once; staff may leave."""
    tenant = await people.tenant(verified=False)
    second = await people.person()
    path, headers = f"/v1/organizations/{tenant.id}/members", tenant.manager.headers

    alone = await client.delete(f"{path}/{tenant.manager.id}", headers=headers)
    demoted = await client.post(path, json={"user_id": str(tenant.manager.id), "role": "staff"}, headers=headers)
    left = await client.delete(f"{path}/{tenant.staff.id}", headers=tenant.staff.headers)
    await client.post(path, json={"user_id": str(second.id), "role": "manager"}, headers=headers)
    race = await asyncio.gather(
        client.delete(f"{path}/{second.id}", headers=headers),
        client.delete(f"{path}/{tenant.manager.id}", headers=second.headers),
    )

    assert [(a.status_code, a.json()["code"]) for a in (alone, demoted)] == [(409, "last-manager")] * 2
    assert left.status_code == 204
    assert sorted(a.status_code for a in race)[0] == 204
    remaining = [await client.get(path, headers=person.headers) for person in (tenant.manager, second)]
    assert sorted(a.status_code for a in remaining) == [200, 404]


async def test_members_are_people_who_may_sign_in(client: httpx.AsyncClient, people: People) -> None:
    """Nobody, and who is suspended, cannot become a member; one way of naming somebody is enough."""
    tenant, suspended = await people.tenant(verified=False), await people.person()
    await client.post(f"/v1/users/{suspended.id}/suspend", headers=(await people.admin()).headers)
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"user_id": str(new_id()), "role": "staff"}, 404, "user-not-found"),
        ({"email": "nobody@example.org", "role": "staff"}, 404, "user-not-found"),
        ({"user_id": str(suspended.id), "role": "staff"}, 409, "user-suspended"),
        ({"role": "staff"}, 422, "invalid-input"),
        ({"user_id": str(suspended.id), "email": suspended.email, "role": "staff"}, 422, "invalid-input"),
        ({"user_id": str(suspended.id), "role": "admin"}, 422, "invalid-input"),
    ]

    for body, status, code in cases:
        answer = await client.post(f"/v1/organizations/{tenant.id}/members", json=body, headers=tenant.manager.headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body


async def test_a_closed_organization_is_frozen(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """After closing nothing changes any more, its keys are revoked and its CNPJ stays taken."""
    tenant = await people.tenant()
    key, place = await people.key(tenant), await people.place(tenant)
    path, headers = f"/v1/organizations/{tenant.id}", tenant.manager.headers

    closed = await client.post(f"{path}/close", json={"reason": "mudança"}, headers=headers)
    after = [
        await client.post(f"{path}/close", headers=headers),
        await client.post(f"{path}/verify", headers=(await people.admin()).headers),
        await client.post(
            f"{path}/members", json={"user_id": str(tenant.staff.id), "role": "manager"}, headers=headers
        ),
        await client.patch(f"/v1/places/{place['id']}", json={"name": "Outra"}, headers=headers),
        await client.post("/v1/organizations", json=an_organization(cnpj=tenant.cnpj), headers=headers),
    ]

    assert (closed.status_code, closed.json()["status"]) == (200, "closed")
    assert [a.json()["code"] for a in after] == [
        "invalid-transition",
        "invalid-transition",
        "organization-closed",
        "organization-closed",
        "cnpj-taken",
    ]
    assert (await client.get("/v1/places", headers={"X-API-Key": key["key"]})).status_code == 401
    await tap.saw(events.OrganizationClosed, tenant.id)
    await tap.saw(events.ApiKeyRevoked, UUID(key["id"]))


async def test_a_stale_if_match_changes_nothing(client: httpx.AsyncClient, people: People) -> None:
    """`If-Match` with another version is 412 on every command of an organization, the present one passes."""
    tenant, admin = await people.tenant(), await people.admin()
    path = f"/v1/organizations/{tenant.id}"
    version = (await client.get(path, headers=admin.headers)).headers["etag"]
    member = {"user_id": str(tenant.staff.id), "role": "manager"}
    stale = {"If-Match": '"1"'}

    answers = [
        await client.post(f"{path}/suspend", headers=admin.headers | stale),
        await client.post(f"{path}/verify", headers=admin.headers | stale),
        await client.post(f"{path}/close", headers=tenant.manager.headers | stale),
        await client.post(f"{path}/members", json=member, headers=tenant.manager.headers | stale),
        await client.delete(f"{path}/members/{tenant.staff.id}", headers=tenant.manager.headers | stale),
    ]
    passed = await client.post(f"{path}/suspend", headers=admin.headers | {"If-Match": version})

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(412, "stale")}
    assert passed.status_code == 200


async def test_lists_show_ones_own_and_admins_everything(client: httpx.AsyncClient, people: People) -> None:
    """People list their organizations page by page, admins filter all of them; a foreign cursor is 400."""
    person = await people.person()
    made = {(await people.registered(person))["id"] for _ in range(5)}
    await people.tenant()
    seen: list[str] = []
    url: str | None = "/v1/organizations?limit=2"
    while url:
        page = await client.get(url, headers=person.headers)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    admin = await people.admin()
    verified = await client.get("/v1/organizations?status=verified&limit=200", headers=admin.headers)
    both = await client.get("/v1/organizations?status=registered&status=verified&limit=200", headers=admin.headers)
    bad = await client.get("/v1/organizations?cursor=abc", headers=person.headers)

    assert (set(seen), len(seen)) == (made, 5)
    assert {item["status"] for item in verified.json()["items"]} == {"verified"}
    assert made <= {item["id"] for item in both.json()["items"]}
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-cursor")


async def test_keys_read_what_is_public_and_decide_nothing(client: httpx.AsyncClient, people: People) -> None:
    """A key that may read sees verified organizations and its own; commands are for people, writing keys read nothing."""
    tenant, other = await people.tenant(), await people.tenant(verified=False)
    reads = {"X-API-Key": (await people.key(tenant))["key"]}
    writes = {"X-API-Key": (await people.key(tenant, scopes=["batches:write"]))["key"]}

    answers = [
        await client.get(f"/v1/organizations/{tenant.id}", headers=reads),
        await client.get(f"/v1/organizations/{other.id}", headers=reads),
        await client.get(f"/v1/organizations/{tenant.id}", headers=writes),
        await client.post("/v1/organizations", json=an_organization(), headers=reads),
        await client.post(f"/v1/organizations/{tenant.id}/close", headers=reads),
        await client.get(f"/v1/organizations/{tenant.id}/members", headers=reads),
        await client.get("/v1/me", headers=reads),
    ]

    assert [a.status_code for a in answers] == [200, 404, 403, 403, 403, 403, 403]


async def test_an_organization_is_the_fold_of_its_events(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """Whatever happened to it, the row is what the stream folds to."""
    tenant = await people.tenant()
    await client.delete(f"/v1/organizations/{tenant.id}/members/{tenant.staff.id}", headers=tenant.manager.headers)

    row = await ORGANIZATIONS.get(database.reading(), tenant.id)
    folded = await ORGANIZATIONS.as_of(database.reading(), tenant.id)

    assert row == folded


async def test_the_same_key_registers_once(client: httpx.AsyncClient, people: People) -> None:
    """A repeated POST with its idempotency key is answered again, not done again."""
    manager = await people.person()
    headers = manager.headers | {"Idempotency-Key": f"k-{new_id()}"}
    body = an_organization()

    first = await client.post("/v1/organizations", json=body, headers=headers)
    second = await client.post("/v1/organizations", json=body, headers=headers)
    other = await client.post("/v1/organizations", json=body | {"cnpj": a_cnpj()}, headers=headers)

    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert other.status_code == 422
