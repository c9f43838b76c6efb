"""Stored events in time: old ones are read as today's, never rewritten; rows are made anew from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import pytest
import pytest_asyncio
from chassis.database import Database
from chassis.kernel import Aggregate, new_id
from chassis.refold import refold
from chassis.repository import Repository, UnreadableState
from chassis.stored_events import StoredEvents, UnreadableEvent
from chassis.testing import eventually


class First:
    """What the first release knew: a shelf gets a jar with a label in one text."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class JarPut:
        label: str

    @dataclass
    class Shelf(Aggregate):
        labels: list[str] = field(default_factory=list)

        def _on_JarPut(self, event: First.JarPut) -> None:  # noqa: N802
            self.labels.append(event.label)


class Today:
    """What today's knows: label became contents and year (2), then grams came (3); the shelf keeps their sum."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class JarPut:
        stored_revision: ClassVar[int] = 3
        contents: str
        year: int
        grams: int | None

    @dataclass
    class Shelf(Aggregate):
        contents: list[str] = field(default_factory=list)
        newest_year: int = 0

        def _on_JarPut(self, event: Today.JarPut) -> None:  # noqa: N802
            self.contents.append(event.contents)
            self.newest_year = max(self.newest_year, event.year)


def _label_in_parts(data: dict[str, Any]) -> dict[str, Any]:
    contents, _, year = data.pop("label").rpartition(" ")
    return {**data, "contents": contents, "year": int(year)}


def _grams_unknown(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "grams": None}


UPCASTERS = {("JarPut", 1): _label_in_parts, ("JarPut", 2): _grams_unknown}


def _shelves(release: Any, upcasters: Any = None) -> Repository[Any]:
    return Repository(
        table="shelves",
        aggregate=release.Shelf,
        events={"JarPut": release.JarPut},
        upcasters=upcasters,
        columns=lambda shelf: {"jars": shelf.version},
        announce=lambda *_: None,
    )


BEFORE, NOW = _shelves(First), _shelves(Today, UPCASTERS)


@pytest_asyncio.fixture(loop_scope="session")
async def shelf(database: Database) -> AsyncIterator[UUID]:
    """A shelf of which the first release stored two jars."""
    await database.pool.execute("CREATE TABLE shelves (id uuid PRIMARY KEY, version int, state jsonb, jars int)")
    shelf_id = new_id()
    await _put(database, BEFORE, First.Shelf(id=shelf_id), First.JarPut(label="Goiaba 2024"))
    async with database.command() as tx:
        known = await BEFORE.get(tx, shelf_id)
    await _put(database, BEFORE, known, First.JarPut(label="Figo em calda 2025"))
    yield shelf_id
    await database.pool.execute("DROP TABLE shelves")


async def _put(database: Database, shelves: Repository[Any], shelf: Any, jar: Any) -> None:
    async with database.command() as tx:
        shelf.record(jar)
        shelves.save(tx, shelf, now=datetime.now(UTC))


async def _stored(database: Database, shelf: UUID) -> list[tuple[str, Any]]:
    rows = await database.reading().fetch("SELECT type, data FROM events WHERE stream_id = $1 ORDER BY version", shelf)
    return [(row["type"], row["data"]) for row in rows]


async def test_old_events_fold_into_the_aggregate_of_today(database: Database, shelf: UUID) -> None:
    """Every step in turn lifts an old event; the fold sees classes of today only."""
    found = await NOW.as_of(database.reading(), shelf)

    assert (found.contents, found.newest_year, found.version) == (["Goiaba", "Figo em calda"], 2025, 2)


async def test_a_stream_may_hold_every_revision(database: Database, shelf: UUID) -> None:
    """New events carry their revision, old rows stay byte for byte, and the history shows all in today's shape."""
    before = await _stored(database, shelf)
    await database.pool.execute(
        "INSERT INTO events (stream_id, version, event_id, type, data, meta, occurred_at)"
        """ VALUES ($1, 3, $2, 'JarPut.r2', '{"contents": "Pera", "year": 2026}', '{}', now())""",
        shelf,
        new_id(),
    )
    async with database.command() as tx:
        folded = await NOW.as_of(tx, shelf)
    await _put(database, NOW, folded, Today.JarPut(contents="Uva", year=2026, grams=350))

    history = await NOW.history(database.reading(), shelf)

    assert [type_ for type_, _ in await _stored(database, shelf)] == ["JarPut", "JarPut", "JarPut.r2", "JarPut.r3"]
    assert (await _stored(database, shelf))[:2] == before == [
        ("JarPut", {"label": "Goiaba 2024"}), ("JarPut", {"label": "Figo em calda 2025"}),
    ]  # fmt: skip
    assert [(row["version"], row["type"], row["data"]) for row in history] == [
        (1, "JarPut", {"contents": "Goiaba", "year": 2024, "grams": None}),
        (2, "JarPut", {"contents": "Figo em calda", "year": 2025, "grams": None}),
        (3, "JarPut", {"contents": "Pera", "year": 2026, "grams": None}),
        (4, "JarPut", {"contents": "Uva", "year": 2026, "grams": 350}),
    ]


