"""Partner catalogues: loads with their chunks and rejects, and the products they make."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Keys and codes compare byte by byte (COLLATE "C"): a tenth faster, and the order in which Python sorts them.
STATEMENTS = (
    # A trusted extension: the owner of the database may make it.
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    # `seq` is the order of acceptance: rows of one company are made one after the other, under the lock of its feed.
    """CREATE TABLE catalogue_loads (
        id uuid PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY,
        organization_id uuid NOT NULL, cnpj text NOT NULL, mode text NOT NULL, status text NOT NULL,
        received_at timestamptz NOT NULL)""",
    "CREATE INDEX catalogue_loads_organization ON catalogue_loads (organization_id, id DESC)",
    "CREATE INDEX catalogue_loads_company ON catalogue_loads (cnpj, id DESC)",
    """CREATE INDEX catalogue_loads_turn ON catalogue_loads (cnpj, seq)
       WHERE status NOT IN ('applied', 'applied_with_errors', 'rejected', 'failed', 'cancelled')""",
    "CREATE UNIQUE INDEX catalogue_loads_applying ON catalogue_loads (cnpj) WHERE status = 'applying'",
    """CREATE TABLE catalogue_feeds (
        cnpj text PRIMARY KEY, full_load_id uuid, full_sha256 text, delta_load_id uuid, delta_sha256 text, sequence bigint)""",
    # What workers know of a load that is not over: whose it is, since when nothing moved, how far it came.
    """CREATE TABLE catalogue_runs (
        load_id uuid PRIMARY KEY REFERENCES catalogue_loads (id), cnpj text NOT NULL, seq bigint NOT NULL,
        due_at timestamptz NOT NULL, fence bigint NOT NULL DEFAULT 0, attempts int NOT NULL DEFAULT 0,
        progress_at timestamptz NOT NULL, read boolean NOT NULL DEFAULT false, announced int NOT NULL DEFAULT 0,
        deactivated bigint NOT NULL DEFAULT 0)""",
    "CREATE INDEX catalogue_runs_due ON catalogue_runs (due_at)",
    "CREATE INDEX catalogue_runs_turn ON catalogue_runs (cnpj, seq)",
    """CREATE TABLE catalogue_chunks (
        id uuid NOT NULL, load_id uuid NOT NULL REFERENCES catalogue_loads (id), number int NOT NULL, row_last bigint NOT NULL,
        rows int NOT NULL, accepted int NOT NULL, duplicates int NOT NULL, rejected int NOT NULL, keys text[] COLLATE "C" NOT NULL,
        status text NOT NULL CHECK (status IN ('stored', 'due', 'done', 'failed')), due_at timestamptz,
        attempts int NOT NULL DEFAULT 0, fence bigint NOT NULL DEFAULT 0, message bytea, error text,
        inserted int NOT NULL DEFAULT 0, updated int NOT NULL DEFAULT 0, unchanged int NOT NULL DEFAULT 0, done_at timestamptz,
        PRIMARY KEY (load_id, number))""",
    "CREATE UNIQUE INDEX catalogue_chunks_id ON catalogue_chunks (id)",
    "CREATE INDEX catalogue_chunks_due ON catalogue_chunks (due_at) WHERE status = 'due'",
    """CREATE TABLE catalogue_rejects (
        load_id uuid NOT NULL, number int NOT NULL, row bigint NOT NULL, pointer text NOT NULL,
        code text NOT NULL, detail text NOT NULL, raw text NOT NULL, PRIMARY KEY (load_id, row))""",
    # Keys that several chunks of a load have, with the last of these; and active products that a FULL lacks.
    """CREATE TABLE catalogue_duplicates (
        load_id uuid NOT NULL, key text COLLATE "C" NOT NULL, number int NOT NULL, PRIMARY KEY (load_id, key))""",
    """CREATE TABLE catalogue_missing (
        load_id uuid NOT NULL, key text COLLATE "C" NOT NULL, PRIMARY KEY (load_id, key))""",
    """CREATE TABLE products (
        cnpj text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, gtin text COLLATE "C", sku text COLLATE "C",
        name text NOT NULL, brand text, category text COLLATE "C", price_cents bigint NOT NULL CHECK (price_cents >= 0),
        stock bigint NOT NULL CHECK (stock >= 0), unit text COLLATE "C" NOT NULL, storage text COLLATE "C" NOT NULL,
        expires_on date, plain_name text COLLATE "C" NOT NULL, active boolean NOT NULL, load_id uuid NOT NULL,
        changed_at timestamptz NOT NULL, PRIMARY KEY (cnpj, key) INCLUDE (active))""",
    "CREATE INDEX products_category ON products (cnpj, category, key) WHERE active",
    "CREATE INDEX products_gtin ON products (gtin, cnpj) WHERE gtin IS NOT NULL",
    "CREATE INDEX products_price ON products (cnpj, price_cents, key) WHERE active",
    "CREATE INDEX products_name ON products USING gin (plain_name gin_trgm_ops)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
