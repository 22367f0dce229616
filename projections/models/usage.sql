-- name: create_usage
-- One row per turn, also of deleted conversations. Key: conversation and turn. Fed by the start, suspension and end of turns.
CREATE TABLE {usage} (
    conversation_id uuid NOT NULL,
    owner_id text NOT NULL,
    agent_id text,
    turn_id uuid NOT NULL,
    day date NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    input_tokens bigint,
    output_tokens bigint,
    cached_input_tokens bigint,
    reasoning_tokens bigint,
    cost_usd numeric,
    time_to_first_token_ms double precision,
    duration_ms double precision
)

-- name: index_usage_key
-- The key.
ALTER TABLE {usage} ADD PRIMARY KEY (conversation_id, turn_id)

-- name: index_usage_day
-- Turns by day, of all owners or of one.
CREATE INDEX ON {usage} (day, owner_id)

-- name: create_usage_conversations
-- One row per conversation, also deleted ones: its owner and agent. Key: conversation id. Fed by ConversationStarted.
CREATE TABLE {usage_conversations} (
    conversation_id uuid NOT NULL,
    owner_id text NOT NULL,
    agent_id text
)

-- name: index_usage_conversations_key
-- The key.
ALTER TABLE {usage_conversations} ADD PRIMARY KEY (conversation_id)

-- name: insert_conversations
-- Add conversations that start.
INSERT INTO {usage_conversations} (conversation_id, owner_id, agent_id)
SELECT * FROM json_to_recordset(%(rows)s::json) AS c(conversation_id uuid, owner_id text, agent_id text)

-- name: insert_turns
-- Add turns that start. A turn without a conversation has no owner, so NOT NULL refuses it.
INSERT INTO {usage} (conversation_id, owner_id, agent_id, turn_id, day, model, status)
SELECT t.conversation_id, c.owner_id, c.agent_id, t.turn_id, t.day, t.model, 'running'
FROM json_to_recordset(%(rows)s::json) AS t(conversation_id uuid, turn_id uuid, day date, model text)
LEFT JOIN {usage_conversations} AS c ON c.conversation_id = t.conversation_id

-- name: change_turns
-- Update turns that are suspended or end. A time that is NULL stays as it is, and so do tokens and cost without `used`.
UPDATE {usage} AS u SET
    status = c.status,
    input_tokens = CASE WHEN c.used THEN c.input_tokens ELSE u.input_tokens END,
    output_tokens = CASE WHEN c.used THEN c.output_tokens ELSE u.output_tokens END,
    cached_input_tokens = CASE WHEN c.used THEN c.cached_input_tokens ELSE u.cached_input_tokens END,
    reasoning_tokens = CASE WHEN c.used THEN c.reasoning_tokens ELSE u.reasoning_tokens END,
    cost_usd = CASE WHEN c.used THEN c.cost_usd ELSE u.cost_usd END,
    time_to_first_token_ms = coalesce(c.time_to_first_token_ms, u.time_to_first_token_ms),
    duration_ms = coalesce(c.duration_ms, u.duration_ms)
FROM json_to_recordset(%(rows)s::json)
    AS c(conversation_id uuid, turn_id uuid, status text, used boolean, input_tokens bigint, output_tokens bigint,
        cached_input_tokens bigint, reasoning_tokens bigint, cost_usd numeric,
        time_to_first_token_ms double precision, duration_ms double precision)
WHERE u.conversation_id = c.conversation_id AND u.turn_id = c.turn_id
