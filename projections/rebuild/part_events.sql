-- name: read_part
-- Events of some types, up to a position, of the aggregates from one id to another.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id >= %(first_id)s AND aggregate_id <= %(last_id)s AND position <= %(target)s
    AND type = ANY(%(types)s)
ORDER BY aggregate_id, version

-- name: read_deltas
-- The deltas of a conversation after one position and up to another.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position > %(after)s AND position <= %(target)s
    AND type = 'StreamDelta'
ORDER BY version
