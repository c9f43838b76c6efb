"""The service's own tables, as SQLAlchemy Core sees them; `migrations/` makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

METADATA = MetaData()
_MOMENT = DateTime(timezone=True)

ENDPOINTS = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False),
    Column("description", Text, nullable=False),
    Column("rate_per_s", Integer),
    Column("ordered", Boolean, nullable=False),
    Column("timeout_s", Integer, nullable=False),
    Column("parties", ARRAY(UUID), nullable=False),
    Column("ed25519", Boolean, nullable=False),
    Column("retry_schedule_s", ARRAY(Integer)),
    Column("status", Text, nullable=False),
    Column("failing_since", _MOMENT),
    Column("failing_percent", Integer, nullable=False),
    Column("disabled_reason", Text),
    Column("created_at", _MOMENT, nullable=False),
)

GATES = Table(
    "webhook_gates",
    METADATA,
    Column("endpoint_id", UUID, primary_key=True),
    Column("claims", BigInteger, nullable=False),
    Column("paid_until", _MOMENT, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("exhausted", Integer, nullable=False),
    Column("failing_from", _MOMENT),
    Column("failed_at", _MOMENT),
    Column("open_until", _MOMENT),
)

EVENTS = Table(
    "webhook_events",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("type", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("traceparent", Text),
    Column("correlation_id", Text, nullable=False),
    Column("stored_at", _MOMENT, nullable=False),
)

MESSAGES = Table(
    "webhook_messages",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("event_id", UUID, nullable=False),
    Column("endpoint_id", UUID, nullable=False),
    Column("organization_id", UUID, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("aggregate_version", Integer, nullable=False),
    Column("ordered", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempts_before", Integer, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("lease_id", UUID),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", _MOMENT, nullable=False),
    Column("delivered_at", _MOMENT),
)

ATTEMPTS = Table(
    "webhook_attempts",
    METADATA,
    Column("id", UUID, primary_key=True),
    Column("message_id", UUID, nullable=False),
    Column("endpoint_id", UUID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("attempted_at", _MOMENT, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("detail", Text, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("request_head", JSONB, nullable=False),
    Column("response_head", JSONB, nullable=False),
    Column("response_body", LargeBinary, nullable=False),
    Column("response_truncated", Boolean, nullable=False),
)
