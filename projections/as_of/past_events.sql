-- name: find_conversation
-- A row if a conversation had started by a position.
SELECT 1 FROM events
WHERE aggregate_id = %(conversation_id)s AND version = 1 AND aggregate = 'conversation' AND position <= %(position)s

-- name: find_conversation_of
-- A row if a conversation of one owner had started by a position. The index alone tells that it is another owner's.
SELECT 1 FROM events
WHERE data ->> 'owner_id' = %(owner_id)s AND aggregate_id = %(conversation_id)s AND type = 'ConversationStarted'
    AND position <= %(position)s

-- name: find_owned
-- The next conversations of one owner that had started by a position, by id.
SELECT data ->> 'owner_id', aggregate_id FROM events
WHERE type = 'ConversationStarted' AND aggregate = 'conversation' AND data ->> 'owner_id' = %(owner_id)s
    AND aggregate_id > %(after_id)s AND position <= %(position)s
ORDER BY aggregate_id LIMIT %(limit)s

-- name: find_everybodys
-- The next conversations of all owners that had started by a position, by owner and id.
SELECT data ->> 'owner_id', aggregate_id FROM events
WHERE type = 'ConversationStarted' AND aggregate = 'conversation' AND position <= %(position)s
    AND (data ->> 'owner_id', aggregate_id) > (%(after_owner)s::text, %(after_id)s::uuid)
ORDER BY data ->> 'owner_id', aggregate_id LIMIT %(limit)s

-- name: read_outlines
-- Events of some conversations up to a position: all but messages and deltas, without those that later ones outdate. Of the
-- changes of title and metadata the last one counts. Which turn was active follows from the last start of a turn and the
-- events after it, of whose waits and resumptions the last one counts. A queued turn counts unless it had left the queue.
SELECT e.position, e.aggregate::text, e.aggregate_id, e.version, e.type, e.data::text, e.actor, e.request_id, e.recorded_at
FROM unnest(%(conversation_ids)s::uuid[]) AS c(id)
CROSS JOIN LATERAL (
    SELECT version, type, CASE WHEN type = 'TurnQueued' THEN data ->> 'turn_id' END AS queued_id,
        max(version) FILTER (WHERE type = 'ConversationUpdated') OVER () AS last_update,
        max(version) FILTER (WHERE type IN ('TurnSuspended', 'TurnResumed')) OVER () AS last_wait,
        coalesce(max(version) FILTER (WHERE type = 'TurnStarted') OVER (), 0) AS last_start
    FROM events
    WHERE aggregate_id = c.id AND type NOT IN ('StreamDelta', 'MessageAdded') AND position <= %(position)s
) AS o
CROSS JOIN LATERAL (SELECT * FROM events WHERE aggregate_id = c.id AND version = o.version LIMIT 1) AS e
WHERE CASE
    WHEN o.type = 'ConversationUpdated' THEN o.version = o.last_update
    WHEN o.type = 'TurnQueued' THEN NOT EXISTS (
        SELECT 1 FROM events AS left_queue
        WHERE left_queue.aggregate_id = c.id AND left_queue.version > o.version AND left_queue.position <= %(position)s
            AND left_queue.type NOT IN ('StreamDelta', 'MessageAdded')
            AND left_queue.type IN ('TurnStarted', 'TurnCompleted', 'TurnFailed', 'TurnCancelled')
            AND left_queue.data ->> 'turn_id' = o.queued_id
    )
    WHEN o.type IN ('TurnSuspended', 'TurnResumed') THEN o.version >= o.last_start AND o.version = o.last_wait
    WHEN o.type IN ('TurnStarted', 'TurnCompleted', 'TurnFailed', 'TurnCancelled') THEN o.version >= o.last_start
    ELSE true
END

-- name: count_added
-- The messages of some conversations that were added up to a position: version and time of the last, and their number.
-- A conversation without messages has no row.
SELECT c.id, l.version, l.recorded_at, m.number
FROM unnest(%(conversation_ids)s::uuid[]) AS c(id)
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS number, max(version) AS last FROM events
    WHERE aggregate_id = c.id AND type = 'MessageAdded' AND position <= %(position)s
) AS m
CROSS JOIN LATERAL (
    SELECT version, recorded_at FROM events WHERE aggregate_id = c.id AND version = m.last LIMIT 1
) AS l

-- name: read_removals
-- The events of one conversation up to a position that remove or replace messages, in order.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s AND type NOT IN ('StreamDelta', 'MessageAdded')
    AND type IN ('MessageDeleted', 'MessagesSuperseded', 'ConversationDeleted')
ORDER BY version

-- name: read_open_turn
-- Events of one conversation up to a position: all but deltas, from the last start or resumption of a turn on. None if that
-- turn had ended, because no turn starts while another one runs or waits.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s AND type <> 'StreamDelta' AND version >= (
    SELECT s.version FROM (
        SELECT version, data ->> 'turn_id' AS turn_id FROM events
        WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s
            AND type NOT IN ('StreamDelta', 'MessageAdded') AND type IN ('TurnStarted', 'TurnResumed')
        ORDER BY version DESC LIMIT 1
    ) AS s
    WHERE NOT EXISTS (
        SELECT 1 FROM events AS ended
        WHERE ended.aggregate_id = %(conversation_id)s AND ended.version > s.version AND ended.position <= %(position)s
            AND ended.type NOT IN ('StreamDelta', 'MessageAdded')
            AND ended.type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
            AND ended.data ->> 'turn_id' = s.turn_id
    )
)
ORDER BY version

