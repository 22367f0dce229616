-- name: create_history
-- One row per message, an answer from the start of its turn. Key: conversation and message. Fed by messages and turns.
CREATE TABLE {history} (
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    version integer NOT NULL,
    turn_id uuid,
    role text NOT NULL,
    author_id text,
    content jsonb NOT NULL,
    in_reply_to uuid,
    status text NOT NULL,
    model text,
    tokens integer NOT NULL,
    usage jsonb,
    finish_reason text,
    created_at timestamptz NOT NULL,
    said_at timestamptz
)

-- name: index_history_key
-- The key.
ALTER TABLE {history} ADD PRIMARY KEY (conversation_id, message_id)

-- name: index_history_order
-- The messages of a conversation in order.
CREATE INDEX ON {history} (conversation_id, version)

-- name: create_turns
-- One row per turn. Key: conversation and turn. Fed by the events of turns.
CREATE TABLE {turns} (
    conversation_id uuid NOT NULL,
    turn_id uuid NOT NULL,
    version integer NOT NULL,
    user_message_id uuid NOT NULL,
    message_id uuid NOT NULL,
    status text NOT NULL,
    model text NOT NULL,
    usage jsonb,
    finish_reason text,
    error_code text,
    error_detail text,
    started_at timestamptz,
    ended_at timestamptz,
    time_to_first_token_ms double precision,
    duration_ms double precision
)

-- name: index_turns_key
-- The key.
ALTER TABLE {turns} ADD PRIMARY KEY (conversation_id, turn_id)

-- name: index_turns_order
-- The turns of a conversation in order.
CREATE INDEX ON {turns} (conversation_id, version)

-- name: create_stream_text
-- One row per delta of a running turn. Key: turn and first frame. Deleted when the turn ends or is suspended.
CREATE TABLE {stream_text} (
    turn_id uuid NOT NULL,
    first_seq integer NOT NULL,
    block_index integer NOT NULL,
    block_type text NOT NULL,
    text text NOT NULL
)

-- name: index_stream_text_key
-- The key.
ALTER TABLE {stream_text} ADD PRIMARY KEY (turn_id, first_seq)

-- name: upsert_messages
-- Add messages. A complete answer replaces the streaming one.
INSERT INTO {history} (conversation_id, message_id, version, turn_id, role, author_id, content, in_reply_to, status,
    model, tokens, usage, finish_reason, created_at, said_at)
SELECT m.conversation_id, m.id, m.version, m.turn_id, m.role, m.author_id, m.content, m.in_reply_to,
    m.status, m.model, m.tokens, m.usage, m.finish_reason, m.created_at, m.said_at
FROM json_to_recordset(%(rows)s::json)
    AS m(conversation_id uuid, id uuid, version integer, turn_id uuid, role text, author_id text, content jsonb,
        in_reply_to uuid, status text, model text, tokens integer, usage jsonb, finish_reason text,
        created_at timestamptz, said_at timestamptz)
ON CONFLICT (conversation_id, message_id) DO UPDATE SET
    version = EXCLUDED.version,
    content = EXCLUDED.content,
    status = EXCLUDED.status,
    model = EXCLUDED.model,
    tokens = EXCLUDED.tokens,
    usage = EXCLUDED.usage,
    finish_reason = EXCLUDED.finish_reason,
    created_at = EXCLUDED.created_at

-- name: begin_turns
-- Add turns that start or are queued, and start queued ones.
INSERT INTO {turns} (conversation_id, turn_id, version, user_message_id, message_id, status, model, started_at)
SELECT t.conversation_id, t.id, t.version, t.user_message_id, t.message_id, t.status, t.model, t.started_at
FROM json_to_recordset(%(rows)s::json)
    AS t(conversation_id uuid, id uuid, version integer, user_message_id uuid, message_id uuid, status text, model text,
        started_at timestamptz)
ON CONFLICT (conversation_id, turn_id) DO UPDATE SET
    status = EXCLUDED.status,
    model = EXCLUDED.model,
    started_at = EXCLUDED.started_at

-- name: change_turns
-- Update turns that are suspended, resumed or end. NULL leaves a column as it is.
UPDATE {turns} AS t SET
    status = c.status,
    message_id = coalesce(c.message_id, t.message_id),
    usage = coalesce(c.usage, t.usage),
    finish_reason = coalesce(c.finish_reason, t.finish_reason),
    error_code = coalesce(c.error_code, t.error_code),
    error_detail = coalesce(c.error_detail, t.error_detail),
    ended_at = coalesce(c.ended_at, t.ended_at),
    time_to_first_token_ms = coalesce(c.time_to_first_token_ms, t.time_to_first_token_ms),
    duration_ms = coalesce(c.duration_ms, t.duration_ms)
FROM json_to_recordset(%(rows)s::json)
    AS c(conversation_id uuid, turn_id uuid, status text, message_id uuid, usage jsonb, finish_reason text,
        error_code text, error_detail text, ended_at timestamptz, time_to_first_token_ms double precision,
        duration_ms double precision)
