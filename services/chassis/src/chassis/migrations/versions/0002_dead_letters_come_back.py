"""Dead letters that operators redrive or discard: one row per message and queue, jobs that survive, acts on record."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE dead_letters ADD COLUMN job_id uuid, ADD COLUMN sent_at timestamptz",
    # What a crash between commit and acknowledgement wrote twice is one dead letter: the newest row stays.
    """DELETE FROM dead_letters o USING dead_letters n WHERE o.message_id = n.message_id AND o.consumer = n.consumer
       AND o.queue = n.queue AND o.body = n.body AND o.id < n.id""",
    # The bytes are part of the key: a foreign message without an id of its own must not hide another.
    "CREATE UNIQUE INDEX dead_letters_message ON dead_letters (message_id, consumer, queue, sha256(body))",
    "CREATE INDEX dead_letters_open_consumer ON dead_letters (consumer) WHERE status = 'open'",
    "CREATE INDEX dead_letters_redriving ON dead_letters (id) WHERE status = 'redriving'",
    "CREATE INDEX dead_letters_unsent ON dead_letters (job_id, message_id) WHERE status = 'redriving' AND sent_at IS NULL",
    """CREATE TABLE operator_jobs (
        id uuid PRIMARY KEY, kind text NOT NULL, done int NOT NULL DEFAULT 0, total int NOT NULL, rate_per_s int NOT NULL,
        status text NOT NULL CHECK (status IN ('running', 'done', 'cancelled', 'failed')), error text,
        created_at timestamptz NOT NULL, next_at timestamptz NOT NULL)""",
    "CREATE INDEX operator_jobs_due ON operator_jobs (next_at) WHERE status = 'running'",
    """CREATE TABLE operator_acts (
        id uuid PRIMARY KEY, actor_id uuid NOT NULL, what text NOT NULL, filter jsonb NOT NULL, count int NOT NULL,
        reason text, job_id uuid, request_id text, at timestamptz NOT NULL)""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
