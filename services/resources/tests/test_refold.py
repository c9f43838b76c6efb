"""`python -m resources refold`: the rows beside a request's own follow from its events too."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.app import Service, restore
from chassis.database import Database

from services.resources.tests.builders import Steps

TABLES = {"resource_requests": "id", "request_lines": "request_id", "reservations": "request_id"}


async def test_rows_are_made_anew(steps: Steps, database: Database, service: Service) -> None:
    """A request, its lines and its reservations are restored from the events, also those that are gone."""
    request = await steps.opened()
    request_id = UUID(request["id"])
    await steps.reserved(request, 4)
    await steps.started(request, 5)
    before = await _rows(database, request_id)
    await database.pool.execute("UPDATE resource_requests SET state = '{}', title = '' WHERE id = $1", request_id)
    await database.pool.execute("UPDATE request_lines SET reserved = 0 WHERE request_id = $1", request_id)
    await database.pool.execute("DELETE FROM reservations WHERE request_id = $1 AND status = 'in_delivery'", request_id)
    await database.pool.execute("UPDATE reservations SET status = 'expired' WHERE request_id = $1", request_id)

    await restore(service)

    assert await _rows(database, request_id) == before


async def _rows(database: Database, request_id: UUID) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            dict(row)
            for row in await database.pool.fetch(f"SELECT * FROM {table} WHERE {key} = $1 ORDER BY 1, 2", request_id)
        ]
        for table, key in TABLES.items()
    }
