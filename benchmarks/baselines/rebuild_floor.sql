-- name: fill_history
-- Messages that are not deleted, and the empty answers of running turns.
INSERT INTO {history}
SELECT m.aggregate_id, (m.data ->> 'message_id')::uuid, m.version, (m.data ->> 'turn_id')::uuid, m.data ->> 'role',
    m.data ->> 'author_id', m.data -> 'content', (m.data ->> 'in_reply_to')::uuid, m.data ->> 'status',
    m.data ->> 'model', (m.data ->> 'tokens')::integer, nullif(m.data -> 'usage', 'null'), m.data ->> 'finish_reason',
    m.recorded_at, (m.data ->> 'said_at')::timestamptz
FROM events AS m
WHERE m.type = 'MessageAdded'
    AND NOT EXISTS (SELECT FROM events AS d WHERE d.type = 'MessageDeleted' AND d.aggregate_id = m.aggregate_id
        AND d.data ->> 'message_id' = m.data ->> 'message_id')
    AND NOT EXISTS (SELECT FROM events AS d WHERE d.type = 'ConversationDeleted'
        AND d.aggregate_id = m.aggregate_id)
UNION ALL
SELECT s.aggregate_id, (s.data ->> 'message_id')::uuid, s.version, (s.data ->> 'turn_id')::uuid, 'assistant', NULL,
    '[]', (s.data ->> 'user_message_id')::uuid, 'streaming', s.data ->> 'model', 0, NULL, NULL, s.recorded_at, NULL
FROM events AS s
WHERE s.type = 'TurnStarted'
    AND NOT EXISTS (SELECT FROM events AS e WHERE e.type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
        AND e.aggregate_id = s.aggregate_id AND e.data ->> 'turn_id' = s.data ->> 'turn_id')

-- name: fill_turns
-- Turns, each with its end if it has ended.
INSERT INTO {turns}
SELECT s.aggregate_id, (s.data ->> 'turn_id')::uuid, s.version, (s.data ->> 'user_message_id')::uuid,
    (s.data ->> 'message_id')::uuid,
    CASE e.type WHEN 'TurnCompleted' THEN 'completed' WHEN 'TurnFailed' THEN 'failed' WHEN 'TurnCancelled'
        THEN 'cancelled' ELSE 'running' END,
    s.data ->> 'model', nullif(e.data -> 'usage', 'null'), e.data ->> 'finish_reason', e.data ->> 'reason',
    e.data ->> 'detail', s.recorded_at, e.recorded_at, (e.data ->> 'time_to_first_token_ms')::double precision,
    (e.data ->> 'duration_ms')::double precision
FROM events AS s
LEFT JOIN events AS e ON e.type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
    AND e.aggregate_id = s.aggregate_id AND e.data ->> 'turn_id' = s.data ->> 'turn_id'
WHERE s.type = 'TurnStarted'
    AND NOT EXISTS (SELECT FROM events AS d WHERE d.type = 'ConversationDeleted'
        AND d.aggregate_id = s.aggregate_id)

-- name: fill_stream_text
-- The text of running turns so far.
INSERT INTO {stream_text}
SELECT (t.data ->> 'turn_id')::uuid, (t.data ->> 'first_seq')::integer, (t.data ->> 'block_index')::integer,
    t.data ->> 'block_type', (SELECT string_agg(c.chunk, '' ORDER BY c.n)
        FROM jsonb_array_elements_text(t.data -> 'chunks') WITH ORDINALITY AS c(chunk, n))
FROM events AS s
JOIN events AS t ON t.aggregate_id = s.aggregate_id AND t.version > s.version AND t.type = 'StreamDelta'
WHERE s.type = 'TurnStarted'
    AND NOT EXISTS (SELECT FROM events AS e WHERE e.type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
        AND e.aggregate_id = s.aggregate_id AND e.data ->> 'turn_id' = s.data ->> 'turn_id')

-- name: fill_context
-- Messages that are not deleted, with running totals. A message of one text takes 4 tokens more than its text.
INSERT INTO {context}
SELECT m.aggregate_id, m.version, (m.data ->> 'message_id')::uuid, m.data ->> 'role', m.tokens,
    coalesce(sum(m.tokens) FILTER (WHERE m.data ->> 'role' <> 'system') OVER earlier, 0),
    count(*) FILTER (WHERE m.data ->> 'role' <> 'system') OVER earlier
FROM (
    SELECT aggregate_id, version, data, 4 + (data ->> 'tokens')::integer AS tokens
    FROM events WHERE type = 'MessageAdded'
) AS m
WHERE NOT EXISTS (SELECT FROM events AS d WHERE d.type = 'MessageDeleted' AND d.aggregate_id = m.aggregate_id
        AND d.data ->> 'message_id' = m.data ->> 'message_id')
    AND NOT EXISTS (SELECT FROM events AS d WHERE d.type = 'ConversationDeleted'
        AND d.aggregate_id = m.aggregate_id)
WINDOW earlier AS (
    PARTITION BY m.aggregate_id ORDER BY m.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
)

-- name: fill_listing
-- Conversations, each with its last title and the totals of its events. In a generated log times grow with versions.
INSERT INTO {listing}
SELECT s.aggregate_id, s.data ->> 'owner_id', s.data ->> 'agent_id',
    CASE WHEN u.data IS NULL THEN s.data ->> 'title' ELSE u.data ->> 'title' END,
    coalesce(u.data, s.data) -> 'metadata', a.messages, r.turn_id, s.recorded_at, a.updated_at, a.last_message_at,
    coalesce(a.last_message_at, s.recorded_at), a.version, a.deleted, false, ARRAY[]::uuid[],
    btrim(lower(CASE WHEN u.data IS NULL THEN s.data ->> 'title' ELSE u.data ->> 'title' END))
FROM events AS s
JOIN (
    SELECT aggregate_id, max(version) AS version, max(recorded_at) AS updated_at,
        max(recorded_at) FILTER (WHERE type = 'MessageAdded') AS last_message_at,
        count(*) FILTER (WHERE type = 'MessageAdded') - count(*) FILTER (WHERE type = 'MessageDeleted') AS messages,
        bool_or(type = 'ConversationDeleted') AS deleted
    FROM events WHERE type <> 'StreamDelta' GROUP BY aggregate_id
) AS a ON a.aggregate_id = s.aggregate_id
LEFT JOIN (
    SELECT DISTINCT ON (aggregate_id) aggregate_id, data FROM events WHERE type = 'ConversationUpdated'
    ORDER BY aggregate_id, version DESC
) AS u ON u.aggregate_id = s.aggregate_id
LEFT JOIN (
    SELECT b.aggregate_id, (b.data ->> 'turn_id')::uuid AS turn_id FROM events AS b
    WHERE b.type = 'TurnStarted'
        AND NOT EXISTS (SELECT FROM events AS e WHERE e.type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
            AND e.aggregate_id = b.aggregate_id AND e.data ->> 'turn_id' = b.data ->> 'turn_id')
) AS r ON r.aggregate_id = s.aggregate_id
WHERE s.type = 'ConversationStarted'
