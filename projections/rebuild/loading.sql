-- name: take_part
-- Take a part off the list of what a build still needs.
DELETE FROM rebuild_parts WHERE name = %s AND version = %s AND build = %s AND first_id = %s

-- name: read_part
-- Events of some types, up to a position, of the conversations from one id up to another.
SELECT position, conversation_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE conversation_id >= %s AND conversation_id <= %s AND position <= %s AND type = ANY(%s)
ORDER BY conversation_id, version

-- name: read_deltas
-- What the running turn of a conversation has streamed, after its start and up to a position.
SELECT position, conversation_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE conversation_id = %s AND position > %s AND position <= %s AND type = 'StreamDelta'
ORDER BY version

-- name: finish
-- A build has been loaded and has its indexes, which it had not before.
UPDATE rebuilds SET phase = 'following' WHERE name = %s AND version = %s AND build = %s AND phase <> 'following'

-- name: set_position
-- How far the log is in a build that was loaded.
UPDATE projections SET position = %s WHERE name = %s AND version = %s AND build = %s
