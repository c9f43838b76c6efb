"""The service's own tables, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("party_ids", ARRAY(UUID), nullable=False),
    Column("batch_ids", ARRAY(UUID), nullable=False),
    Column("pickup_place_id", UUID, nullable=False),
    Column("receiving_place_id", UUID, nullable=False),
    Column("planned_by", UUID, nullable=False),
    Column("volunteer_id", UUID),
    Column("waiting_ids", ARRAY(UUID), nullable=False),
    Column("claimed_at", _MOMENT),
    Column("busy_from", _MOMENT),
    Column("busy_to", _MOMENT),
    Column("created_at", _MOMENT, nullable=False),
)

# The chassis's directory, read here and never written.
PLACES = Table(
    "access_places",
    MetaData(),
    Column("place_id", UUID, primary_key=True),
    Column("lat", DOUBLE_PRECISION),
    Column("lon", DOUBLE_PRECISION),
)
