"""Endpoints choose parties and the public key scheme; recoveries run as jobs; what was never delivered is found at once."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """ALTER TABLE webhook_endpoints ADD COLUMN parties uuid[] NOT NULL DEFAULT '{}',
       ADD COLUMN ed25519 boolean NOT NULL DEFAULT false""",
    # How many of the attempts were made before a recovery began the schedule anew.
    "ALTER TABLE webhook_messages ADD COLUMN attempts_before int NOT NULL DEFAULT 0",
    # Both are touched by what fails, is held or cancelled only: a message that is delivered at once costs them nothing.
    """CREATE INDEX webhook_messages_missed_organization ON webhook_messages (organization_id, event_type, id)
       WHERE status IN ('retrying', 'exhausted', 'held', 'cancelled') AND delivered_at IS NULL""",
    """CREATE INDEX webhook_messages_missed_endpoint ON webhook_messages (endpoint_id, event_type, id)
       WHERE status IN ('retrying', 'exhausted', 'held', 'cancelled') AND delivered_at IS NULL""",
    # counted_to: the last message that the total knows of, null once all are counted; sent_to: the last one sent again.
    """CREATE TABLE webhook_recoveries (
        job_id uuid PRIMARY KEY REFERENCES operator_jobs ON DELETE CASCADE,
        endpoint_id uuid NOT NULL, organization_id uuid NOT NULL,
        since timestamptz NOT NULL, until timestamptz NOT NULL, everything boolean NOT NULL,
        ids_end uuid NOT NULL, counted_to uuid, sent_to uuid NOT NULL)""",
    "CREATE INDEX webhook_recoveries_endpoint ON webhook_recoveries (endpoint_id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
