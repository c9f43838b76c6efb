"""Places: what each never takes in."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE places ADD COLUMN stop_list text[] NOT NULL DEFAULT '{}'")
