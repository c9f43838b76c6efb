"""Sharing: who waits for a delivery, and every delivery by the place it is fetched at."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE deliveries ADD COLUMN waiting_ids uuid[] NOT NULL DEFAULT '{}'",
    "CREATE INDEX deliveries_waiting ON deliveries USING gin (waiting_ids) WHERE status IN ('open', 'claimed')",
    "CREATE INDEX deliveries_fetched_at ON deliveries (pickup_place_id, id DESC)",
    "DROP INDEX deliveries_pickup_place",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
