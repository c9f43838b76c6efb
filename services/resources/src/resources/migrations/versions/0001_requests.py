"""Requests: the row each stream folds to, their lines with coverage as a constraint, and where reservations are."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE resource_requests (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, organization_id uuid NOT NULL,
        place_id uuid NOT NULL, status text NOT NULL, title text NOT NULL, urgency text NOT NULL,
        needed_by_at timestamptz, created_at timestamptz NOT NULL)""",
    "CREATE INDEX resource_requests_open ON resource_requests (id DESC) WHERE status = 'open'",
    "CREATE INDEX resource_requests_organization ON resource_requests (organization_id, id DESC)",
    "CREATE INDEX resource_requests_place ON resource_requests (place_id)",
    """CREATE TABLE request_lines (
        request_id uuid NOT NULL REFERENCES resource_requests (id), line_id uuid NOT NULL, position int NOT NULL,
        name text NOT NULL, category text, gtin text, unit text NOT NULL,
        needed bigint NOT NULL CHECK (needed > 0), reserved bigint NOT NULL CHECK (reserved >= 0),
        received bigint NOT NULL CHECK (received >= 0), PRIMARY KEY (request_id, line_id),
        CONSTRAINT request_lines_covered CHECK (reserved + received <= needed),
        CONSTRAINT request_lines_named CHECK (category IS NOT NULL OR gtin IS NOT NULL))""",
    "CREATE INDEX request_lines_category ON request_lines (category, request_id)",
    """CREATE TABLE reservations (
        id uuid PRIMARY KEY, request_id uuid NOT NULL REFERENCES resource_requests (id), organization_id uuid NOT NULL,
        donor_organization_id uuid NOT NULL, status text NOT NULL, mode text NOT NULL, lines jsonb NOT NULL,
        delivery_id uuid, reserved_at timestamptz NOT NULL, expires_at timestamptz NOT NULL)""",
    "CREATE INDEX reservations_request ON reservations (request_id, donor_organization_id)",
    "CREATE INDEX reservations_organization ON reservations (organization_id, id DESC)",
    "CREATE INDEX reservations_donor ON reservations (donor_organization_id, id DESC)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
