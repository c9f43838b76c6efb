"""What is kept of loads, how long, and what stays however old it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chassis.database import Database
from resources.objects import ObjectStore
from resources.retention import Retention
from resources.settings import Settings
from resources.usecases import LoadPolicy

from services.resources.tests.loading import Expected, Partner, Row, ndjson, rows

CHUNK_ROWS = 10
TABLES = ("catalogue_chunks", "catalogue_duplicates", "catalogue_missing", "catalogue_rejects")


@pytest.fixture
def retention(database: Database, environment: dict[str, str]) -> Retention:
    """That of the running service's store and database, with the times that are the default."""
    fields = Settings.model_fields
    days = {name: timedelta(days=fields[f"load_{name}_days"].default) for name in ("payload", "chunk")}
    policy = LoadPolicy(
        bytes_max=0, chunk_rows=CHUNK_ROWS, workers=1, confirm=timedelta(0), stalled=timedelta(0),
        payloads=days["payload"], chunks=days["chunk"],
    )  # fmt: skip
    return Retention(database, ObjectStore(environment["VAJ_OBJECT_STORE_URL"]), policy)


class Kept:
    """What there is of a load."""

    def __init__(self, database: Database, environment: dict[str, str], load: Row) -> None:
        self._database = database
        self._folder = Path(urlsplit(environment["VAJ_OBJECT_STORE_URL"]).path)
        self._id = load["id"]

    async def rows(self) -> dict[str, int]:
        """Rows of each table."""
        count = "SELECT count(*) FROM {} WHERE load_id = $1"
        return {table: await self._database.pool.fetchval(count.format(table), self._id) for table in TABLES}

    def objects(self) -> tuple[bool, int]:
        """Whether its payload is there, and how many chunks."""
        chunks = self._folder / "chunks" / self._id
        return (self._folder / "payloads" / self._id).exists(), len(list(chunks.glob("*")))


async def test_each_thing_is_kept_as_long_as_promised(
    partner: Partner, retention: Retention, database: Database, environment: dict[str, str]
) -> None:
    """Chunks seven days, payloads and rejects thirty; the load and its products stay."""
    expected, sent = Expected(), [*rows(25), *rows(1)]
    load = await partner.reaches(await partner.send(ndjson([*sent, {"sku": "x"}])), "applied")
    expected.load(sent, full=True)
    kept, now = Kept(database, environment, load), datetime.now(UTC)
    whole = dict(zip(TABLES, (3, 1, 0, 1), strict=True))

    await retention.round_of(now + timedelta(days=6.9))
    assert (kept.objects(), await kept.rows()) == ((True, 3), whole)

    await retention.round_of(now + timedelta(days=7.1))
    nothing = dict.fromkeys(TABLES, 0)
    assert (kept.objects(), await kept.rows()) == ((True, 0), nothing | {"catalogue_rejects": 1})

    await retention.round_of(now + timedelta(days=30.1))
    assert (kept.objects(), await kept.rows()) == ((False, 0), nothing)
    again = (await partner.get(f"/v1/catalogue-loads/{load['id']}")).json()
    assert (again["status"], again["result"], again["rows"]) == ("applied", load["result"], load["rows"])
    await partner.has(expected)


async def test_a_load_that_is_not_over_keeps_all(
    partner: Partner, retention: Retention, database: Database, environment: dict[str, str]
) -> None:
    """However long it waits behind others: confirmed at last, it finds its chunks."""
    await partner.load(rows(20))
    waiting = await partner.load(rows(10), until="awaiting_confirmation")
    kept = Kept(database, environment, waiting)

    await retention.round_of(datetime.now(UTC) + timedelta(days=60))

    assert kept.objects() == (True, 1)
    load = await partner.decides(waiting["id"], "confirm", until="applied")
    assert load["result"]["deactivated"] == 10
