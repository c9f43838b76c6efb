"""Matching: which lines are open and where, what supply there is, what was proposed; and the deliveries that are heard of."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# As `resources.domain.ground.cell_of` has it.
_BAND = "floor((p.lat + 90) / 0.045)"
_COLUMNS = f"greatest(1, floor(360 * cos(radians(({_BAND} + 0.5) * 0.045 - 90)) / 0.045))"
_CELL = f"({_BAND} * 65536 + floor((p.lon + 180) / 360 * {_COLUMNS})::bigint % {_COLUMNS}::bigint)::bigint"

STATEMENTS = (
    """ALTER TABLE request_lines ADD COLUMN organization_id uuid, ADD COLUMN place_id uuid, ADD COLUMN cell bigint,
        ADD COLUMN urgency smallint NOT NULL DEFAULT 1, ADD COLUMN needed_by_at timestamptz,
        ADD COLUMN open boolean NOT NULL DEFAULT false,
        ADD COLUMN proposed bigint NOT NULL DEFAULT 0, ADD CONSTRAINT request_lines_proposed
            CHECK (proposed = 0 OR (proposed > 0 AND open AND reserved + received + proposed <= needed))""",
    f"""UPDATE request_lines l SET organization_id = r.organization_id, place_id = r.place_id,
        urgency = array_position('{{low,normal,high,emergency}}'::text[], r.urgency) - 1, needed_by_at = r.needed_by_at,
        open = r.status = 'open', cell = (SELECT {_CELL} FROM access_places p WHERE p.place_id = r.place_id)
       FROM resource_requests r WHERE r.id = l.request_id""",
    # A column, so that the planner knows how many there are.
    """ALTER TABLE request_lines ADD COLUMN wanted boolean NOT NULL
        GENERATED ALWAYS AS (open AND needed > reserved + received + proposed) STORED""",
    """CREATE INDEX request_lines_wanted ON request_lines (category, unit, cell, urgency DESC, needed_by_at, line_id)
       WHERE wanted AND gtin IS NULL""",
    """CREATE INDEX request_lines_wanted_product ON request_lines (gtin, unit, cell, urgency DESC, needed_by_at, line_id)
       WHERE wanted AND gtin IS NOT NULL""",
    """CREATE TABLE supply (
        batch_id uuid PRIMARY KEY, version int NOT NULL, organization_id uuid NOT NULL, place_id uuid NOT NULL,
        status text NOT NULL, category text NOT NULL, gtin text, unit text NOT NULL, product_name text NOT NULL,
        use_by_at timestamptz, pickup_from timestamptz NOT NULL, pickup_to timestamptz NOT NULL,
        available bigint NOT NULL CHECK (available >= 0), cell bigint)""",
    "CREATE INDEX supply_ready ON supply (category, unit, cell) WHERE status = 'ready'",
    "CREATE INDEX supply_ready_product ON supply (gtin, unit, cell) WHERE status = 'ready' AND gtin IS NOT NULL",
    "CREATE INDEX supply_place ON supply (place_id) WHERE status IN ('ready', 'depleted')",
    "CREATE INDEX supply_organization ON supply (organization_id) WHERE status IN ('ready', 'depleted')",
    # A planned delivery asks for holds, batches answers: until both are known here, one of them stands alone.
    """CREATE TABLE lone_holds (
        hold_id uuid NOT NULL, side text NOT NULL CHECK (side IN ('asked', 'answered')), batch_id uuid NOT NULL,
        quantity bigint NOT NULL, PRIMARY KEY (hold_id, side))""",
    "CREATE INDEX lone_holds_batch ON lone_holds (batch_id)",
    """CREATE TABLE matches (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, batch_id uuid NOT NULL,
        request_id uuid NOT NULL REFERENCES resource_requests (id), line_id uuid NOT NULL, proposed_line_id uuid,
        provider_organization_id uuid NOT NULL, organization_id uuid NOT NULL, quantity bigint NOT NULL CHECK (quantity > 0),
        status text NOT NULL, score float8 NOT NULL, proposed_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
        reservation_id uuid,
        CONSTRAINT matches_open CHECK ((status = 'proposed') = (proposed_line_id IS NOT NULL)),
        CONSTRAINT matches_line FOREIGN KEY (request_id, proposed_line_id) REFERENCES request_lines (request_id, line_id))""",
    "CREATE INDEX matches_batch ON matches (batch_id, line_id)",
    "CREATE INDEX matches_request ON matches (request_id, proposed_line_id)",
    "CREATE INDEX matches_organization ON matches (organization_id, id DESC)",
    "CREATE INDEX matches_provider ON matches (provider_organization_id, id DESC)",
    "CREATE INDEX matches_reservation ON matches (reservation_id) WHERE reservation_id IS NOT NULL",
    "CREATE INDEX matches_turns ON matches (organization_id, proposed_at) WHERE status = 'proposed'",
    """CREATE INDEX reservations_turns ON reservations (organization_id, reserved_at)
       WHERE status IN ('reserved', 'in_delivery', 'received')""",
    """CREATE TABLE known_deliveries (
        delivery_id uuid PRIMARY KEY, status text NOT NULL, request_id uuid, receiving_organization_id uuid NOT NULL,
        provider_ids uuid[] NOT NULL, lines jsonb NOT NULL)""",
    "CREATE INDEX reservations_delivery ON reservations (delivery_id) WHERE delivery_id IS NOT NULL",
    "CREATE INDEX reservations_waiting ON reservations (donor_organization_id) WHERE status = 'reserved'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
