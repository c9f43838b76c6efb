"""The service's own tables, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, BOOLEAN, DOUBLE_PRECISION, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

ORGANIZATIONS = Table(
    "organizations",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("cnpj", Text, nullable=False),
    Column("legal_name", Text, nullable=False),
    Column("trade_name", Text),
    Column("kinds", ARRAY(Text), nullable=False),
    Column("registered_at", _MOMENT, nullable=False),
)

PLACES = Table(
    "places",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("address", Text, nullable=False),
    Column("cep", Text),
    Column("ibge_city", Text, nullable=False),
    Column("lat", DOUBLE_PRECISION, nullable=False),
    Column("lon", DOUBLE_PRECISION, nullable=False),
    Column("tz", Text, nullable=False),
    Column("accepts", ARRAY(Text), nullable=False),
    Column("stop_list", ARRAY(Text), nullable=False),
    Column("opening_hours", Text),
    Column("people_served", Integer),
    Column("added_at", _MOMENT, nullable=False),
)

USERS = Table(
    "users",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("locale", Text, nullable=False),
    Column("suspended", BOOLEAN, nullable=False),
    Column("registered_at", _MOMENT, nullable=False),
)

# Everything personal, and nothing else: erasing a person is deleting this row.
USERS_PRIVATE = Table(
    "users_private",
    METADATA,
    Column("user_id", UUID, primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("user_id", UUID, nullable=False),
    Column("started_at", _MOMENT, nullable=False),
    Column("expires_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT),
)

REFRESH_TOKENS = Table(
    "refresh_tokens",
    METADATA,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("session_id", UUID, nullable=False),
    Column("expires_at", _MOMENT, nullable=False),
    Column("replaced_at", _MOMENT),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("status", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("cnpjs", ARRAY(Text), nullable=False),
    Column("rate_per_minute", BigInteger),
    Column("expires_at", _MOMENT),
    Column("issued_at", _MOMENT, nullable=False),
)

SIGNING_KEYS = Table(
    "signing_keys",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("jwk", JSONB, nullable=False),
)

# Private halves, encrypted with the service's secret key.
SIGNING_KEYS_PRIVATE = Table(
    "signing_keys_private",
    METADATA,
    Column("signing_key_id", UUID, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
