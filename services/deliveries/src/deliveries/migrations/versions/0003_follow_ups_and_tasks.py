"""What follows a delivery's stages: tasks and their templates, offers to volunteers, and what was said about it."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE task_templates (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL)""",
    """CREATE TABLE tasks (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL,
        status text NOT NULL CHECK (status IN ('open', 'completed', 'expired', 'closed')),
        delivery_id uuid NOT NULL, entry int NOT NULL, organization_id uuid NOT NULL, template_key text NOT NULL,
        role text NOT NULL CHECK (role IN ('provider_member', 'receiver_member', 'volunteer', 'coordinator')),
        party_ids uuid[] NOT NULL, assigned_ids uuid[] NOT NULL, volunteer_id uuid,
        created_at timestamptz NOT NULL, due_at timestamptz NOT NULL,
        CONSTRAINT tasks_once UNIQUE (delivery_id, entry, organization_id, template_key))""",
    "CREATE INDEX tasks_parties ON tasks USING gin (party_ids)",
    "CREATE INDEX tasks_assigned ON tasks USING gin (assigned_ids) WHERE status = 'open'",
    "CREATE INDEX tasks_volunteer ON tasks (volunteer_id, created_at DESC) WHERE volunteer_id IS NOT NULL",
    "CREATE INDEX tasks_coordinators ON tasks (created_at DESC, id DESC) WHERE role = 'coordinator'",
    """CREATE TABLE follow_ups (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, delivery_id uuid NOT NULL UNIQUE)""",
    """CREATE TABLE offers (
        id uuid NOT NULL UNIQUE, delivery_id uuid NOT NULL, opening int NOT NULL, volunteer_id uuid NOT NULL,
        ring int NOT NULL, radius_m int NOT NULL, distance_m int NOT NULL, vehicle text NOT NULL, capacity_g int NOT NULL,
        weight_g int NOT NULL, claims_today int NOT NULL, offered_at timestamptz NOT NULL,
        status text NOT NULL CHECK (status IN ('offered', 'taken', 'withdrawn')), settled_at timestamptz,
        PRIMARY KEY (delivery_id, opening, volunteer_id))""",
    "CREATE INDEX offers_volunteer ON offers (volunteer_id, id DESC)",
    # Who lives in the box around a pickup, whatever the size of the country.
    "CREATE INDEX volunteers_point ON volunteers USING gist (point(lon, lat)) WHERE vehicle IS NOT NULL AND NOT suspended",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