-- name: read_stream_text
-- The text that the deltas of one conversation after a version and up to a position have streamed: a row for each block, with
-- the frame number of its first chunk. If a delta has another shape than `class_version`, the last column is not true.
SELECT (e.data ->> 'turn_id')::uuid, min((e.data ->> 'first_seq')::integer), (e.data ->> 'block_index')::integer,
    e.data ->> 'block_type', coalesce(string_agg(c.text, '' ORDER BY e.version, c.n), ''),
    bool_and(e.data ->> 'class_version' IS NOT DISTINCT FROM %(class_version)s::text
        AND jsonb_typeof(e.data -> 'chunks') IS NOT DISTINCT FROM 'array')
FROM events AS e
LEFT JOIN LATERAL jsonb_array_elements_text(
    CASE jsonb_typeof(e.data -> 'chunks') WHEN 'array' THEN e.data -> 'chunks' END
) WITH ORDINALITY AS c(text, n) ON true
WHERE e.aggregate_id = %(conversation_id)s AND e.version > %(after)s AND e.position <= %(position)s
    AND e.type = 'StreamDelta'
GROUP BY e.data ->> 'turn_id', e.data ->> 'block_index', e.data ->> 'block_type'

-- name: read_deltas
-- The deltas of one conversation after a version and up to a position, in order.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND version > %(after)s AND position <= %(position)s AND type = 'StreamDelta'
ORDER BY version

-- name: read_message
-- The event of one conversation up to a position that added a message.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s AND type = 'MessageAdded'
    AND data ->> 'message_id' = %(message_id)s

-- name: read_messages_after
-- The next messages of one conversation up to a position after a version, oldest first.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s AND type = 'MessageAdded' AND version > %(beyond)s
ORDER BY version LIMIT %(limit)s

-- name: read_messages_before
-- The next messages of one conversation up to a position before a version, newest first.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND position <= %(position)s AND type = 'MessageAdded' AND version < %(beyond)s
ORDER BY version DESC LIMIT %(limit)s

-- name: count_messages
-- The messages of one conversation up to a position that were not removed: their number without system messages, the last
-- version, the versions of system messages, and those of messages whose shape is none of `class_versions`. The lists have no
-- order, because PostgreSQL would sort all rows for it.
SELECT (count(*) FILTER (WHERE role <> 'system'))::integer, coalesce(max(version), 0),
    coalesce(array_agg(version) FILTER (WHERE role = 'system'), '{}'),
    coalesce(array_agg(version) FILTER (WHERE class_version <> ALL (%(class_versions)s::text[])), '{}')
FROM (
    SELECT version, data ->> 'role' AS role, coalesce(data ->> 'class_version', '1') AS class_version
    FROM events
    WHERE aggregate_id = %(conversation_id)s AND type = 'MessageAdded' AND position <= %(position)s
        AND NOT version <@ %(replaced)s::int4multirange AND data ->> 'message_id' <> ALL (%(deleted)s::text[])
) AS m

-- name: read_entries
-- The messages of one conversation up to a position that were not removed, before a version, newest first, as the index of the
-- context takes them. The content is NULL if it is a single text, whose recorded tokens suffice. The last column tells
-- whether the event has the shape of `class_version`. Else tokens and content are not right.
SELECT e.version, m.role, m.tokens,
    CASE WHEN m.role = 'tool' OR jsonb_array_length(m.content) <> 1 OR m.content -> 0 ->> 'type' <> 'text'
        THEN m.content::text END,
    m.class_version IS NOT DISTINCT FROM %(class_version)s::text
FROM events AS e
CROSS JOIN LATERAL jsonb_to_record(e.data)
    AS m(message_id text, role text, tokens integer, content jsonb, class_version text)
WHERE e.aggregate_id = %(conversation_id)s AND e.type = 'MessageAdded' AND e.position <= %(position)s
    AND e.version < %(before)s
    AND NOT e.version <@ %(replaced)s::int4multirange AND m.message_id <> ALL (%(deleted)s::text[])
ORDER BY e.version DESC LIMIT %(limit)s

-- name: with_agents
-- All agents that were defined by a position.
WITH a AS (
    SELECT DISTINCT aggregate_id AS id FROM events
    WHERE type = 'AgentDefined' AND aggregate = 'agent' AND position <= %(position)s
)

-- name: with_usable_agents
-- The agents of one owner and the shared ones that were defined by a position.
WITH a AS (
    SELECT aggregate_id AS id FROM events
    WHERE type = 'AgentDefined' AND aggregate = 'agent' AND position <= %(position)s AND data ->> 'owner_id' = %(owner_id)s
    UNION
    SELECT aggregate_id FROM events
    WHERE type = 'AgentDefined' AND aggregate = 'agent' AND position <= %(position)s AND data ->> 'owner_id' IS NULL
)

-- name: read_agents
-- Events of these agents up to the position: of each agent the first definition since the last deletion, and the last one.
SELECT e.position, e.aggregate::text, e.aggregate_id, e.version, e.type, e.data::text, e.actor, e.request_id, e.recorded_at
FROM a
CROSS JOIN LATERAL (
    SELECT coalesce(max(version) FILTER (WHERE type = 'AgentDeleted'), 0) AS last_deletion FROM events
    WHERE aggregate_id = a.id AND position <= %(position)s
) AS d
CROSS JOIN LATERAL (
    SELECT min(version) AS first, max(version) AS last FROM events
    WHERE aggregate_id = a.id AND position <= %(position)s AND type = 'AgentDefined' AND version > d.last_deletion
) AS k
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE aggregate_id = a.id AND version IN (k.first, k.last) LIMIT 2
) AS e
ORDER BY e.aggregate_id, e.version
