"""What holds endpoints apart: a gate per endpoint, order per subject, attempts by the day, and indexes that fit the claim.

Attempts made so far become the partition of the day of this migration, and go when that day does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from alembic import op
from chassis.partitions import first_id_of

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE webhook_endpoints ADD COLUMN retry_schedule_s int[], ADD COLUMN failing_percent int NOT NULL DEFAULT 0",
    # One row per endpoint that a message was ever stored for: small and hot, so that claims never lock the endpoint itself.
    # claims: goes up with every claim; paid_until: the rate's sends are paid for until then (GCRA);
    # failures, exhausted: attempts and messages in a row; open_until: the breaker lets nothing through before.
    """CREATE TABLE webhook_gates (
        endpoint_id uuid PRIMARY KEY, claims bigint NOT NULL DEFAULT 0,
        paid_until timestamptz NOT NULL DEFAULT '-infinity', failures int NOT NULL DEFAULT 0,
        exhausted int NOT NULL DEFAULT 0, failing_from timestamptz, failed_at timestamptz, open_until timestamptz)
       WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)""",
    "INSERT INTO webhook_gates (endpoint_id) SELECT id FROM webhook_endpoints",
    """ALTER TABLE webhook_messages ADD COLUMN aggregate_version int NOT NULL DEFAULT 1,
        ADD COLUMN ordered boolean NOT NULL DEFAULT false""",
    # In this order it also tells whether an event still has messages.
    "ALTER TABLE webhook_messages DROP CONSTRAINT webhook_messages_once",
    "ALTER TABLE webhook_messages ADD CONSTRAINT webhook_messages_once UNIQUE (event_id, endpoint_id)",
    "DROP INDEX webhook_messages_due",
    """CREATE INDEX webhook_messages_due ON webhook_messages (endpoint_id, due_at, id)
       WHERE status IN ('pending', 'retrying')""",
    "CREATE INDEX webhook_messages_leased ON webhook_messages (endpoint_id, due_at) WHERE status = 'delivering'",
    """CREATE INDEX webhook_messages_ordered ON webhook_messages (endpoint_id, subject, aggregate_version, id)
       WHERE ordered AND status IN ('pending', 'retrying', 'delivering', 'held')""",
    "ALTER TABLE webhook_attempts RENAME TO webhook_attempts_before",
    "ALTER TABLE webhook_attempts_before RENAME CONSTRAINT webhook_attempts_pkey TO webhook_attempts_before_pkey",
    "ALTER INDEX webhook_attempts_message RENAME TO webhook_attempts_before_message",
    "CREATE TABLE webhook_attempts (LIKE webhook_attempts_before INCLUDING ALL) PARTITION BY RANGE (id)",
    "CREATE TABLE webhook_attempts_default PARTITION OF webhook_attempts DEFAULT",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    today = datetime.now(UTC).date()
    end = first_id_of(today + timedelta(days=1))
    op.execute(f"ALTER TABLE webhook_attempts_before RENAME TO webhook_attempts_{today:%Y%m%d}")
    op.execute(
        f"ALTER TABLE webhook_attempts ATTACH PARTITION webhook_attempts_{today:%Y%m%d} FOR VALUES FROM (MINVALUE) TO ('{end}')"
    )