@pytest.mark.parametrize("type_", ["JarTaken", "JarPut.r4", "JarPut.r1", "JarPut.r03", "jarput", ""])
async def test_what_is_not_known_is_an_error(database: Database, shelf: UUID, type_: str) -> None:
    """A type or a revision that this release does not know is never guessed at, nor passed over."""
    await database.pool.execute("UPDATE events SET type = $2 WHERE stream_id = $1 AND version = 2", shelf, type_)

    for read in (NOW.as_of, NOW.history):
        with pytest.raises(UnreadableEvent, match=r"this release reads JarPut, JarPut\.r2, JarPut\.r3"):
            await read(database.reading(), shelf)


async def test_data_that_does_not_fit_is_an_error(database: Database, shelf: UUID) -> None:
    """Data that is not of its revision's shape names its type and what is wrong."""
    await database.pool.execute("UPDATE events SET type = 'JarPut.r3' WHERE stream_id = $1", shelf)

    with pytest.raises(UnreadableEvent, match=r"JarPut\.r3.*contents"):
        await NOW.as_of(database.reading(), shelf)


@pytest.mark.parametrize(
    "upcasters",
    [
        {},
        {("JarPut", 1): _label_in_parts},
        {("JarPut", 2): _grams_unknown},
        UPCASTERS | {("JarPut", 3): _grams_unknown},
        UPCASTERS | {("JarTaken", 1): _grams_unknown},
    ],
)
def test_every_step_is_there_and_no_other(upcasters: Any) -> None:
    """A revision without the step to the next, or a step of nothing, does not get as far as a running process."""
    with pytest.raises(TypeError, match="upcaster"):
        StoredEvents({"JarPut": Today.JarPut}, upcasters)


async def test_a_step_never_changes_what_was_read(database: Database, shelf: UUID) -> None:
    """A step may take its dict apart: it was given one of its own."""
    data = {"label": "Goiaba 2024"}

    NOW.stored.decode("JarPut", data)

    assert data == {"label": "Goiaba 2024"}


async def test_a_field_with_a_default_needs_nothing(database: Database, shelf: UUID) -> None:
    """A row whose state lacks a new field, or has one too many, is read; refolding gives the field its true value."""
    read = await NOW.get(database.reading(), shelf)
    assert (read.version, read.newest_year) == (2, 0)

    assert await refold(database, [NOW]) == {"shelves": 1}
    assert await NOW.get(database.reading(), shelf) == await NOW.as_of(database.reading(), shelf)
    assert (await NOW.get(database.reading(), shelf)).newest_year == 2025


async def test_refolding_repairs_a_row_that_cannot_be_read(database: Database, shelf: UUID) -> None:
    """A state of another shape says what to do; refolding makes state and columns anew, once, and tells nobody."""
    await database.pool.execute("""UPDATE shelves SET jars = 9, state = state || '{"newest_year": "MMXXV"}'""")
    with pytest.raises(UnreadableState, match=rf"shelves {shelf}: .*newest_year"):
        await NOW.get(database.reading(), shelf)

    assert await refold(database, [NOW]) == {"shelves": 1}

    row = await database.reading().fetchrow("SELECT version, jars, state FROM shelves WHERE id = $1", shelf)
    assert row is not None
    assert (row["version"], row["jars"], row["state"]["newest_year"]) == (2, 2, 2025)
    assert await refold(database, [NOW]) == {"shelves": 0}
    assert len(await _stored(database, shelf)) == 2
    assert await database.reading().fetchval("SELECT count(*) FROM outbox WHERE order_key = $1", shelf) == 0


async def test_refolding_does_not_hide_a_missing_event(database: Database, shelf: UUID) -> None:
    """A row ahead of its events is not set back: that is a loss, and people must look at it."""
    await database.pool.execute("DELETE FROM events WHERE stream_id = $1 AND version = 2", shelf)

    with pytest.raises(ValueError, match="version 2, but 1 by its events"):
        await refold(database, [NOW])


async def test_refolding_waits_for_a_command(database: Database, shelf: UUID) -> None:
    """A command that holds the row finishes first; what it did is in the refolded row."""
    async with asyncio.TaskGroup() as tasks, database.transaction() as tx:
        known = await NOW.get(tx, shelf)
        refolding = tasks.create_task(refold(database, [NOW]))
        await eventually(lambda: _waits_for_a_row(database))
        known.record(Today.JarPut(contents="Uva", year=2026, grams=None))
        NOW.save(tx, known, now=datetime.now(UTC))

    assert refolding.result() == {"shelves": 1}
    assert (await NOW.get(database.reading(), shelf)).contents == ["Goiaba", "Figo em calda", "Uva"]


async def _waits_for_a_row(database: Database) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%shelves%FOR UPDATE'"
    return bool(await database.reading().fetchval(sql))
