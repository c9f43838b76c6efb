"""Credentials: what counts, and what junk never costs."""

from __future__ import annotations

import base64
import json
from uuid import UUID

import pytest
from chassis.access import Directory
from chassis.auth import Authenticator, Unauthenticated, key_is_well_formed, make_key
from chassis.database import Database
from chassis.testing import Callers
from chassis.testing.callers import ISSUER
from hypothesis import given
from hypothesis import strategies as st


def test_a_made_key_is_well_formed() -> None:
    """Keys carry their own checksum."""
    assert all(key_is_well_formed(make_key(env)) for env in ("live", "test"))


@given(position=st.integers(0, 52), character=st.sampled_from("0aZ_é"))
def test_one_changed_character_is_noticed(position: int, character: str) -> None:
    """Any single change makes the key junk."""
    key = make_key("live")
    changed = key[:position] + character + key[position + 1 :]

    assert key_is_well_formed(changed) is (changed == key)


class _NoLookups(Directory):
    async def by_key(self, key_sha256: str) -> None:
        raise AssertionError("junk reached the database")


@pytest.mark.parametrize(
    "junk", ["", "x", "vaj_live_" + "0" * 44, "vaj_prod_" + "0" * 44, "é" * 53, make_key("live") + "\n"]
)
async def test_junk_is_refused_without_a_look_up(database: Database, junk: str) -> None:
    """A bad checksum or shape costs no query."""
    authenticator = Authenticator(_NoLookups(database.reading, ttl_s=0), issuer=ISSUER)

    with pytest.raises(Unauthenticated):
        await authenticator.principal({"x-api-key": junk})


def _b64(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_tokens_that_do_not_count(database: Database, callers: Callers) -> None:
    """No algorithm, another key, another issuer's type, a changed claim, an unknown key id: all refused."""
    person = await callers.person()
    good = person.headers["Authorization"].removeprefix("Bearer ")
    header, claims, signature = good.split(".")
    clear = json.loads(base64.urlsafe_b64decode(header + "=="))
    body = json.loads(base64.urlsafe_b64decode(claims + "=="))
    other = Callers(database)
    forged = other.token(person.id, UUID(body["sid"]))
    authenticator = Authenticator(Directory(database.reading, ttl_s=0), issuer=ISSUER)
    assert (await authenticator.principal({"authorization": f"Bearer {good}"})).id == person.id
    for token in (
        f"{_b64(clear | {'alg': 'none'})}.{claims}.",
        f"{_b64(clear | {'alg': 'HS256'})}.{claims}.{signature}",
        f"{_b64(clear | {'typ': 'JWT'})}.{claims}.{signature}",
        f"{header}.{_b64(body | {'sub': str(UUID(int=1))})}.{signature}",
        forged,
        callers.token(person.id, UUID(body["sid"]), lasts_s=-1),
        "a.b.c",
        "é.é.é",
        "x" * 10_000,
        "..",
        "bnVsbA..",
    ):
        with pytest.raises(Unauthenticated):
            await authenticator.principal({"authorization": f"Bearer {token}"})
