"""The read models, as SQLAlchemy Core sees them; `migrations/` makes them, `repository` writes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Date, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

AUDIT_EVENTS = Table(
    "audit_events",
    METADATA,
    Column("event_id", UUID, primary_key=True),
    Column("occurred_at", _MOMENT, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor_id", Text),
    Column("organization_id", UUID),
    Column("parties", ARRAY(UUID), nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("data", JSONB, nullable=False),
)
BATCHES_SEEN = Table(
    "batches_seen",
    METADATA,
    Column("batch_id", UUID, primary_key=True),
    Column("organization_id", UUID, nullable=False),
    Column("place_id", UUID, nullable=False),
    Column("category", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("pickup_to", _MOMENT, nullable=False),
    Column("first_at", _MOMENT, nullable=False),
    Column("last_at", _MOMENT, nullable=False),
    *(Column(f"{name}_at", _MOMENT) for name in ("created", "ready", "closed", "cancelled", "expired", "recalled")),
)
DELIVERIES_SEEN = Table(
    "deliveries_seen",
    METADATA,
    Column("delivery_id", UUID, primary_key=True),
    Column("organizations", ARRAY(UUID), nullable=False),
    Column("pickup_place_id", UUID, nullable=False),
    Column("batch_ids", ARRAY(UUID), nullable=False),
    Column("first_at", _MOMENT, nullable=False),
    Column("last_at", _MOMENT, nullable=False),
    *(
        Column(f"{name}_at", _MOMENT)
        for name in (
            "planned", "opened", "claimed", "picked_up", "completed", "cancelled", "expired", "failed", "returned",
            "discarded", "no_show",
        )  # fmt: skip
    ),
)
# Views: the daily table with losses, and the lines of each request's newest snapshot.
DAILY = Table(
    "daily",
    METADATA,
    Column("day", Date),
    Column("organization_id", UUID),
    Column("role", Text),
    Column("place_id", UUID),
    Column("category", Text),
    Column("unit", Text),
    *(Column(name, BigInteger) for name in ("offered", "rescued", "delivered", "lost")),
)
NEEDS = Table(
    "needs",
    METADATA,
    Column("day", Date),
    Column("opened_at", _MOMENT),
    Column("organization_id", UUID),
    Column("place_id", UUID),
    Column("category", Text),
    Column("unit", Text),
    *(Column(name, BigInteger) for name in ("needed", "reserved", "received")),
)

# The chassis's directory, read here and never written.
PLACES = Table("access_places", MetaData(), Column("place_id", UUID, primary_key=True), Column("ibge_city", Text))
