-- name: read_turn
-- The events from which a turn is replayed.
SELECT position, type, data::text FROM events WHERE aggregate_id = %s AND version >= %s ORDER BY version
