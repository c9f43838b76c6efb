"""Batches: the row each stream folds to, with the ledger's conservation as a constraint."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE batches (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, organization_id uuid NOT NULL, place_id uuid NOT NULL,
        status text NOT NULL, kind text NOT NULL, category text NOT NULL, product_name text NOT NULL, gtin text,
        unit text NOT NULL, storage text NOT NULL, lot_code text, handling_notes text, use_by_at timestamptz,
        est_ready_at timestamptz, pickup_from timestamptz NOT NULL, pickup_to timestamptz NOT NULL,
        total bigint NOT NULL CHECK (total > 0), available bigint NOT NULL CHECK (available >= 0),
        held bigint NOT NULL CHECK (held >= 0), in_transit bigint NOT NULL CHECK (in_transit >= 0),
        delivered bigint NOT NULL CHECK (delivered >= 0), lost bigint NOT NULL CHECK (lost >= 0),
        created_at timestamptz NOT NULL,
        CONSTRAINT batches_conserved CHECK (total = available + held + in_transit + delivered + lost))""",
    "CREATE INDEX batches_ready ON batches (id DESC) WHERE status = 'ready'",
    "CREATE INDEX batches_organization ON batches (organization_id, id DESC)",
    "CREATE INDEX batches_place ON batches (place_id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
