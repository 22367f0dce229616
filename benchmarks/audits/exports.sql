-- name: copy_to_nowhere
-- All that an export holds of each event, in PostgreSQL's own text format. The server throws it away.
COPY (SELECT position, recorded_at, aggregate, aggregate_id, version, type, actor, request_id, data, salt, content_hash,
    digest, idempotency_owner, idempotency_key, fingerprint FROM events ORDER BY position) TO '/dev/null'
