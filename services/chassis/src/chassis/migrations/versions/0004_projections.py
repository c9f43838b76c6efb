"""Replays that others asked for; generations of projections, rebuilt beside the live ones; keys that know their version."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE replays (
        id uuid PRIMARY KEY, queue text NOT NULL, aggregates text[] NOT NULL,
        status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'cancelled', 'failed')), error text,
        after_stream uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', after_version int NOT NULL DEFAULT 0,
        sent bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0, owner uuid,
        created_at timestamptz NOT NULL, next_at timestamptz NOT NULL)""",
    "CREATE INDEX replays_due ON replays (next_at) WHERE status = 'running'",
    """CREATE TABLE projection_generations (
        consumer text NOT NULL, number int NOT NULL CHECK (number > 0),
        status text NOT NULL CHECK (status IN ('building', 'live', 'retired', 'cancelled', 'failed', 'gone')),
        step text NOT NULL, schema_revision text, job_id uuid, waits_for text, error text,
        started_at timestamptz NOT NULL, live_at timestamptz, ended_at timestamptz,
        next_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (consumer, number))""",
    "CREATE UNIQUE INDEX projection_generations_live ON projection_generations (consumer) WHERE status = 'live'",
    "CREATE UNIQUE INDEX projection_generations_building ON projection_generations (consumer) WHERE status = 'building'",
    """CREATE TABLE projection_replays (
        replay_id uuid PRIMARY KEY, consumer text NOT NULL, number int NOT NULL, producer text NOT NULL,
        sent bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0, error text, asked_at timestamptz NOT NULL,
        ended_at timestamptz, UNIQUE (consumer, number, producer),
        FOREIGN KEY (consumer, number) REFERENCES projection_generations)""",
    # A key issued once more under its id must win against its first issue, in whichever order the two come.
    "ALTER TABLE access_keys ADD COLUMN version int NOT NULL DEFAULT 0",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
