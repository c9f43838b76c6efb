"""The routes of people: signing up, oneself, platform roles, suspension, volunteering."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Tap, eventually
from contracts.events import identity as events
from identity.repository import USERS

from services.identity.tests.people import PASSWORD, People, a_user, an_email

VOLUNTEER = {"vehicle": "car", "capacity_g": 150_000, "lat": -30.034647, "lon": -51.217658, "radius_m": 8_000}


async def test_anybody_signs_up(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """A new person gets an id and may sign in; the others hear the id and the language, nothing else."""
    body = a_user(locale="en")

    answer = await client.post("/v1/users", json=body)

    made = answer.json()
    assert answer.status_code == 201
    assert {made["email"], made["display_name"], made["locale"]} == {body["email"], "Ana Clara", "en"}
    assert "password" not in answer.text
    fact = await tap.saw(events.UserRegistered, UUID(made["id"]))
    assert fact.envelope.data == {"user_id": made["id"], "locale": "en"}
    await people.signed_in(body["email"])


async def test_an_address_is_one_person_in_any_case(client: httpx.AsyncClient) -> None:
    """The same address in other letters is taken."""
    body = a_user()

    first = await client.post("/v1/users", json=body)
    second = await client.post("/v1/users", json=body | {"email": body["email"].upper()})

    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "email-taken")


async def test_of_many_registrations_of_one_address_one_wins(client: httpx.AsyncClient) -> None:
    """However many sign up with one address at the same moment, one person comes of it."""
    body = a_user()

    answers = await asyncio.gather(*(client.post("/v1/users", json=body) for _ in range(8)))

    assert sorted(a.status_code for a in answers) == [201] + [409] * 7
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"email-taken"}


async def test_signing_up_is_idempotent_per_address(client: httpx.AsyncClient) -> None:
    """A repeated sign-up with its key gets the first answer; somebody else's same key is another one."""
    headers = {"Idempotency-Key": "first-try"}
    body = a_user()

    first = await client.post("/v1/users", json=body, headers=headers)
    again = await client.post("/v1/users", json=body, headers=headers)
    other = await client.post("/v1/users", json=a_user(), headers=headers)

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "no address"},
        {"email": "a@b"},
        {"email": "ana@exemplo.com.br\n"},
        {"email": "ana@exemplo..br"},
        {"email": "anaé@exemplo.br"},
        {"email": f"{'a' * 250}@exemplo.br"},
        {"password": "curta"},
        {"password": "x" * 257},
        {"password": 12345678},
        {"display_name": " "},
        {"display_name": None},
        {"locale": "fr"},
        {"roles": ["admin"]},
    ],
)
async def test_bad_sign_ups_are_refused(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    """Addresses, passwords, names and languages that cannot be meant are 422, unknown members too."""
    answer = await client.post("/v1/users", json=a_user(**changes))

    assert (answer.status_code, answer.json()["code"]) in [(422, "invalid-input"), (400, "bad-request")], answer.text


async def test_text_that_is_no_text_is_refused(client: httpx.AsyncClient) -> None:
    """Half a surrogate pair and NUL are 4xx, not a crash of the password hash or of the database."""
    good = json.dumps(a_user())
    for nasty in ("\\ud800", "\\u0000"):
        for member in ("Ana Clara", PASSWORD):
            body = good.replace(member, f"{member}{nasty}")
            answer = await client.post("/v1/users", content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) in [(422, "invalid-input"), (400, "bad-request")], body


async def test_me_is_the_caller(client: httpx.AsyncClient, people: People) -> None:
    """`/v1/me` shows who one is and what one may do, and to nobody without credentials."""
    person = await people.person()
    organization = await people.registered(person)

    me = (await client.get("/v1/me", headers=person.headers)).json()
    anonymous = await client.get("/v1/me")

    assert (me["id"], me["email"], me["locale"]) == (str(person.id), person.email, "pt-BR")
    assert me["roles"] == []
    assert me["memberships"] == [{"organization_id": organization["id"], "role": "manager"}]
    assert me["volunteer_profile"] is None
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthenticated")


async def test_a_volunteers_home_is_kept_coarse(
    client: httpx.AsyncClient, people: People, tap: Tap, database: Database
) -> None:
    """The point of a volunteer is rounded to two decimals before anything is kept or told; the same again is no news."""
    person = await people.person()

    offered = await client.put("/v1/me/volunteer-profile", json=VOLUNTEER, headers=person.headers)
    await client.put("/v1/me/volunteer-profile", json=VOLUNTEER, headers=person.headers)
    await client.put("/v1/me/volunteer-profile", json=VOLUNTEER | {"vehicle": "van"}, headers=person.headers)

    assert offered.json() == VOLUNTEER | {"lat": -30.03, "lon": -51.22}
    me = (await client.get("/v1/me", headers=person.headers)).json()
    assert me["volunteer_profile"] == VOLUNTEER | {"lat": -30.03, "lon": -51.22, "vehicle": "van"}
    await eventually(lambda: len(tap.of(events.VolunteerProfileChanged, person.id)) == 2)
    told: Any = tap.of(events.VolunteerProfileChanged, person.id)[0].event
    assert (told.lat, told.lon, told.vehicle) == (-30.03, -51.22, "car")
    assert await USERS.get(database.reading(), person.id) == await USERS.as_of(database.reading(), person.id)


@pytest.mark.parametrize(
    "changes",
    [{"vehicle": "rocket"}, {"capacity_g": -1}, {"capacity_g": 1.5}, {"lat": 91}, {"lon": "51"}, {"radius_m": 1}],
)
async def test_impossible_offers_are_refused(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any]
) -> None:
    """What nobody can carry, or from nowhere, is 422."""
    headers = (await people.admin()).headers

    answer = await client.put("/v1/me/volunteer-profile", json=VOLUNTEER | changes, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")


async def test_only_admins_grant_platform_roles(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """An admin makes coordinators and admins, at once and once; nobody else does."""
    person, admin = await people.person(), await people.admin()
    path = f"/v1/users/{person.id}/roles"

    refused = await client.post(path, json={"role": "admin"}, headers=person.headers)
    granted = await client.post(path, json={"role": "coordinator"}, headers=admin.headers)
    again = await client.post(path, json={"role": "coordinator"}, headers=admin.headers)
    unknown = await client.post(f"/v1/users/{new_id()}/roles", json={"role": "admin"}, headers=admin.headers)
    manager = await client.post(path, json={"role": "manager"}, headers=admin.headers)

    assert (refused.status_code, refused.json()["code"]) == (403, "admin-only")
    assert granted.json() == again.json() == {"id": str(person.id), "suspended": False, "roles": ["coordinator"]}
    assert (unknown.status_code, unknown.json()["code"]) == (404, "user-not-found")
    assert manager.status_code == 422
    assert (await client.get("/v1/me", headers=person.headers)).json()["roles"] == ["coordinator"]
    await tap.saw(events.PlatformRoleGranted, person.id)
    assert len(tap.of(events.PlatformRoleGranted, person.id)) == 1


async def test_a_suspended_person_is_out_at_once(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """Suspension ends access tokens, refresh tokens and sign-in, gives no more roles, and is told once."""
    person, admin = await people.person(), await people.admin()
    path = f"/v1/users/{person.id}/suspend"

    refused = await client.post(path, headers=person.headers)
    done = await client.post(path, headers=admin.headers)
    again = await client.post(path, headers=admin.headers)
    access = await client.get("/v1/me", headers=person.headers)
    renewed = await client.post("/v1/auth/refresh", json={"refresh_token": person.refresh_token})
    signed_in = await client.post("/v1/auth/login", json={"email": person.email, "password": PASSWORD})
    role = await client.post(f"/v1/users/{person.id}/roles", json={"role": "admin"}, headers=admin.headers)

    assert refused.status_code == 403
    assert done.json() == again.json() == {"id": str(person.id), "suspended": True, "roles": []}
    assert [a.status_code for a in (access, renewed, signed_in)] == [401, 401, 401]
    assert signed_in.json()["code"] == "person-suspended"
    assert (role.status_code, role.json()["code"]) == (409, "user-suspended")
    await tap.saw(events.UserSuspended, person.id)
    assert len(tap.of(events.UserSuspended, person.id)) == 1


async def test_an_admin_does_not_lock_the_door_from_outside(client: httpx.AsyncClient, people: People) -> None:
    """Nobody suspends themselves; nobody is nobody."""
    admin = await people.admin()

    oneself = await client.post(f"/v1/users/{admin.id}/suspend", headers=admin.headers)
    nobody = await client.post(f"/v1/users/{new_id()}/suspend", headers=admin.headers)

    assert (oneself.status_code, oneself.json()["code"]) == (409, "own-account")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "user-not-found")


async def test_create_admin_makes_promotes_and_repeats(people: People, client: httpx.AsyncClient, tap: Tap) -> None:
    """`create-admin` signs a new address up, promotes one that is there without touching its password, and may be repeated."""
    email, person = an_email(), await people.person()

    new = await people.create_admin(email)
    promoted = await people.create_admin(person.email.upper(), "another password")
    repeated = await people.create_admin(email)

    assert [(done.returncode, done.stderr) for done in (new, promoted, repeated)] == [(0, "")] * 3
    signed_in = await people.signed_in(email)
    assert (await client.get("/v1/me", headers=signed_in.headers)).json()["roles"] == ["admin"]
    assert (await client.get("/v1/me", headers=person.headers)).json()["roles"] == ["admin"]
    await people.signed_in(person.email)
    for id_ in (signed_in.id, person.id):
        await tap.saw(events.PlatformRoleGranted, id_)
        assert len(tap.of(events.PlatformRoleGranted, id_)) == 1


@pytest.mark.parametrize(("email", "password"), [("no address", PASSWORD), ("x@example.org", "short")])
async def test_create_admin_refuses_what_cannot_sign_in(people: People, email: str, password: str) -> None:
    """A bad address or password is refused with a line that says so."""
    done = await people.create_admin(email, password)

    assert done.returncode == 1
    assert done.stderr.startswith("create-admin: ")
    assert password not in done.stderr