WHERE t.conversation_id = c.conversation_id AND t.turn_id = c.turn_id

-- name: insert_stream_text
-- Add the text of running turns.
INSERT INTO {stream_text} (turn_id, first_seq, block_index, block_type, text)
SELECT * FROM json_to_recordset(%(rows)s::json)
    AS s(turn_id uuid, first_seq integer, block_index integer, block_type text, text text)

-- name: delete_stream_text
-- Delete the text of turns whose complete message was added.
DELETE FROM {stream_text} AS s
USING json_to_recordset(%(rows)s::json) AS e(turn_id uuid)
WHERE s.turn_id = e.turn_id

-- name: delete_empty_answers
-- Delete the streaming messages of turns that ended without an answer.
DELETE FROM {history} AS h
USING json_to_recordset(%(rows)s::json) AS e(conversation_id uuid, turn_id uuid), {turns} AS t
WHERE t.conversation_id = e.conversation_id AND t.turn_id = e.turn_id
    AND h.conversation_id = t.conversation_id AND h.message_id = t.message_id AND h.status = 'streaming'

-- name: supersede_messages
-- Mark the messages from one version on and before another as superseded.
UPDATE {history} AS h SET status = 'superseded'
FROM json_to_recordset(%(rows)s::json) AS s(conversation_id uuid, from_version integer, before_version integer)
WHERE h.conversation_id = s.conversation_id AND h.version >= s.from_version AND h.version < s.before_version
    AND h.status <> 'superseded'

-- name: delete_messages
-- Delete messages.
DELETE FROM {history} AS h
USING json_to_recordset(%(rows)s::json) AS d(conversation_id uuid, message_id uuid)
WHERE h.conversation_id = d.conversation_id AND h.message_id = d.message_id

-- name: delete_conversation_messages
-- Delete the messages of conversations.
DELETE FROM {history} AS h
USING json_to_recordset(%(rows)s::json) AS d(conversation_id uuid)
WHERE h.conversation_id = d.conversation_id

-- name: delete_conversation_turns
-- Delete the turns of conversations.
DELETE FROM {turns} AS t
USING json_to_recordset(%(rows)s::json) AS d(conversation_id uuid)
WHERE t.conversation_id = d.conversation_id

-- name: read_message
-- One message of a conversation.
SELECT conversation_id, message_id, version, turn_id, role, author_id, content::text, in_reply_to, status, model,
    tokens, usage::text, finish_reason, created_at, said_at
FROM {history} WHERE conversation_id = %(conversation_id)s AND message_id = %(message_id)s

-- name: read_ascending
-- A page of messages after a version, oldest first, with or without superseded ones.
SELECT conversation_id, message_id, version, turn_id, role, author_id, content::text, in_reply_to, status, model,
    tokens, usage::text, finish_reason, created_at, said_at
FROM {history}
WHERE conversation_id = %(conversation_id)s AND version > %(beyond)s
    AND (%(superseded)s OR status <> 'superseded')
ORDER BY version LIMIT %(limit)s

-- name: read_descending
-- A page of messages before a version, newest first, with or without superseded ones.
SELECT conversation_id, message_id, version, turn_id, role, author_id, content::text, in_reply_to, status, model,
    tokens, usage::text, finish_reason, created_at, said_at
FROM {history}
WHERE conversation_id = %(conversation_id)s AND version < %(beyond)s
    AND (%(superseded)s OR status <> 'superseded')
ORDER BY version DESC LIMIT %(limit)s

-- name: with_stream_text
-- Let the statement that continues read given rows in the place of the view.
WITH {stream_text} AS (
    SELECT * FROM json_to_recordset(%(rows)s::json)
        AS r(turn_id uuid, first_seq integer, block_index integer, block_type text, text text)
)

-- name: read_stream_text
-- The text of a running turn so far, by content block.
SELECT block_type, string_agg(text, '' ORDER BY first_seq) FROM {stream_text}
WHERE turn_id = %(turn_id)s GROUP BY block_index, block_type ORDER BY block_index

-- name: read_turn
-- One turn of a conversation.
SELECT conversation_id, turn_id, version, user_message_id, message_id, status, model, usage::text, finish_reason,
    error_code, error_detail, started_at, ended_at, time_to_first_token_ms, duration_ms
FROM {turns} WHERE conversation_id = %(conversation_id)s AND turn_id = %(turn_id)s

-- name: read_turns
-- A page of turns before a version, newest first.
SELECT conversation_id, turn_id, version, user_message_id, message_id, status, model, usage::text, finish_reason,
    error_code, error_detail, started_at, ended_at, time_to_first_token_ms, duration_ms
FROM {turns} WHERE conversation_id = %(conversation_id)s AND version < %(before)s
ORDER BY version DESC LIMIT %(limit)s
