"""The directory's places: what each never takes in, and how many people it serves."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE access_places ADD COLUMN stop_list text[] NOT NULL DEFAULT '{}', ADD COLUMN people_served int"
    )
