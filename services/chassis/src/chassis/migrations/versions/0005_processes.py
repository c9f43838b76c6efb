"""Process managers: a row per run with what it did and by when it goes on."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE processes (
        id uuid PRIMARY KEY, kind text NOT NULL, key uuid NOT NULL, run int NOT NULL,
        status text NOT NULL CHECK (status IN ('running', 'done', 'compensated')),
        state jsonb NOT NULL, steps jsonb NOT NULL, deadline timestamptz, correlation_id text NOT NULL, outcome text,
        version int NOT NULL, started_at timestamptz NOT NULL, changed_at timestamptz NOT NULL,
        CONSTRAINT processes_run UNIQUE (kind, key, run),
        CONSTRAINT processes_end CHECK ((status = 'running') = (outcome IS NULL)))
       WITH (fillfactor = 80)""",
    "CREATE UNIQUE INDEX processes_running ON processes (kind, key) WHERE status = 'running'",
    "CREATE INDEX processes_deadline ON processes (deadline) WHERE status = 'running'",
    "CREATE INDEX processes_ended ON processes (changed_at) WHERE status <> 'running'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
