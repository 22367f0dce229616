-- name: read_event
-- An event with all that its digest covers. An erased event has no content.
SELECT position, aggregate::text, aggregate_id, version, type, actor, request_id, recorded_at, salt,
    CASE WHEN content_hash IS NULL OR data <> '{}' THEN data::text END, content_hash, digest
FROM events WHERE position = %(position)s
