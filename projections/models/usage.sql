-- name: create_usage
-- One row per turn, keyed by its id, those of deleted conversations too; fed by the start and the end of turns.
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
-- The turns of some days, of all owners or of one; days are few, so an owner is looked up in each of them.
CREATE INDEX ON {usage} (day, owner_id)

-- name: create_usage_conversations
-- One row per conversation, keyed by it, deleted ones too: whom its turns are counted for; fed by ConversationStarted.
CREATE TABLE {usage_conversations} (
    conversation_id uuid NOT NULL,
    owner_id text NOT NULL,
    agent_id text
)

-- name: index_usage_conversations_key
-- The key.
ALTER TABLE {usage_conversations} ADD PRIMARY KEY (conversation_id)

-- name: insert_conversations
-- Conversations as they start.
INSERT INTO {usage_conversations} (conversation_id, owner_id, agent_id)
SELECT * FROM json_to_recordset(%s::json) AS c(conversation_id uuid, owner_id text, agent_id text)

-- name: insert_turns
-- Turns as they start; one of a conversation that never started has no owner and is refused.
INSERT INTO {usage} (conversation_id, owner_id, agent_id, turn_id, day, model, status)
SELECT t.conversation_id, c.owner_id, c.agent_id, t.turn_id, t.day, t.model, 'running'
FROM json_to_recordset(%s::json) AS t(conversation_id uuid, turn_id uuid, day date, model text)
LEFT JOIN {usage_conversations} AS c ON c.conversation_id = t.conversation_id

-- name: change_turns
-- Turns as they wait for tool results and end; a time that is NULL stays as it is, and so does what is not `used`.
UPDATE {usage} AS u SET
    status = c.status,
    input_tokens = CASE WHEN c.used THEN c.input_tokens ELSE u.input_tokens END,
    output_tokens = CASE WHEN c.used THEN c.output_tokens ELSE u.output_tokens END,
    cached_input_tokens = CASE WHEN c.used THEN c.cached_input_tokens ELSE u.cached_input_tokens END,
    reasoning_tokens = CASE WHEN c.used THEN c.reasoning_tokens ELSE u.reasoning_tokens END,
    cost_usd = CASE WHEN c.used THEN c.cost_usd ELSE u.cost_usd END,
    time_to_first_token_ms = coalesce(c.time_to_first_token_ms, u.time_to_first_token_ms),
    duration_ms = coalesce(c.duration_ms, u.duration_ms)
FROM json_to_recordset(%s::json)
    AS c(conversation_id uuid, turn_id uuid, status text, used boolean, input_tokens bigint, output_tokens bigint,
        cached_input_tokens bigint, reasoning_tokens bigint, cost_usd numeric,
        time_to_first_token_ms double precision, duration_ms double precision)
WHERE u.conversation_id = c.conversation_id AND u.turn_id = c.turn_id

-- name: read_sums
-- What the turns of some days and owners used, by day, model, agent or owner; what is not known is left out of a sum.
SELECT
    CASE %(by)s::text
        WHEN 'day' THEN to_char(day, 'YYYY-MM-DD') WHEN 'model' THEN model
        WHEN 'agent' THEN agent_id WHEN 'owner' THEN owner_id
    END AS key,
    count(*),
    count(*) FILTER (WHERE status = 'completed'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'cancelled'),
    sum(input_tokens)::bigint,
    sum(output_tokens)::bigint,
    sum(cached_input_tokens)::bigint,
    sum(reasoning_tokens)::bigint,
    sum(cost_usd),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_first_token_ms),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_first_token_ms),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)
FROM {usage}
WHERE (%(since)s::date IS NULL OR day >= %(since)s)
    AND (%(until)s::date IS NULL OR day <= %(until)s)
    AND (%(owner_id)s::text IS NULL OR owner_id = %(owner_id)s)
GROUP BY key ORDER BY key
