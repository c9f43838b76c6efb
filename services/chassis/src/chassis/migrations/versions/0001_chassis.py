"""The tables that every service has: event store, outbox, inbox, timers, dead letters, idempotency keys, access replica."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE events (
        stream_id uuid NOT NULL, version int NOT NULL CHECK (version > 0), event_id uuid NOT NULL, type text NOT NULL,
        data jsonb NOT NULL, meta jsonb NOT NULL, tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
        seq bigint GENERATED ALWAYS AS IDENTITY, epoch int NOT NULL DEFAULT 0, occurred_at timestamptz NOT NULL,
        CONSTRAINT events_pkey PRIMARY KEY (stream_id, version))""",
    "CREATE INDEX events_feed ON events (epoch, tx, seq)",
    """CREATE TABLE outbox (
        part int NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, order_key uuid NOT NULL, message_id uuid NOT NULL,
        exchange text NOT NULL, routing_key text NOT NULL, headers jsonb NOT NULL, body bytea NOT NULL,
        created_at timestamptz NOT NULL, PRIMARY KEY (part, id))
       WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)""",
    """CREATE TABLE outbox_leases (
        part int PRIMARY KEY, owner uuid NOT NULL, fence bigint NOT NULL, until timestamptz NOT NULL)""",
    "CREATE TABLE outbox_relays (owner uuid PRIMARY KEY, until timestamptz NOT NULL)",
    """INSERT INTO outbox_leases SELECT part, '00000000-0000-0000-0000-000000000000', 0, '-infinity'
       FROM generate_series(0, 63) AS part""",
    """CREATE TABLE inbox (
        message_id uuid NOT NULL, consumer text NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (message_id, consumer)) PARTITION BY RANGE (message_id)""",
    "CREATE TABLE inbox_default PARTITION OF inbox DEFAULT",
    """CREATE TABLE timers (
        id uuid PRIMARY KEY, due_at timestamptz NOT NULL, dedupe_key text NOT NULL UNIQUE, payload jsonb NOT NULL)""",
    "CREATE INDEX timers_due ON timers (due_at)",
    """CREATE TABLE dead_letters (
        id uuid PRIMARY KEY, consumer text NOT NULL, queue text NOT NULL, message_id text NOT NULL, headers jsonb NOT NULL,
        body bytea NOT NULL, reason text NOT NULL, error_type text NOT NULL, error_message text NOT NULL,
        error_stack text NOT NULL, fingerprint text NOT NULL, attempts int NOT NULL, first_failed_at timestamptz NOT NULL,
        last_failed_at timestamptz NOT NULL,
        status text NOT NULL CHECK (status IN ('open', 'redriving', 'resolved', 'discarded')),
        redrives int NOT NULL DEFAULT 0, actor text, note text)""",
    "CREATE INDEX dead_letters_open ON dead_letters (fingerprint, id) WHERE status = 'open'",
    """CREATE TABLE idempotency_keys (
        scope bytea CONSTRAINT idempotency_keys_pkey PRIMARY KEY, fingerprint bytea NOT NULL, answer bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at)",
    """CREATE TABLE access_organizations (
        organization_id uuid PRIMARY KEY, status text NOT NULL, kinds text[], cnpj text, version int NOT NULL)""",
    """CREATE TABLE access_members (
        organization_id uuid NOT NULL, user_id uuid NOT NULL, role text, version int NOT NULL,
        PRIMARY KEY (organization_id, user_id))""",
    "CREATE INDEX access_members_user ON access_members (user_id)",
    """CREATE TABLE access_users (
        user_id uuid PRIMARY KEY, suspended boolean NOT NULL DEFAULT false, roles text[] NOT NULL DEFAULT '{}')""",
    "CREATE TABLE access_sessions_ended (session_id uuid PRIMARY KEY, ended_at timestamptz NOT NULL DEFAULT now())",
    """CREATE TABLE access_keys (
        api_key_id uuid PRIMARY KEY, key_sha256 text UNIQUE, organization_id uuid NOT NULL, env text NOT NULL DEFAULT 'live',
        scopes text[] NOT NULL DEFAULT '{}', cnpjs text[] NOT NULL DEFAULT '{}', rate_per_minute int,
        expires_at timestamptz, revoked boolean NOT NULL DEFAULT false)""",
    """CREATE TABLE access_places (
        place_id uuid PRIMARY KEY, organization_id uuid NOT NULL, roles text[] NOT NULL, ibge_city text NOT NULL,
        lat float8 NOT NULL, lon float8 NOT NULL, tz text NOT NULL, accepts text[] NOT NULL, version int NOT NULL)""",
    "CREATE INDEX access_places_point ON access_places (lat, lon)",
    "CREATE TABLE access_signing_keys (key_id text PRIMARY KEY, jwk jsonb NOT NULL)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
