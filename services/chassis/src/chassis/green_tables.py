"""Tables made a second time in a schema of their own, filled there, and put in the place of the first ones at once.

Only what the catalogue says is copied: columns, defaults, checks, keys, indexes, storage, and the views on the tables.
Indexes and constraints keep their names, so that later migrations and error codes still find them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chassis.database import Row, Transaction

PUBLIC = "public"
LOCK_TIMEOUT_MS = 2_000  # longer than `deadlock_timeout`, after which an autovacuum gives way

_TABLES = """SELECT c.relname AS name, quote_ident(c.relname) AS quoted, c.relkind::text AS kind,
    array_to_string(c.reloptions, ', ') AS options,
    EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid) AS has_triggers
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY($1::text[])"""
_KEYS = """SELECT quote_ident(c.conname) AS name, pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint c WHERE c.conrelid = ('public.' || $1)::regclass AND c.contype IN ('p', 'u', 'x') ORDER BY c.oid"""
_INDEXES = """SELECT pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i
WHERE i.indrelid = ('public.' || $1)::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
ORDER BY i.indexrelid"""
# Views on the tables, and views on those; a view is younger than what it looks at.
_VIEWS = """WITH RECURSIVE above AS (
    SELECT c.oid FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace AND c.relname = ANY($2::text[])
    UNION SELECT r.ev_class FROM above a
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite r ON r.oid = d.objid)
SELECT quote_ident(c.relname) AS quoted, array_to_string(c.reloptions, ', ') AS options, pg_get_viewdef(c.oid) AS definition,
    c.relkind = 'v' AND c.relnamespace = $1::text::regnamespace AS is_plain
FROM above a JOIN pg_class c ON c.oid = a.oid WHERE c.relkind IN ('v', 'm') ORDER BY c.oid"""


class NotRebuildable(Exception):
    """The tables are more than can be made a second time."""


async def make(tx: Transaction, tables: Sequence[str], schema: str) -> None:
    """Empty tables like the public ones, and the views on them, in a new schema; one that is there is replaced."""
    found = await tx.fetch(_TABLES, list(tables))
    _expect_plain(tables, found)
    await tx.fetch(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    await tx.fetch(f"CREATE SCHEMA {schema}")
    for table in found:
        await _make_table(tx, table, schema)
    await tx.fetch("SET LOCAL search_path = public")
    views = await tx.fetch(_VIEWS, PUBLIC, list(tables))
    for view in views:
        if not view["is_plain"]:
            raise NotRebuildable(f"{view['quoted']} looks at the tables, and is materialized or of another schema")
    await tx.fetch(f"SET LOCAL search_path = {schema}, public")  # so that a view finds the new tables by their names
    for view in views:
        options = f" WITH ({view['options']})" if view["options"] else ""
        await tx.fetch(f"CREATE VIEW {schema}.{view['quoted']}{options} AS {view['definition']}")
    await tx.fetch("SET LOCAL search_path = public")


def _expect_plain(tables: Sequence[str], found: Sequence[Row]) -> None:
    missing = set(tables) - {row["name"] for row in found}
    if missing:
        raise NotRebuildable(f"no such tables: {', '.join(sorted(missing))}")
    for row in found:
        if row["kind"] != "r":
            raise NotRebuildable(f"{row['name']} is no ordinary table")
        if row["has_triggers"]:  # those that keep foreign keys are among them
            raise NotRebuildable(f"{row['name']} has triggers or foreign keys")


async def _make_table(tx: Transaction, table: Row, schema: str) -> None:
    name, options = table["quoted"], f" WITH ({table['options']})" if table["options"] else ""
    await tx.fetch(f"CREATE TABLE {schema}.{name} (LIKE public.{name} INCLUDING ALL EXCLUDING INDEXES){options}")
    for key in await tx.fetch(_KEYS, name):
        await tx.fetch(f"ALTER TABLE {schema}.{name} ADD CONSTRAINT {key['name']} {key['definition']}")
    for index in await tx.fetch(_INDEXES, name):
        await tx.fetch(index["definition"].replace(f" ON public.{name} ", f" ON {schema}.{name} ", 1))


async def swap(tx: Transaction, tables: Sequence[str], *, new: str, old: str) -> None:
    """Public tables and views go to the schema `old`, those of `new` take their place; nobody sees anything between.

    Waits a bounded time for those who read just now; then the transaction fails, and may be tried again.
    """
    names = [row["quoted"] for row in await tx.fetch(_TABLES, list(tables))]
    await tx.fetch(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    every = [f"{schema}.{name}" for schema in (PUBLIC, new) for name in names]
    await tx.fetch(f"LOCK TABLE {', '.join(every)} IN ACCESS EXCLUSIVE MODE")
    await tx.fetch(f"CREATE SCHEMA {old}")
    for source, target in ((PUBLIC, old), (new, PUBLIC)):
        views = await tx.fetch(_VIEWS, source, list(tables))
        for view in views:
            await tx.fetch(f"ALTER VIEW {source}.{view['quoted']} SET SCHEMA {target}")
        for name in names:
            await tx.fetch(f"ALTER TABLE {source}.{name} SET SCHEMA {target}")
    await tx.fetch(f"DROP SCHEMA {new}")


async def drop(tx: Transaction, schema: str) -> None:
    """The schema with everything in it; none is no error."""
    await tx.fetch(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


async def all_empty(tx: Transaction, tables: Sequence[str]) -> bool:
    """Nothing was ever written into the public tables, or all of it is gone."""
    found: list[Any] = [await tx.fetchval(f"SELECT EXISTS (SELECT FROM public.{name})") for name in tables]
    return not any(found)
