"""What the directory knows is the same in whichever order identity's facts come, and however often."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from chassis.access import ACCESS_TABLES, project_access
from chassis.database import Database
from chassis.kernel import new_id
from contracts.envelope import Event
from contracts.events import identity as events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ORGANIZATION, PERSON, KEY, PLACE = new_id(), new_id(), new_id(), new_id()


def _issued(digest: str, rate: int | None = None) -> Event:
    return events.ApiKeyIssued(
        api_key_id=KEY, organization_id=ORGANIZATION, key_sha256=digest * 64, env="live", scopes=["batches:read"],
        cnpjs=["11222333"], rate_per_minute=rate, expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def _place(kind: type[Event], *roles: str) -> Event:
    return kind.model_validate(
        {
            "place_id": PLACE, "organization_id": ORGANIZATION, "roles": roles, "ibge_city": "4314902", "lat": -30.0,
            "lon": -51.0, "tz": "America/Sao_Paulo", "accepts": [],
        }
    )  # fmt: skip


STORY: tuple[tuple[Event, int], ...] = (
    (events.OrganizationRegistered(organization_id=ORGANIZATION, cnpj="11222333000181", kinds=["provider"]), 1),
    (events.MembershipGranted(organization_id=ORGANIZATION, user_id=PERSON, role="staff"), 2),
    (events.OrganizationVerified(organization_id=ORGANIZATION, cnpj="11222333000181", kinds=["provider"]), 3),
    (events.MembershipRevoked(organization_id=ORGANIZATION, user_id=PERSON), 4),
    (events.MembershipGranted(organization_id=ORGANIZATION, user_id=PERSON, role="manager"), 5),
    (events.OrganizationSuspended(organization_id=ORGANIZATION), 6),
    (events.UserRegistered(user_id=PERSON, locale="pt-BR"), 1),
    (events.PlatformRoleGranted(user_id=PERSON, role="coordinator"), 2),
    (events.PlatformRoleGranted(user_id=PERSON, role="admin"), 3),
    (events.UserSuspended(user_id=PERSON), 4),
    (_issued("a"), 1),
    (_issued("b", rate=60), 2),
    (events.ApiKeyRevoked(api_key_id=KEY, organization_id=ORGANIZATION), 3),
    (_place(events.PlaceAdded, "pickup"), 1),
    (_place(events.PlaceChanged, "pickup", "receiving"), 2),
    (events.SigningKeyPublished(key_id="k1", jwk={"kty": "EC"}), 1),
)


async def _known(database: Database, story: list[tuple[Event, int]]) -> dict[str, list[str]]:
    await database.pool.execute(f"TRUNCATE {', '.join(ACCESS_TABLES)}")
    for event, version in story:
        async with database.command() as tx:
            project_access(tx, event, version)
    return {
        table: [row["t"] for row in await database.pool.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1")]
        for table in ACCESS_TABLES
    }


@given(order=st.permutations(STORY), again=st.lists(st.sampled_from(STORY), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_order_and_repetition_mean_nothing(
    database: Database, order: list[tuple[Event, int]], again: list[tuple[Event, int]]
) -> None:
    """The rows after any order of the facts are those after the order in which they happened."""
    straight = await _known(database, list(STORY))

    assert await _known(database, [*order, *again]) == straight


async def test_the_newest_fact_counts(database: Database) -> None:
    """The second secret of a key, the last role of a member, the wider roles of a place; who was suspended stays so."""
    known = await _known(database, list(STORY))
    [organization] = await database.pool.fetch("SELECT status, kinds, version FROM access_organizations")
    [member] = await database.pool.fetch("SELECT role FROM access_members")
    [person] = await database.pool.fetch("SELECT user_id, suspended, roles FROM access_users")
    [key] = await database.pool.fetch("SELECT key_sha256, rate_per_minute, revoked FROM access_keys")

    assert (organization["status"], organization["kinds"], organization["version"]) == ("suspended", ["provider"], 6)
    assert member["role"] == "manager"
    assert (UUID(int=person["user_id"].int), person["suspended"], person["roles"]) == (
        PERSON, True, ["admin", "coordinator"],
    )  # fmt: skip
    assert (key["key_sha256"], key["rate_per_minute"], key["revoked"]) == ("b" * 64, 60, True)
    assert len(known["access_places"]) == 1
