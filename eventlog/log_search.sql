-- name: find
-- The places and the stored sizes of events. A statement continues with a section, conditions and an order.
SELECT e.position, e.version, pg_column_size(e.data) FROM events AS e

-- name: find_positions
-- The positions of events, which an index has by itself. A statement continues in the same way.
SELECT e.position FROM events AS e

-- name: in_log
-- Those of a section of the log.
WHERE e.position > %(low)s AND e.position <= %(high)s

-- name: in_conversation
-- Those of a section of one conversation.
WHERE e.aggregate_id = %(conversation_id)s AND e.version > %(low)s AND e.version <= %(high)s

-- name: and_frequent_type
-- Those of one type.
AND e.type = %(type)s

-- name: and_rare_type
-- Those of one type that the index events_rare holds. PostgreSQL uses it only with its condition.
AND e.type = %(type)s
AND e.type NOT IN ('StreamDelta', 'MessageAdded', 'TurnStarted', 'TurnCompleted', 'ConversationStarted')

-- name: and_actor
-- Those that one actor caused.
AND e.actor = %(actor)s

-- name: and_owner_id
-- Those of an owner's conversations and agents. The first event of each names the owner. As a subquery it is looked up
-- by its key, and never read for all of them.
AND e.aggregate IN ('conversation', 'agent')
AND (
    SELECT s.data ->> 'owner_id' FROM events AS s WHERE s.aggregate_id = e.aggregate_id AND s.version = 1
) = %(owner_id)s

-- name: and_after_time
-- Those recorded after a time.
AND e.recorded_at > %(after)s

-- name: and_after_position
-- Those after a position.
AND e.position > %(after)s

-- name: and_before_time
-- Those recorded before a time.
AND e.recorded_at < %(before)s

-- name: and_before_position
-- Those before a position.
AND e.position < %(before)s

-- name: log_oldest_first
-- The first ones of a section of the log.
ORDER BY e.position LIMIT %(limit)s

-- name: log_newest_first
-- The last ones of a section of the log, in reverse.
ORDER BY e.position DESC LIMIT %(limit)s

-- name: conversation_oldest_first
-- The first ones of a section of a conversation.
ORDER BY e.version LIMIT %(limit)s

-- name: conversation_newest_first
-- The last ones of a section of a conversation, in reverse.
ORDER BY e.version DESC LIMIT %(limit)s

-- name: skipping
-- Those after a number of others.
OFFSET %(skipped)s

-- name: read_positions
-- Stored events by their positions, in order.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at, digest
FROM events
WHERE position = ANY(%(positions)s::bigint[])
ORDER BY position
