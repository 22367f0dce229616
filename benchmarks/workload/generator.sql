-- name: create_staging
-- One row per event of the made log, before it is in the log.
CREATE TEMPORARY TABLE staging (
    position bigint, conversation_id uuid, version integer, type text, data jsonb, actor text, recorded_at timestamptz
)

-- name: copy_staging
-- Takes the made events.
COPY staging FROM STDIN

-- name: insert_events
-- The log's rows, digests included.
INSERT INTO events (position, conversation_id, version, type, data, actor, recorded_at, digest)
SELECT position, conversation_id, version, type, data, actor, recorded_at,
    event_digest(conversation_id, version, type, data, actor, NULL, recorded_at)
FROM staging

-- name: set_head
-- The position of the last event.
UPDATE head SET position = %s

-- name: drop_staging
-- The log has it all.
DROP TABLE staging
