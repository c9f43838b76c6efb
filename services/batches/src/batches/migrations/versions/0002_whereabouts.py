"""Whereabouts: deliveries as their events tell them, the last temperature, and batches by their place."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE followed_deliveries (
        delivery_id uuid PRIMARY KEY, version int NOT NULL, status text NOT NULL, volunteer_id uuid,
        receiving_organization_id uuid NOT NULL, receiving_place_id uuid NOT NULL)""",
    "ALTER TABLE batches ADD COLUMN temperature_dc int, ADD COLUMN temperature_alarm boolean NOT NULL DEFAULT false",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
