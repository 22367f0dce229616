-- name: count_mismatches
-- The number of events that do not match their digests.
SELECT count(*) FROM events WHERE digest IS DISTINCT FROM event_digest(
    position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, salt, content_hash)
