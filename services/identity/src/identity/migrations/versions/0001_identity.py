"""Identity: the row each stream folds to, sessions, and what is personal or secret in rows of its own."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE organizations (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, status text NOT NULL,
        cnpj text NOT NULL CONSTRAINT organizations_cnpj_key UNIQUE CHECK (cnpj ~ '^[0-9A-Z]{12}[0-9]{2}$'),
        legal_name text NOT NULL, trade_name text, kinds text[] NOT NULL, registered_at timestamptz NOT NULL)""",
    "CREATE INDEX organizations_root ON organizations (left(cnpj, 8))",
    """CREATE TABLE places (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, organization_id uuid NOT NULL,
        name text NOT NULL, roles text[] NOT NULL, address text NOT NULL, cep text, ibge_city text NOT NULL,
        lat float8 NOT NULL CHECK (lat BETWEEN -90 AND 90), lon float8 NOT NULL CHECK (lon BETWEEN -180 AND 180),
        tz text NOT NULL, accepts text[] NOT NULL, opening_hours text, people_served int, added_at timestamptz NOT NULL)""",
    "CREATE INDEX places_organization ON places (organization_id, id DESC)",
    "CREATE INDEX places_point ON places (lat, lon)",
    """CREATE TABLE users (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, locale text NOT NULL,
        suspended boolean NOT NULL, registered_at timestamptz NOT NULL)""",
    """CREATE TABLE users_private (
        user_id uuid PRIMARY KEY REFERENCES users (id), email text NOT NULL,
        email_key text NOT NULL CONSTRAINT users_private_email_key UNIQUE, display_name text NOT NULL,
        password_hash text NOT NULL)""",
    """CREATE TABLE sessions (
        id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id), started_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL, ended_at timestamptz)""",
    "CREATE INDEX sessions_user ON sessions (user_id) WHERE ended_at IS NULL",
    "CREATE INDEX sessions_expires ON sessions (expires_at)",
    """CREATE TABLE refresh_tokens (
        token_sha256 bytea PRIMARY KEY, session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        expires_at timestamptz NOT NULL, replaced_at timestamptz)""",
    "CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id)",
    "CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires_at)",
    """CREATE TABLE api_keys (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, organization_id uuid NOT NULL,
        status text NOT NULL, name text NOT NULL, env text NOT NULL, prefix text NOT NULL, scopes text[] NOT NULL,
        cnpjs text[] NOT NULL, rate_per_minute bigint, expires_at timestamptz, issued_at timestamptz NOT NULL)""",
    "CREATE INDEX api_keys_organization ON api_keys (organization_id, id DESC)",
    """CREATE TABLE signing_keys (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, key_id text NOT NULL UNIQUE, jwk jsonb NOT NULL)""",
    """CREATE TABLE signing_keys_private (
        signing_key_id uuid PRIMARY KEY REFERENCES signing_keys (id), sealed bytea NOT NULL)""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
