"""What is personal or secret is where it belongs and nowhere else: not in events, outbox, logs or other tables."""

from __future__ import annotations

from typing import Any

import httpx
from chassis.database import Database
from chassis.testing import LiveService, Tap
from contracts.events import identity as events

from services.identity.tests.people import PASSWORD, People, a_key, an_email

# Where an e-mail address or a name may be; `users_private` is the row that an erasure deletes.
PERSONAL = {"users_private"}


async def _tables_with(database: Database, text: str) -> set[str]:
    """Every table with a row in which this text occurs, encoded in any way that keeps it readable."""
    names = await database.reading().fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'public' AND c.relkind = 'r'"
    )
    found = set()
    for (name,) in names:
        hit = await database.reading().fetchval(
            f"SELECT 1 FROM {name} t WHERE strpos(lower(t::text), lower($1)) > 0"
            " OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0 LIMIT 1",
            text,
        )
        if hit:
            found.add(name)
    return found


async def test_nothing_personal_or_secret_leaks(
    live: LiveService, client: httpx.AsyncClient, people: People, database: Database, tap: Tap
) -> None:
    """After a whole life of a person, the address and name are in one table, the secrets in none, the log has neither."""
    name = "Zulmira Quitéria Exemplar"
    email, password = an_email(), "senha-que-ninguem-mais-tem-73"
    person = await people.person(email=email, password=password, display_name=name)
    await client.post("/v1/auth/login", json={"email": email, "password": f"{password}?"})
    organization = await people.registered(person)
    member = {"email": (await people.person()).email, "role": "staff"}
    await client.post(f"/v1/organizations/{organization['id']}/members", json=member, headers=person.headers)
    headers = person.headers | {"Idempotency-Key": "privacy"}
    key = (await client.post("/v1/api-keys", json=a_key(organization["id"]), headers=headers)).json()["key"]
    pair = (await client.post("/v1/auth/refresh", json={"refresh_token": person.refresh_token})).json()
    await client.get("/v1/me", headers=person.headers)
    await client.post("/v1/auth/logout", headers=person.headers)
    await tap.saw(events.UserSessionEnded, person.id)

    secrets = {
        "password": password,
        "api key": key,
        "first refresh token": person.refresh_token,
        "refresh token": pair["refresh_token"],
        "access token": pair["access_token"],
        "signature": pair["access_token"].rpartition(".")[2],
    }
    assert await _tables_with(database, email) == PERSONAL
    assert await _tables_with(database, name) == PERSONAL
    for what, text in secrets.items():
        assert await _tables_with(database, text) == set(), what
    told = "".join(received.envelope.model_dump_json() for received in tap.received)
    log = live.log_path.read_text()
    assert "request.served" in log
    for what, text in {**secrets, "email": email, "name": name, "someone's password": PASSWORD}.items():
        assert text not in told, what
        assert text not in log, what
        assert text not in log.encode().decode("unicode_escape", "ignore"), what


async def test_stored_private_halves_are_encrypted(database: Database) -> None:
    """The private half of the signing key is readable in no table."""
    jwk: dict[str, Any] = await database.reading().fetchval("SELECT jwk FROM signing_keys")

    assert "d" not in jwk
    assert await _tables_with(database, '"d":') == set()
    assert await _tables_with(database, '"d": ') == set()
