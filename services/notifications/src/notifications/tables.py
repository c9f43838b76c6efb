"""The service's own tables that queries read, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, Table, Text, Time
from sqlalchemy.dialects.postgresql import JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

NOTIFICATIONS = Table(
    "notifications",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("event_id", UUID, nullable=False),
    Column("user_id", UUID, nullable=False),
    Column("kind", Text, nullable=False),
    Column("critical", Boolean, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("context", JSONB, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("read_at", _MOMENT),
)

PREFERENCES = Table(
    "preferences",
    METADATA,
    Column("user_id", UUID, primary_key=True),
    Column("locale", Text),
    Column("email", Boolean, nullable=False),
    Column("quiet_from", Time),
    Column("quiet_to", Time),
    Column("quiet_tz", Text),
)

CONTACTS = Table(
    "contacts",
    METADATA,
    Column("user_id", UUID, primary_key=True),
    Column("status", Text, nullable=False),
    Column("email", Text),
    Column("locale", Text, nullable=False),
    Column("display_name", Text),
    Column("fetched_at", _MOMENT),
    Column("attempts", Integer, nullable=False),
    Column("due_at", _MOMENT),
)
