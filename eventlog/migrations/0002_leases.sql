-- name: create_leases
-- One row per turn that a process runs, keyed by the turn. An expired row means that the process has died.
CREATE TABLE leases (
    turn_id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

-- name: create_leases_expiry
-- Every process looks for expired leases every few seconds.
CREATE INDEX leases_expiry ON leases (expires_at);
