"""Notifications, their messages per channel, and what is known of people: contacts, preferences, deliveries they are in."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    # A UUIDv7: the milliseconds since 1970 over a version 4, whose version nibble 0100 becomes 0111.
    """CREATE FUNCTION time_ordered_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
        SELECT encode(set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid $$""",
    """CREATE TABLE contacts (
        user_id uuid PRIMARY KEY, status text NOT NULL DEFAULT 'wanted' CHECK (status IN ('wanted', 'known', 'gone')),
        email text, locale text NOT NULL DEFAULT 'pt-BR', display_name text, fetched_at timestamptz,
        attempts int NOT NULL DEFAULT 0, due_at timestamptz,
        CONSTRAINT contacts_known CHECK ((status = 'known') = (email IS NOT NULL)))""",
    "CREATE INDEX contacts_due ON contacts (due_at) WHERE due_at IS NOT NULL",
    """CREATE TABLE preferences (
        user_id uuid PRIMARY KEY, locale text, email boolean NOT NULL DEFAULT true, quiet_from time, quiet_to time,
        quiet_tz text, updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT preferences_quiet CHECK (num_nulls(quiet_from, quiet_to, quiet_tz) IN (0, 3)))""",
    """CREATE TABLE deliveries (
        delivery_id uuid PRIMARY KEY, version int NOT NULL, status text NOT NULL, provider_ids uuid[] NOT NULL,
        receiver_id uuid NOT NULL, volunteer_id uuid, batch_ids uuid[] NOT NULL)""",
    "CREATE INDEX deliveries_batches ON deliveries USING gin (batch_ids)",
    """CREATE TABLE notifications (
        id uuid PRIMARY KEY, event_id uuid NOT NULL, user_id uuid NOT NULL, kind text NOT NULL, critical boolean NOT NULL,
        event_type text NOT NULL, subject uuid NOT NULL, context jsonb NOT NULL, correlation_id text NOT NULL,
        traceparent text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), read_at timestamptz,
        CONSTRAINT notifications_told_once UNIQUE (event_id, user_id))""",
    "CREATE INDEX notifications_inbox ON notifications (user_id, id DESC)",
    "CREATE INDEX notifications_unread ON notifications (user_id, id DESC) WHERE read_at IS NULL",
    """CREATE TABLE messages (
        id uuid PRIMARY KEY, notification_id uuid NOT NULL REFERENCES notifications, user_id uuid NOT NULL,
        channel text NOT NULL CHECK (channel IN ('in_app', 'email')),
        status text NOT NULL
            CHECK (status IN ('queued', 'deferred', 'sent', 'read', 'failed', 'expired', 'suppressed')),
        critical boolean NOT NULL, attempts int NOT NULL DEFAULT 0, due_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL, finished_at timestamptz, reference text, failure text,
        CONSTRAINT messages_one_per_channel UNIQUE (notification_id, channel))""",
    "CREATE INDEX messages_due ON messages (critical DESC, due_at) WHERE status IN ('queued', 'deferred')",
    "CREATE INDEX messages_expiring ON messages (expires_at) WHERE status IN ('queued', 'deferred')",
    "CREATE INDEX messages_deferred ON messages (user_id) WHERE status = 'deferred'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
