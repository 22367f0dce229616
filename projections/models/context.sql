-- name: create_context
-- One row per message that a model could be sent. Key: conversation and version. Fed by messages and their deletion.
-- Running totals make a window one index probe. `tokens` is an estimate: a window is counted when it is read.
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
-- Finds where a window of a number of tokens begins.
CREATE INDEX ON {context} (conversation_id, tokens_before, version)

-- name: index_context_system
-- The system messages, which belong to every window.
CREATE INDEX ON {context} (conversation_id, version) WHERE role = 'system'

-- name: insert_messages
-- Add messages with the totals before each. The totals leave system messages out.
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
-- Delete a message and lower the totals after it.
WITH deleted AS (
    DELETE FROM {context} WHERE conversation_id = %(conversation_id)s AND message_id = %(message_id)s
    RETURNING conversation_id, version, (role <> 'system')::integer AS counted, tokens
)
UPDATE {context} AS c
SET tokens_before = c.tokens_before - deleted.counted * deleted.tokens, messages_before = c.messages_before - deleted.counted
FROM deleted WHERE c.conversation_id = deleted.conversation_id AND c.version > deleted.version

-- name: delete_superseded
-- Delete the messages from one version on and before another, and lower the totals after them.
WITH deleted AS (
    DELETE FROM {context} AS c
    USING json_to_recordset(%(rows)s::json) AS s(conversation_id uuid, from_version integer, before_version integer)
    WHERE c.conversation_id = s.conversation_id AND c.version >= s.from_version AND c.version < s.before_version
    RETURNING c.conversation_id, s.before_version, (c.role <> 'system')::integer AS counted, c.tokens
), sums AS (
    SELECT conversation_id, before_version, sum(counted) AS messages, sum(counted * tokens) AS tokens
    FROM deleted GROUP BY conversation_id, before_version
)
UPDATE {context} AS c
SET tokens_before = c.tokens_before - sums.tokens, messages_before = c.messages_before - sums.messages
FROM sums WHERE c.conversation_id = sums.conversation_id AND c.version >= sums.before_version

-- name: delete_conversations
-- Delete the messages of conversations.
DELETE FROM {context} AS c
USING json_to_recordset(%(rows)s::json) AS d(conversation_id uuid)
WHERE c.conversation_id = d.conversation_id

-- name: read_totals
-- The tokens and messages of a whole conversation, without system messages.
SELECT tokens_before + (role <> 'system')::integer * tokens, messages_before + (role <> 'system')::integer
FROM {context} WHERE conversation_id = %(conversation_id)s ORDER BY version DESC LIMIT 1

-- name: read_system
-- The system messages of a conversation.
SELECT version, tokens FROM {context} WHERE conversation_id = %(conversation_id)s AND role = 'system' ORDER BY version

-- name: find_within
-- The first message with at least this many tokens before it.
SELECT version FROM {context}
WHERE conversation_id = %(conversation_id)s AND tokens_before >= %(tokens)s ORDER BY tokens_before, version LIMIT 1

-- name: find_nth_newest
-- The message before the `newer` newest ones, without system messages.
SELECT version FROM {context}
WHERE conversation_id = %(conversation_id)s AND role <> 'system' ORDER BY version DESC OFFSET %(newer)s LIMIT 1

-- name: find_user_message
-- The first user message from a version on, else the newest one before it.
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role = 'user'
 ORDER BY version LIMIT 1)
UNION ALL
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version < %(version)s AND role = 'user'
 ORDER BY version DESC LIMIT 1)
LIMIT 1

-- name: find_earlier_user_message
-- The newest user message before a version, else the first one from there on.
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version < %(version)s AND role = 'user'
 ORDER BY version DESC LIMIT 1)
UNION ALL
(SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role = 'user'
 ORDER BY version LIMIT 1)
LIMIT 1

-- name: read_from
-- The messages from a version on, oldest first, without system messages.
SELECT version FROM {context} WHERE conversation_id = %(conversation_id)s AND version >= %(version)s AND role <> 'system' ORDER BY version
