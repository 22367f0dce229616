-- name: copy_rows
-- Insert all rows of the exported log into another one, inside PostgreSQL.
INSERT INTO {events}
SELECT position, recorded_at, aggregate_id, version, aggregate::text::{kind}, type, data, actor, request_id, digest, salt,
    content_hash, idempotency_owner, idempotency_key, fingerprint
FROM events

-- name: drop_schema
-- Drop a log.
DROP SCHEMA {schema} CASCADE
