-- name: claim_log
-- The position of the last event. Until the end of the transaction no other process appends or imports.
SELECT position FROM head WHERE only_row FOR UPDATE NOWAIT

-- name: copy_events
-- Copy events in. The trigger refuses changes, and lets new rows pass.
COPY events (position, recorded_at, aggregate_id, version, data, aggregate, type, actor, request_id, salt, content_hash,
    digest, idempotency_owner, idempotency_key, fingerprint) FROM STDIN (FORMAT binary)

-- name: add_image
-- Store an image, unless it is stored already.
INSERT INTO images (sha256, media_type, data, kept_at) VALUES (%(sha256)s, %(media_type)s, %(data)s, %(kept_at)s)
ON CONFLICT (sha256) DO NOTHING

-- name: set_head
-- Set the position of the last event of a log that was empty.
UPDATE head SET position = %(position)s WHERE only_row AND position = 0

-- name: set_tree
-- Take over the name of a log, with the tree over its events, in a log without sealed events.
UPDATE sealed_tree SET log_id = %(log_id)s, size = %(size)s, subtrees = %(subtrees)s WHERE only_row AND size = 0

-- name: add_heads
-- Store the sealed heads.
INSERT INTO tree_heads (size, root) SELECT h.size, h.root FROM unnest(%(sizes)s::bigint[], %(roots)s::bytea[]) AS h(size, root)

-- name: analyze_events
-- Count the values of the table, which autovacuum would do a minute later.
ANALYZE events

-- name: summarize_times
-- Add the sections of the table to the index of times. Autovacuum would do it in many steps of a minute each, and until then
-- the search of a time would read the sections that are missing.
SELECT brin_summarize_new_values('events_time')
