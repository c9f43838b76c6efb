"""Webhooks: endpoints, the events they wait for, one message per event and endpoint, and the log of attempts.

No foreign keys between messages, events and attempts: they are written by one statement each and would otherwise lock
the endpoint's row with every message.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE webhook_endpoints (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, organization_id uuid NOT NULL, url text NOT NULL,
        event_types text[] NOT NULL, description text NOT NULL, rate_per_s int, ordered boolean NOT NULL,
        timeout_s int NOT NULL CHECK (timeout_s BETWEEN 1 AND 30),
        status text NOT NULL CHECK (status IN ('active', 'paused', 'failing', 'disabled', 'deleted')),
        failing_since timestamptz, disabled_reason text, created_at timestamptz NOT NULL)""",
    "CREATE INDEX webhook_endpoints_listening ON webhook_endpoints (organization_id, id DESC) WHERE status <> 'deleted'",
    """CREATE TABLE webhook_events (
        id uuid PRIMARY KEY, type text NOT NULL, subject uuid NOT NULL, body bytea NOT NULL, traceparent text,
        correlation_id text NOT NULL, stored_at timestamptz NOT NULL DEFAULT now())""",
    # due_at: when to look again - the next attempt while pending or retrying, the end of the lease while delivering.
    """CREATE TABLE webhook_messages (
        id uuid PRIMARY KEY, event_id uuid NOT NULL, endpoint_id uuid NOT NULL, organization_id uuid NOT NULL,
        event_type text NOT NULL, subject uuid NOT NULL,
        status text NOT NULL CHECK (status IN
            ('pending', 'delivering', 'delivered', 'retrying', 'exhausted', 'held', 'cancelled')),
        attempts int NOT NULL DEFAULT 0, due_at timestamptz NOT NULL, lease_id uuid, last_status int, last_error text,
        created_at timestamptz NOT NULL, delivered_at timestamptz,
        CONSTRAINT webhook_messages_once UNIQUE (endpoint_id, event_id))
       WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05)""",
    """CREATE INDEX webhook_messages_due ON webhook_messages (endpoint_id, due_at, id)
       WHERE status IN ('pending', 'retrying', 'delivering')""",
    "CREATE INDEX webhook_messages_held ON webhook_messages (endpoint_id, id) WHERE status = 'held'",
    "CREATE INDEX webhook_messages_organization ON webhook_messages (organization_id, id DESC)",
    "CREATE INDEX webhook_messages_endpoint ON webhook_messages (endpoint_id, id DESC)",
    """CREATE INDEX webhook_messages_undelivered ON webhook_messages (organization_id, status, id DESC)
       WHERE status IN ('retrying', 'exhausted', 'held', 'cancelled')""",
    """CREATE TABLE webhook_attempts (
        id uuid PRIMARY KEY, message_id uuid NOT NULL, endpoint_id uuid NOT NULL, number int NOT NULL,
        attempted_at timestamptz NOT NULL, outcome text NOT NULL CHECK (outcome IN ('delivered', 'failed', 'refused')),
        status int, error text, detail text NOT NULL, duration_ms int NOT NULL, url text NOT NULL,
        request_head jsonb NOT NULL, response_head jsonb NOT NULL, response_body bytea NOT NULL,
        response_truncated boolean NOT NULL)""",
    "CREATE INDEX webhook_attempts_message ON webhook_attempts (message_id, id DESC)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
