"""Products of partner catalogues: many at once, by COPY and one statement; what is as it was is not touched."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Transaction

from resources.catalogue.copying import PRODUCT_COLUMNS as COLUMNS

_NAMES = ", ".join(COLUMNS)
_VALUES = [name for name in COLUMNS if name != "key"]
_TOLD = [name for name in _VALUES if name != "plain_name"]  # which follows from the name

_STAGE = """CREATE TEMPORARY TABLE IF NOT EXISTS product_stage (
    key text COLLATE "C" NOT NULL, gtin text, sku text, name text NOT NULL, brand text, category text,
    price_cents bigint NOT NULL, stock bigint NOT NULL, unit text NOT NULL, storage text NOT NULL, expires_on date,
    plain_name text NOT NULL) ON COMMIT DELETE ROWS"""

# A plan is kept from when the table was empty, and would scan it for each row once it is full.
_BY_INDEX = "SELECT set_config('enable_seqscan', 'off', true)"
# A row that several chunks have counts in the last of them, so no two statements at a time have a key in common: nothing
# waits, and what is new needs no check for conflicts. Unchanged rows are neither locked nor written.
_UPSERT = f"""WITH mine AS MATERIALIZED (
    SELECT s.*, o.key AS known, o.active IS TRUE AND ({", ".join(f"o.{name}" for name in _TOLD)})
        IS NOT DISTINCT FROM ({", ".join(f"s.{name}" for name in _TOLD)}) AS same
    FROM product_stage s LEFT JOIN LATERAL (
        SELECT o.key, o.active, {", ".join(f"o.{name}" for name in _TOLD)} FROM products o
        WHERE o.cnpj = $1 AND o.key = s.key LIMIT 1) o ON true
    WHERE NOT EXISTS (
        SELECT FROM catalogue_duplicates d WHERE d.load_id = $2 AND d.key = s.key AND d.number > $3)),
inserted AS (
    INSERT INTO products (cnpj, {_NAMES}, active, load_id, changed_at)
    SELECT $1, {_NAMES}, true, $2, $4 FROM mine WHERE known IS NULL RETURNING 1),
updated AS (
    UPDATE products p SET {", ".join(f"{name} = m.{name}" for name in _VALUES)}, active = true, load_id = $2, changed_at = $4
    FROM mine m WHERE NOT m.same AND m.known IS NOT NULL AND p.cnpj = $1 AND p.key = m.key RETURNING 1)
SELECT (SELECT count(*) FROM mine) AS rows, (SELECT count(*) FROM inserted) AS inserted,
    (SELECT count(*) FROM updated) AS updated"""

_ACTIVE = "SELECT count(*) FROM products WHERE cnpj = $1 AND active"
# In parts by a hash of the key, so that no statement takes long, however many there are.
_PART = "mod(hashtext({}) & 2147483647, $3) = $4"
_SEEN = f"""SELECT k AS key, c.number FROM catalogue_chunks c, unnest(c.keys) AS k
    WHERE c.load_id = $1 AND {_PART.format("k")}"""
_DUPLICATES = f"""WITH twice AS (
    SELECT key, max(number) AS number, count(*) - 1 AS others FROM ({_SEEN.replace("$3", "$2").replace("$4", "$3")}) s
    GROUP BY key HAVING count(*) > 1),
kept AS (INSERT INTO catalogue_duplicates (load_id, key, number) SELECT $1, key, number FROM twice ON CONFLICT DO NOTHING)
SELECT coalesce(sum(others), 0)::bigint FROM twice"""
_MISSING = f"""WITH seen AS ({_SEEN}), gone AS (
    INSERT INTO catalogue_missing (load_id, key)
    SELECT $1, p.key FROM products p WHERE p.cnpj = $2 AND p.active AND {_PART.format("p.key")}
    AND NOT EXISTS (SELECT FROM seen s WHERE s.key = p.key) ON CONFLICT DO NOTHING RETURNING 1)
SELECT count(*) FROM gone"""
# Keys of arrays have no statistics: the planner would compare each with each.
_BY_HASH = "SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true)"
_FORGET_MISSING = "DELETE FROM catalogue_missing WHERE load_id = $1"
_NEXT_MISSING = "SELECT key FROM catalogue_missing WHERE load_id = $1 ORDER BY key LIMIT $2"
# By the keys themselves, so that each is looked up; this is the load's turn, so nobody else changes these products.
_DEACTIVATE = """WITH looked_at AS (DELETE FROM catalogue_missing WHERE load_id = $1 AND key = ANY($4::text[])),
gone AS (UPDATE products SET active = false, load_id = $1, changed_at = $3
    WHERE cnpj = $2 AND key = ANY($4::text[]) AND active RETURNING 1)
SELECT count(*) FROM gone"""


async def upsert(
    tx: Transaction, rows: bytes, *, cnpj: str, load_id: UUID, number: int, now: datetime
) -> tuple[int, int, int]:
    """Make the company's products as these rows say, which are COPY text of `COLUMNS`; (inserted, updated, unchanged)."""
    await tx.fetch(_STAGE)
    await tx.fetch(_BY_INDEX)
    await tx.copy("product_stage", COLUMNS, rows)
    row = await tx.fetchrow(_UPSERT, cnpj, load_id, number, now)
    if row is None:
        raise AssertionError("counts are always a row")
    return row["inserted"], row["updated"], row["rows"] - row["inserted"] - row["updated"]


async def count_active(tx: Transaction, cnpj: str) -> int:
    """How many products of the company are active."""
    count: int = await tx.fetchval(_ACTIVE, cnpj)
    return count


async def find_duplicates(tx: Transaction, load_id: UUID, *, parts: int, part: int) -> int:
    """Note the keys that several chunks have; how many rows of this part give way to a later one."""
    await tx.fetch(_BY_HASH)
    found: int = await tx.fetchval(_DUPLICATES, load_id, parts, part)
    return found


async def find_missing(tx: Transaction, load_id: UUID, cnpj: str, *, parts: int, part: int) -> int:
    """Note the company's active products that the load lacks; how many of this part."""
    await tx.fetch(_BY_HASH)
    found: int = await tx.fetchval(_MISSING, load_id, cnpj, parts, part)
    return found


def forget_missing(tx: Transaction, load_id: UUID) -> None:
    """Queue that nothing counts as missing."""
    tx.write(_FORGET_MISSING, load_id)


async def deactivate(tx: Transaction, load_id: UUID, cnpj: str, *, limit: int, now: datetime) -> tuple[int, int]:
    """The next products that the load lacks become inactive; (looked at, deactivated)."""
    await tx.fetch(_BY_INDEX)
    keys = [row["key"] for row in await tx.fetch(_NEXT_MISSING, load_id, limit)]
    if not keys:
        return 0, 0
    return len(keys), await tx.fetchval(_DEACTIVATE, load_id, cnpj, now, keys)
