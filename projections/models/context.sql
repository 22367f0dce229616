-- name: create_context
-- One row per message a model could be sent, keyed by its place; running totals make any window one index probe.
-- `tokens` is about what the message takes when it is sent: the window is counted when it is read.
CREATE TABLE {context} (
    conversation_id uuid NOT NULL,
    version integer NOT NULL,
    message_id uuid NOT NULL,
    role text NOT NULL,
    tokens integer NOT NULL,
    tokens_before bigint NOT NULL,
    messages_before integer NOT NULL
)

-- name: index_context_key
-- The key.
ALTER TABLE {context} ADD PRIMARY KEY (conversation_id, version)

-- name: index_context_tokens
-- Finds where a window of so many tokens begins.
CREATE INDEX ON {context} (conversation_id, tokens_before, version)

-- name: index_context_system
-- System messages belong to every window.
CREATE INDEX ON {context} (conversation_id, version) WHERE role = 'system'

-- name: insert_messages
-- Messages as they are said, with the totals before each; system messages are outside the totals.
INSERT INTO {context} (conversation_id, version, message_id, role, tokens, tokens_before, messages_before)
SELECT m.conversation_id, m.version, m.message_id, m.role, m.tokens,
    coalesce(last.tokens, 0) + coalesce(sum(m.counted_tokens) OVER earlier, 0),
    coalesce(last.messages, 0) + coalesce(sum(m.counted) OVER earlier, 0)
FROM (
    SELECT *, (role <> 'system')::integer AS counted, (role <> 'system')::integer * tokens AS counted_tokens
    FROM json_to_recordset(%(rows)s::json)
        AS u(conversation_id uuid, version integer, message_id uuid, role text, tokens integer)
) AS m
LEFT JOIN LATERAL (
    SELECT c.tokens_before + (c.role <> 'system')::integer * c.tokens AS tokens,
        c.messages_before + (c.role <> 'system')::integer AS messages
    FROM {context} c
    WHERE c.conversation_id = m.conversation_id
    ORDER BY c.version DESC LIMIT 1
) AS last ON true
WINDOW earlier AS (
    PARTITION BY m.conversation_id ORDER BY m.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
)

-- name: delete_message
-- A deleted message leaves, and the totals after it shrink.
WITH gone AS (
    DELETE FROM {context} WHERE conversation_id = %(conversation_id)s AND message_id = %(message_id)s
    RETURNING conversation_id, version, (role <> 'system')::integer AS counted, tokens
)
UPDATE {context} AS c
SET tokens_before = c.tokens_before - gone.counted * gone.tokens, messages_before = c.messages_before - gone.counted
FROM gone WHERE c.conversation_id = gone.conversation_id AND c.version > gone.version

-- name: delete_superseded
-- The messages between two places, the first of them included, leave, and the totals after them shrink.
WITH gone AS (
    DELETE FROM {context} AS c
    USING json_to_recordset(%(rows)s::json) AS s(conversation_id uuid, from_version integer, before_version integer)
    WHERE c.conversation_id = s.conversation_id AND c.version >= s.from_version AND c.version < s.before_version
    RETURNING c.conversation_id, s.before_version, (c.role <> 'system')::integer AS counted, c.tokens
), left_over AS (
    SELECT conversation_id, before_version, sum(counted) AS messages, sum(counted * tokens) AS tokens
    FROM gone GROUP BY conversation_id, before_version
)
UPDATE {context} AS c
SET tokens_before = c.tokens_before - left_over.tokens, messages_before = c.messages_before - left_over.messages
FROM left_over WHERE c.conversation_id = left_over.conversation_id AND c.version >= left_over.before_version

-- name: delete_conversations
-- Deleted conversations have no context.
DELETE FROM {context} AS c
USING json_to_recordset(%(rows)s::json) AS d(conversation_id uuid)
WHERE c.conversation_id = d.conversation_id

-- name: read_totals
-- Tokens and messages of a whole conversation, without system messages.
SELECT tokens_before + (role <> 'system')::integer * tokens, messages_before + (role <> 'system')::integer
FROM {context} WHERE conversation_id = %(conversation_id)s ORDER BY version DESC LIMIT 1

-- name: read_system
-- The system messages of a conversation.
SELECT version, tokens FROM {context} WHERE conversation_id = %(conversation_id)s AND role = 'system' ORDER BY version

-- name: find_start
-- The first message that has so many tokens before it.
SELECT version FROM {context}
WHERE conversation_id = %(conversation_id)s AND tokens_before >= %(tokens)s ORDER BY tokens_before, version LIMIT 1

-- name: find_nth_newest
-- The message before the `newer` newest ones, without system messages.
SELECT version FROM {context}
WHERE conversation_id = %(conversation_id)s AND role <> 'system' ORDER BY version DESC OFFSET %(newer)s LIMIT 1

-- name: find_question
-- The first user message from a place on, else the newest one before it: a window begins with a question.
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role = 'user'
 ORDER BY version LIMIT 1)
UNION ALL
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version < %(version)s AND role = 'user'
 ORDER BY version DESC LIMIT 1)
LIMIT 1

-- name: find_earlier_question
-- The newest user message before a place, else the first one from there on.
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version < %(version)s AND role = 'user'
 ORDER BY version DESC LIMIT 1)
UNION ALL
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role = 'user'
 ORDER BY version LIMIT 1)
LIMIT 1

-- name: read_from
-- The messages from a place on, oldest first, without system messages.
SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role <> 'system' ORDER BY version
