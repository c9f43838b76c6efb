"""The order of an aggregate's events: how far each consumer is, what came too early, what is being tried again."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE stream_positions (
        consumer text NOT NULL, stream_id uuid NOT NULL, version int NOT NULL DEFAULT 0,
        waiting boolean NOT NULL DEFAULT false, asked_at timestamptz, PRIMARY KEY (consumer, stream_id))
       WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)""",
    "CREATE INDEX stream_positions_waiting ON stream_positions (consumer, stream_id) WHERE waiting",
    """CREATE TABLE parked_messages (
        consumer text NOT NULL, stream_id uuid NOT NULL, version int NOT NULL, message_id text NOT NULL,
        producer text NOT NULL, body bytea NOT NULL, parked_at timestamptz NOT NULL DEFAULT now(), tried_at timestamptz,
        PRIMARY KEY (consumer, stream_id, version))""",
    """CREATE TABLE retrying_messages (
        consumer text NOT NULL, message_id text NOT NULL, stream_id uuid NOT NULL, version int NOT NULL,
        due_at timestamptz NOT NULL, PRIMARY KEY (consumer, message_id))""",
    "CREATE INDEX retrying_messages_stream ON retrying_messages (consumer, stream_id, version)",
    """CREATE TABLE suspects (
        consumer text NOT NULL, message_id text NOT NULL, tries int NOT NULL, PRIMARY KEY (consumer, message_id))""",
    # What an undecodable message was about is not known.
    "ALTER TABLE dead_letters ADD COLUMN stream_id uuid, ADD COLUMN version int",
    "CREATE INDEX dead_letters_stream ON dead_letters (consumer, stream_id, version) WHERE stream_id IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
