"""One batch among fifty thousand open needs: found by an index, a bounded number looked at, the urgent ones among them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from chassis.database import Database
from chassis.kernel import new_id
from resources import repository
from resources.domain import (
    RADIUS_M,
    BatchId,
    Offer,
    OrganizationId,
    PlaceId,
    Urgency,
    cell_of,
    cells_around,
    distance_m,
    ranked,
)
from resources.repository.matches import PER_CELL, WANTED

NEEDS, PLACES, PER_REQUEST = 50_000, 2_000, 5
CENTRE = (-30.03, -51.21)
CATEGORIES = ["prepared", "dry", "dairy", "bakery", "produce", "hygiene", "cleaning", "baby"]
NOW = datetime.now(UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(database: Database) -> AsyncIterator[Database]:
    """Fifty thousand open needs within some twenty kilometres, each of one of eight categories."""
    places = [new_id() for _ in range(PLACES)]
    points = [(CENTRE[0] + (n % 50 - 25) / 160, CENTRE[1] + (n // 50 - 20) / 120) for n in range(PLACES)]
    pool = database.pool
    await pool.execute(
        """INSERT INTO access_organizations (organization_id, status, kinds, cnpj, version)
           SELECT p, 'verified', '{receiver}', NULL, 1 FROM unnest($1::uuid[]) AS p""",
        places,
    )
    await pool.execute(
        """INSERT INTO access_places (place_id, organization_id, roles, ibge_city, lat, lon, tz, accepts, version)
           SELECT p, p, '{receiving}', '4314902', y, x, 'UTC', '{}', 1
           FROM unnest($1::uuid[], $2::float8[], $3::float8[]) AS t (p, y, x)""",
        places,
        [lat for lat, _ in points],
        [lon for _, lon in points],
    )
    requests = [(new_id(), n % PLACES) for n in range(NEEDS // PER_REQUEST)]
    await pool.execute(
        """INSERT INTO resource_requests (id, version, state, organization_id, place_id, status, title, urgency, created_at)
           SELECT r, 1, '{}', p, p, 'open', 'x', 'low', now() FROM unnest($1::uuid[], $2::uuid[]) AS t (r, p)""",
        [request_id for request_id, _ in requests],
        [places[place] for _, place in requests],
    )
    lines = [
        (request_id, new_id(), places[place], cell_of(*points[place]), n * 7 + i)
        for n, (request_id, place) in enumerate(requests)
        for i in range(PER_REQUEST)
    ]
    await pool.execute(
        """INSERT INTO request_lines (request_id, line_id, organization_id, place_id, cell, open, urgency, position, name,
               category, unit, needed, reserved, received)
           SELECT r, l, p, p, c, true, CASE WHEN n % 997 = 0 THEN 3 ELSE n % 3 END, 0, 'x', ($6::text[])[n % 8 + 1],
               'portion', 10, 0, 0
           FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::int[]) AS t (r, l, p, c, n)""",
        *map(list, zip(*lines, strict=True)),
        CATEGORIES,
    )
    await pool.execute("ANALYZE request_lines, resource_requests, access_places, access_organizations")
    yield database
    for table, column, ids in (
        ("request_lines", "request_id", [request_id for request_id, _ in requests]),
        ("resource_requests", "id", [request_id for request_id, _ in requests]),
        ("access_places", "place_id", places),
        ("access_organizations", "organization_id", places),
    ):
        await pool.execute(f"DELETE FROM {table} WHERE {column} = ANY($1::uuid[])", ids)


def an_offer(gtin: str | None = None) -> Offer:
    """Portions in the middle of it all."""
    return Offer(
        batch_id=BatchId(new_id()),
        organization_id=OrganizationId(new_id()),
        place_id=PlaceId(new_id()),
        lat=CENTRE[0],
        lon=CENTRE[1],
        category="prepared",
        gtin=gtin,
        unit="portion",
        product_name="Marmita",
        free=40,
        use_by_at=NOW + timedelta(hours=8),
        pickup_from=NOW,
        pickup_to=NOW + timedelta(hours=4),
    )


async def test_no_table_is_read_from_end_to_end(crowded: Database) -> None:
    """The plan has index scans only, and reads no more rows than it may look at."""
    offer, cells = an_offer("7891000100103"), cells_around(*CENTRE, RADIUS_M)
    arguments = [cells, offer.category, offer.gtin, offer.unit, offer.organization_id, NOW, offer.batch_id, PER_CELL]

    told = await crowded.pool.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {WANTED}", *arguments)

    nodes = list(_nodes(json.loads(told)[0]["Plan"]))
    scans = {(node["Node Type"], node["Relation Name"]) for node in nodes if "Relation Name" in node}
    assert [scan for scan in scans if scan[0] == "Seq Scan"] == []
    used = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert used >= {"request_lines_wanted", "request_lines_wanted_product"}
    lines = [node for node in nodes if node.get("Relation Name") == "request_lines"]
    read = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in lines)
    assert read <= len(cells) * PER_CELL


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


async def test_the_most_urgent_of_every_cell_is_looked_at(crowded: Database) -> None:
    """A bounded number of candidates, none too far, with every emergency within the radius among them; ranked the same twice."""
    offer = an_offer()

    found = await repository.wanted(crowded.reading(), offer, now=NOW)

    order = ranked(offer, found, now=NOW)
    assert 100 < len(order) <= len(found) <= len(cells_around(*CENTRE, RADIUS_M)) * PER_CELL
    assert order == ranked(offer, await repository.wanted(crowded.reading(), offer, now=NOW), now=NOW)
    emergencies = {each.candidate.line_id for each in order if each.candidate.urgency is Urgency.EMERGENCY}
    everywhere = await crowded.reading().fetch(
        "SELECT line_id, lat, lon FROM request_lines JOIN access_places USING (place_id)"
        " WHERE urgency = 3 AND category = 'prepared' AND name = 'x'"
    )
    near: set[UUID] = {row["line_id"] for row in everywhere if _within(row["lat"], row["lon"])}
    assert near
    assert near == emergencies


def _within(lat: float, lon: float) -> bool:
    return distance_m(*CENTRE, lat, lon) <= RADIUS_M
