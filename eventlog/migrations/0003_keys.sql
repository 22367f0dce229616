-- name: create_keys
-- One row per key for the API. The key itself is not stored, only its SHA-256 and its first 8 characters.
CREATE TABLE keys (
    id uuid PRIMARY KEY,
    owner_id text NOT NULL,
    role text NOT NULL,
    name text,
    prefix text NOT NULL,
    sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- name: comment_keys
-- The grain of the table, shown by psql.
COMMENT ON TABLE keys IS 'One row per key for the API, written by turnlog keys. sha256 is the hash of the whole key, prefix its first 8 characters. A key works until expires_at or revoked_at, whichever comes first.';

-- name: create_token_secret
-- One row: the secret that signs the short tokens of this log.
CREATE TABLE token_secret (
    id integer PRIMARY KEY CHECK (id = 1),
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- name: comment_token_secret
-- The grain of the table, shown by psql.
COMMENT ON TABLE token_secret IS 'At most one row: the secret that signs the short tokens of POST /v1/tokens, made at first use. Without the row, the next token makes another secret, and older tokens no longer work.';
