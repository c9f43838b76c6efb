"""The service's own tables, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

REQUESTS = Table(
    "resource_requests",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("place_id", UUID, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("urgency", Text, nullable=False),
    Column("needed_by_at", _MOMENT),
    Column("created_at", _MOMENT, nullable=False),
)
LINES = Table(
    "request_lines",
    METADATA,
    Column("request_id", UUID, primary_key=True),
    Column("line_id", UUID, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("category", Text),
    Column("gtin", Text),
    Column("unit", Text, nullable=False),
    Column("needed", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
)
RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("request_id", UUID, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("donor_organization_id", UUID, nullable=False),
    Column("status", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("delivery_id", UUID),
    Column("reserved_at", _MOMENT, nullable=False),
    Column("expires_at", _MOMENT, nullable=False),
)
MATCHES = Table(
    "matches",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("batch_id", UUID, nullable=False),
    Column("request_id", UUID, nullable=False),
    Column("provider_organization_id", UUID, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("status", Text, nullable=False),
)
LOADS = Table(
    "catalogue_loads",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("cnpj", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
)
PRODUCTS = Table(
    "products",
    METADATA,
    Column("cnpj", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("gtin", Text),
    Column("sku", Text),
    Column("name", Text, nullable=False),
    Column("brand", Text),
    Column("category", Text),
    Column("price_cents", BigInteger, nullable=False),
    Column("stock", BigInteger, nullable=False),
    Column("unit", Text, nullable=False),
    Column("storage", Text, nullable=False),
    Column("expires_on", Date),
    Column("plain_name", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("load_id", UUID, nullable=False),
    Column("changed_at", _MOMENT, nullable=False),
)

# The chassis's directory, read here and never written.
ORGANIZATIONS = Table(
    "access_organizations",
    MetaData(),
    Column("organization_id", UUID, primary_key=True),
    Column("status", Text),
    Column("kinds", ARRAY(Text)),
    Column("version", Integer),
)
PLACES = Table(
    "access_places",
    MetaData(),
    Column("place_id", UUID, primary_key=True),
    Column("lat", DOUBLE_PRECISION),
    Column("lon", DOUBLE_PRECISION),
)
