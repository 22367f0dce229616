-- name: create_staging
-- One row per event of the generated log, before it is in the log.
CREATE TEMPORARY TABLE staging (
    position bigint, conversation_id uuid, version integer, type text, data jsonb, actor text, recorded_at timestamptz
)

-- name: copy_staging
-- Copy the generated events in.
COPY staging FROM STDIN

-- name: insert_events
-- Insert the log's rows, including salts and digests. PostgreSQL computes a salt once, because it is volatile.
INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest, salt)
SELECT position, 'conversation', conversation_id, version, type, data, actor, recorded_at,
    event_digest(position, 'conversation', conversation_id, version, type, data, actor, NULL, recorded_at, salt, NULL), salt
FROM (SELECT *, uuid_send(gen_random_uuid()) AS salt FROM staging) AS salted

-- name: set_head
-- Set the position of the last event.
UPDATE head SET position = %s

-- name: drop_staging
-- Drop the staging table once the log has its rows.
DROP TABLE staging
