"""Tables that are partitioned by day on a UUIDv7: made ahead, and dropped whole when their days are over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from chassis.database import Transaction

DAYS_AHEAD = 3

_NAMES = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass AND c.relname ~ '_[0-9]{8}$'"""


@dataclass(frozen=True, slots=True)
class DailyTable:
    """A table partitioned by a UUIDv7 column, with a default partition `<name>_default` for ids of no day that has one.

    `kept_by` is the column that says how old a row in the default partition is.
    """

    name: str
    column: str
    kept_by: str
    days_kept: int

    async def keep(self, tx: Transaction, today: date) -> None:
        """One partition a day, made ahead and dropped when its days are over; strays of the default one go as late."""
        known = await self._days(tx)
        if _missing(known, today):
            await tx.fetch(f"LOCK TABLE {self.name} IN SHARE ROW EXCLUSIVE MODE")
            known = await self._days(tx)  # another process may have been at it
            for day in _missing(known, today):
                await self._make(tx, day)
        for day in sorted(known):
            if day < today - timedelta(days=self.days_kept):
                await tx.fetch(f"DROP TABLE {self._partition(day)}")
        await tx.fetch(
            f"DELETE FROM {self.name}_default WHERE {self.kept_by} < now() - make_interval(days => $1)", self.days_kept
        )

    async def _make(self, tx: Transaction, day: date) -> None:
        """What fell into the default partition because nobody made this one in time moves into it."""
        made, first, end = self._partition(day), first_id_of(day), first_id_of(day + timedelta(days=1))
        await tx.fetch(f"CREATE TABLE {made} (LIKE {self.name} INCLUDING ALL)")
        await tx.fetch(
            f"WITH strays AS (DELETE FROM {self.name}_default WHERE {self.column} >= $1 AND {self.column} < $2 RETURNING *)"
            f" INSERT INTO {made} SELECT * FROM strays",
            first,
            end,
        )
        await tx.fetch(f"ALTER TABLE {self.name} ATTACH PARTITION {made} FOR VALUES FROM ('{first}') TO ('{end}')")

    async def _days(self, tx: Transaction) -> set[date]:
        names = await tx.fetch(_NAMES, self.name)
        return {datetime.strptime(row["relname"][-8:], "%Y%m%d").date() for row in names}  # noqa: DTZ007 - a day has no zone

    def _partition(self, day: date) -> str:
        return f"{self.name}_{day:%Y%m%d}"


def first_id_of(day: date) -> UUID:
    """The least UUIDv7 of a day: its first 48 bits are the milliseconds since 1970."""
    millis = (day - date(1970, 1, 1)).days * 86_400_000
    return UUID(int=millis << 80)


def _missing(known: set[date], today: date) -> list[date]:
    """Of yesterday to three days ahead; the oldest partition may hold all that was before its day."""
    wanted = [today + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]
    return [day for day in wanted if day not in known and (not known or day > min(known))]
