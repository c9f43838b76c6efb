"""The inbox and preferences as their owner sees them, by plain select."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Row, Transaction
from sqlalchemy import select

from notifications.domain import NotificationNotFound, Preferences
from notifications.tables import CONTACTS, NOTIFICATIONS, PREFERENCES

_N = NOTIFICATIONS.c
_PREFERENCES = ("email", "locale", "quiet_from", "quiet_to", "quiet_tz")
DEFAULT_LOCALE = "pt-BR"


async def inbox(tx: Transaction, user_id: UUID, *, unread: bool | None, limit: int, before: UUID | None) -> list[Row]:
    """A person's notifications, newest first; one more than `limit` when there are more."""
    query = select(NOTIFICATIONS).where(_N.user_id == user_id).order_by(_N.id.desc()).limit(limit + 1)
    if unread is not None:
        query = query.where(_N.read_at.is_(None) if unread else _N.read_at.is_not(None))
    if before is not None:
        query = query.where(_N.id < before)
    return await tx.fetch(query)


async def one(tx: Transaction, user_id: UUID, notification_id: UUID) -> Row:
    """A notification of the person's own inbox."""
    row = await tx.fetchrow(select(NOTIFICATIONS).where(_N.id == notification_id, _N.user_id == user_id))
    if row is None:
        raise NotificationNotFound
    return row


async def preferences(tx: Transaction, user_id: UUID) -> Preferences:
    """What the person chose, or the defaults."""
    row = await tx.fetchrow(select(PREFERENCES).where(PREFERENCES.c.user_id == user_id))
    if row is None:
        return Preferences()
    return Preferences.stored(**{name: row[name] for name in _PREFERENCES})


async def locale(tx: Transaction, user_id: UUID) -> str:
    """The language a person chose here, else the account's, else Portuguese."""
    chosen = select(PREFERENCES.c.locale).where(PREFERENCES.c.user_id == user_id).scalar_subquery()
    account = select(CONTACTS.c.locale).where(CONTACTS.c.user_id == user_id).scalar_subquery()
    row = await tx.fetchrow(select(chosen.label("chosen"), account.label("account")))
    return DEFAULT_LOCALE if row is None else row["chosen"] or row["account"] or DEFAULT_LOCALE
