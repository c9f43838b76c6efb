"""What queries build on with SQLAlchemy Core; `migrations/` makes it, and the read models that plain SQL reads."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

METADATA = MetaData()

AUDIT_EVENTS = Table(
    "audit_events",
    METADATA,
    Column("event_id", UUID, primary_key=True),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor_id", Text),
    Column("organization_id", UUID),
    Column("parties", ARRAY(UUID), nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("data", JSONB, nullable=False),
)
