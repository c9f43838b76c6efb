"""Deliveries: the row each stream folds to, its custody secrets, and what is known of batches and volunteers."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE EXTENSION IF NOT EXISTS btree_gist",
    """CREATE TABLE deliveries (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL,
        status text NOT NULL CHECK (status IN ('planned', 'open', 'claimed', 'in_transit', 'rerouting', 'delivered',
            'returned', 'discarded', 'cancelled', 'expired', 'failed')),
        party_ids uuid[] NOT NULL, batch_ids uuid[] NOT NULL, pickup_place_id uuid NOT NULL,
        receiving_place_id uuid NOT NULL, planned_by uuid NOT NULL, volunteer_id uuid, claimed_at timestamptz,
        busy_from timestamptz, busy_to timestamptz, created_at timestamptz NOT NULL,
        CONSTRAINT deliveries_one_claim CHECK (
            CASE WHEN status IN ('claimed', 'in_transit', 'rerouting')
                 THEN volunteer_id IS NOT NULL AND claimed_at IS NOT NULL AND busy_from < busy_to
                 WHEN status IN ('planned', 'open') THEN volunteer_id IS NULL
                 ELSE true END),
        CONSTRAINT deliveries_volunteer_free EXCLUDE USING gist (
            volunteer_id WITH =, tstzrange(busy_from, busy_to) WITH &&)
            WHERE (status IN ('claimed', 'in_transit', 'rerouting')))""",
    "CREATE INDEX deliveries_open ON deliveries (id DESC) WHERE status = 'open'",
    "CREATE INDEX deliveries_volunteer ON deliveries (volunteer_id, claimed_at) WHERE volunteer_id IS NOT NULL",
    "CREATE INDEX deliveries_planned_by ON deliveries (planned_by, id DESC)",
    "CREATE INDEX deliveries_parties ON deliveries USING gin (party_ids)",
    """CREATE INDEX deliveries_batches ON deliveries USING gin (batch_ids)
       WHERE status IN ('planned', 'open', 'claimed', 'in_transit', 'rerouting')""",
    "CREATE INDEX deliveries_pickup_place ON deliveries (pickup_place_id) WHERE status = 'open'",
    "CREATE TABLE custody_secrets (delivery_id uuid PRIMARY KEY, sealed bytea NOT NULL)",
    """CREATE TABLE custody_tries (
        delivery_id uuid NOT NULL, stage text NOT NULL, failed_at timestamptz[] NOT NULL,
        PRIMARY KEY (delivery_id, stage))""",
    """CREATE TABLE known_batches (
        batch_id uuid PRIMARY KEY, version int NOT NULL, organization_id uuid NOT NULL, place_id uuid NOT NULL,
        status text NOT NULL, category text NOT NULL, product_name text NOT NULL, unit text NOT NULL,
        storage text NOT NULL, use_by_at timestamptz, pickup_from timestamptz NOT NULL, pickup_to timestamptz NOT NULL)""",
    """CREATE TABLE volunteers (
        user_id uuid PRIMARY KEY, version int NOT NULL DEFAULT 0, vehicle text, capacity_g int, lat float8, lon float8,
        radius_m int, suspended boolean NOT NULL DEFAULT false)""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
