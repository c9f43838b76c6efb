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

TASKS = Table(
    "tasks",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("state", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("delivery_id", UUID, nullable=False),
    Column("role", Text, nullable=False),
    Column("party_ids", ARRAY(UUID), nullable=False),
    Column("assigned_ids", ARRAY(UUID), nullable=False),
    Column("volunteer_id", UUID),
    Column("created_at", _MOMENT, nullable=False),
)
OFFERS = Table(
    "offers",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("delivery_id", UUID, nullable=False),
    Column("opening", Integer, nullable=False),
    Column("volunteer_id", UUID, nullable=False),
    Column("ring", Integer, nullable=False),
    Column("radius_m", Integer, nullable=False),
    Column("distance_m", Integer, nullable=False),
    Column("vehicle", Text, nullable=False),
    Column("capacity_g", Integer, nullable=False),
    Column("weight_g", Integer, nullable=False),
    Column("claims_today", Integer, nullable=False),
    Column("offered_at", _MOMENT, nullable=False),
    Column("status", Text, nullable=False),
    Column("settled_at", _MOMENT),
)

# The chassis's directory, read here and never written.
PLACES = Table(
    "access_places",
    MetaData(),
    Column("place_id", UUID, primary_key=True),
    Column("lat", DOUBLE_PRECISION),
    Column("lon", DOUBLE_PRECISION),
)
