"""Analytics: the audit trail, the daily counters, and what is known of each batch, delivery and request."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE audit_events (
        event_id uuid PRIMARY KEY, occurred_at timestamptz NOT NULL, type text NOT NULL, subject uuid NOT NULL,
        version int NOT NULL, actor_id text, organization_id uuid, parties uuid[] NOT NULL, correlation_id text NOT NULL,
        data jsonb NOT NULL)""",
    "CREATE INDEX audit_events_newest ON audit_events (occurred_at DESC, event_id DESC)",
    "CREATE INDEX audit_events_subject ON audit_events (subject, version)",
    "CREATE INDEX audit_events_type ON audit_events (type, occurred_at DESC)",
    "CREATE INDEX audit_events_actor ON audit_events (actor_id, occurred_at DESC) WHERE actor_id IS NOT NULL",
    "CREATE INDEX audit_events_parties ON audit_events USING gin (parties)",
    """CREATE TABLE quantities_daily (
        day date NOT NULL, organization_id uuid NOT NULL, role text NOT NULL CHECK (role IN ('giver', 'receiver')),
        place_id uuid NOT NULL, category text NOT NULL, unit text NOT NULL, offered bigint NOT NULL,
        rescued bigint NOT NULL, delivered bigint NOT NULL,
        PRIMARY KEY (organization_id, day, role, place_id, category, unit))
       WITH (fillfactor = 70)""",
    "CREATE INDEX quantities_daily_day ON quantities_daily (day)",
    """CREATE TABLE batch_losses (
        batch_id uuid NOT NULL, version int NOT NULL, day date NOT NULL, organization_id uuid NOT NULL,
        place_id uuid NOT NULL, category text NOT NULL, unit text NOT NULL, lost bigint NOT NULL,
        PRIMARY KEY (batch_id, version) INCLUDE (lost))""",
    "CREATE INDEX batch_losses_organization ON batch_losses (organization_id, day)",
    "CREATE INDEX batch_losses_day ON batch_losses (day)",
    """CREATE TABLE batches_seen (
        batch_id uuid PRIMARY KEY, organization_id uuid NOT NULL, place_id uuid NOT NULL, category text NOT NULL,
        unit text NOT NULL, pickup_to timestamptz NOT NULL, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
        created_at timestamptz, ready_at timestamptz, closed_at timestamptz, cancelled_at timestamptz,
        expired_at timestamptz, recalled_at timestamptz)""",
    "CREATE INDEX batches_seen_organization ON batches_seen (organization_id, last_at)",
    "CREATE INDEX batches_seen_last ON batches_seen (last_at)",
    """CREATE TABLE deliveries_seen (
        delivery_id uuid PRIMARY KEY, organizations uuid[] NOT NULL, pickup_place_id uuid NOT NULL, batch_ids uuid[] NOT NULL,
        first_at timestamptz NOT NULL, last_at timestamptz NOT NULL, planned_at timestamptz, opened_at timestamptz,
        claimed_at timestamptz, picked_up_at timestamptz, completed_at timestamptz, cancelled_at timestamptz,
        expired_at timestamptz, failed_at timestamptz, returned_at timestamptz, discarded_at timestamptz,
        no_show_at timestamptz)""",
    "CREATE INDEX deliveries_seen_organizations ON deliveries_seen USING gin (organizations)",
    "CREATE INDEX deliveries_seen_last ON deliveries_seen (last_at)",
    """CREATE TABLE requests_seen (
        request_id uuid PRIMARY KEY, version int NOT NULL, organization_id uuid NOT NULL, place_id uuid NOT NULL,
        status text NOT NULL, opened_at timestamptz NOT NULL)""",
    "CREATE INDEX requests_seen_organization ON requests_seen (organization_id, opened_at)",
    "CREATE INDEX requests_seen_opened ON requests_seen (opened_at)",
    """CREATE TABLE need_lines (
        request_id uuid NOT NULL, line_id uuid NOT NULL, version int NOT NULL, category text NOT NULL, unit text NOT NULL,
        needed bigint NOT NULL, reserved bigint NOT NULL, received bigint NOT NULL, PRIMARY KEY (request_id, line_id))""",
    # A batch's events carry what is lost of it so far; a day's loss is how much that grew since the version before.
    """CREATE VIEW daily AS
        SELECT day, organization_id, role, place_id, category, unit, offered, rescued, delivered, 0::bigint AS lost
        FROM quantities_daily
        UNION ALL
        SELECT l.day, l.organization_id, 'giver', l.place_id, l.category, l.unit, 0, 0, 0,
            l.lost - coalesce((SELECT p.lost FROM batch_losses p WHERE p.batch_id = l.batch_id AND p.version < l.version
                ORDER BY p.version DESC LIMIT 1), 0)
        FROM batch_losses l""",
    # The needs of a request are the lines of its newest snapshot; lines of older ones were taken out of it.
    """CREATE VIEW needs AS
        SELECT (r.opened_at AT TIME ZONE 'UTC')::date AS day, r.opened_at, r.organization_id, r.place_id, l.category, l.unit,
            l.needed, l.reserved, l.received
        FROM requests_seen r JOIN need_lines l ON l.request_id = r.request_id AND l.version = r.version
        WHERE r.status <> 'cancelled'""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
