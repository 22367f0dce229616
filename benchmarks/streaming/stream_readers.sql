-- name: read_turn
-- What a turn is replayed from.
SELECT position, type, data::text FROM events WHERE conversation_id = %s AND version >= %s ORDER BY version
