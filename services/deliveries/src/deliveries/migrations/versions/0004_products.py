"""Known batches: which product each is of, for places that do not take it in."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE known_batches ADD COLUMN gtin text")
