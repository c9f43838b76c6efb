"""The service's own tables, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

BATCHES = Table(
    "batches",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("place_id", UUID, nullable=False),
    Column("status", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("product_name", Text, nullable=False),
    Column("gtin", Text),
    Column("unit", Text, nullable=False),
    Column("storage", Text, nullable=False),
    Column("lot_code", Text),
    Column("handling_notes", Text),
    Column("use_by_at", _MOMENT),
    Column("est_ready_at", _MOMENT),
    Column("pickup_from", _MOMENT, nullable=False),
    Column("pickup_to", _MOMENT, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("in_transit", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("temperature_dc", Integer),
    Column("temperature_alarm", Boolean, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
)

# The chassis's directory, read here and never written.
ORGANIZATIONS = Table(
    "access_organizations", MetaData(), Column("organization_id", UUID, primary_key=True), Column("status", Text)
)
PLACES = Table(
    "access_places",
    MetaData(),
    Column("place_id", UUID, primary_key=True),
    Column("lat", DOUBLE_PRECISION),
    Column("lon", DOUBLE_PRECISION),
    Column("accepts", ARRAY(Text)),
)
