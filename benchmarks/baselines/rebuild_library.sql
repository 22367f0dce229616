-- name: start_conversation
-- Insert a conversation at its start.
INSERT INTO {listing} (conversation_id, owner_id, agent_id, title, metadata, message_count, created_at, updated_at,
    active_at, version, deleted, waiting, queued, title_key)
VALUES (%(conversation_id)s, %(owner_id)s, %(agent_id)s, %(title)s, %(metadata)s, 0, %(at)s, %(at)s, %(at)s, %(version)s,
    false, false, ARRAY[]::uuid[], btrim(lower(%(title)s)))

-- name: update_conversation
-- Set a conversation's title and metadata.
UPDATE {listing} SET title = %(title)s, title_key = btrim(lower(%(title)s)), metadata = %(metadata)s, updated_at = %(at)s, version = %(version)s
WHERE conversation_id = %(conversation_id)s

-- name: list_message
-- Count one more message in a conversation.
UPDATE {listing} SET message_count = message_count + 1, last_message_at = %(at)s, active_at = %(at)s,
    updated_at = %(at)s, version = %(version)s
WHERE conversation_id = %(conversation_id)s

-- name: unlist_message
-- Count one message less.
UPDATE {listing} SET message_count = message_count - 1, updated_at = %(at)s, version = %(version)s
WHERE conversation_id = %(conversation_id)s

-- name: list_turn
-- Set the running turn, or NULL when it ends.
UPDATE {listing} SET active_turn_id = %(active_turn_id)s, updated_at = %(at)s, version = %(version)s
WHERE conversation_id = %(conversation_id)s

-- name: list_deletion
-- Mark a conversation as deleted.
UPDATE {listing} SET deleted = true, updated_at = %(at)s, version = %(version)s
WHERE conversation_id = %(conversation_id)s

-- name: add_message
-- Insert a message. A complete answer replaces the streaming one.
INSERT INTO {history} (conversation_id, message_id, version, turn_id, role, author_id, content, in_reply_to, status,
    model, tokens, usage, finish_reason, created_at)
VALUES (%(conversation_id)s, %(message_id)s, %(version)s, %(turn_id)s, %(role)s, %(author_id)s, %(content)s,
    %(in_reply_to)s, %(status)s, %(model)s, %(tokens)s, %(usage)s, %(finish_reason)s, %(at)s)
ON CONFLICT (conversation_id, message_id) DO UPDATE SET
    version = EXCLUDED.version, content = EXCLUDED.content, status = EXCLUDED.status, tokens = EXCLUDED.tokens,
    usage = EXCLUDED.usage, finish_reason = EXCLUDED.finish_reason, created_at = EXCLUDED.created_at

-- name: add_context
-- Insert a message into the context, with the totals before it.
INSERT INTO {context} (conversation_id, version, message_id, role, tokens, tokens_before, messages_before)
SELECT %(conversation_id)s, %(version)s, %(message_id)s, %(role)s, %(estimated_tokens)s, coalesce(last.tokens, 0),
    coalesce(last.messages, 0)
FROM (VALUES (true)) AS one
LEFT JOIN LATERAL (
    SELECT tokens_before + CASE WHEN role = 'system' THEN 0 ELSE tokens END AS tokens,
        messages_before + CASE WHEN role = 'system' THEN 0 ELSE 1 END AS messages
    FROM {context} WHERE conversation_id = %(conversation_id)s ORDER BY version DESC LIMIT 1
) AS last ON true

-- name: add_turn
-- Insert a turn at its start.
INSERT INTO {turns} (conversation_id, turn_id, version, user_message_id, message_id, status, model, started_at)
VALUES (%(conversation_id)s, %(turn_id)s, %(version)s, %(user_message_id)s, %(message_id)s, 'running', %(model)s, %(at)s)

-- name: end_turn
-- Record the end of a turn.
UPDATE {turns} SET status = %(status)s, usage = %(usage)s, finish_reason = %(finish_reason)s,
    error_code = %(error_code)s, error_detail = %(error_detail)s, ended_at = %(at)s,
    time_to_first_token_ms = %(time_to_first_token_ms)s, duration_ms = %(duration_ms)s
WHERE conversation_id = %(conversation_id)s AND turn_id = %(turn_id)s

-- name: add_stream_text
-- Insert streamed text of a running turn.
INSERT INTO {stream_text} (turn_id, first_seq, block_index, block_type, text)
VALUES (%(turn_id)s, %(first_seq)s, %(block_index)s, %(block_type)s, %(text)s)

-- name: delete_stream_text
-- Delete the streamed text, which the complete answer contains.
DELETE FROM {stream_text} WHERE turn_id = %(turn_id)s

-- name: delete_empty_answer
-- Delete the empty answer of a turn that ended without text.
DELETE FROM {history} WHERE conversation_id = %(conversation_id)s AND turn_id = %(turn_id)s AND status = 'streaming'

-- name: delete_message
-- Delete a message.
DELETE FROM {history} WHERE conversation_id = %(conversation_id)s AND message_id = %(message_id)s

-- name: delete_context
-- Delete a message from the context and reduce the totals after it.
WITH gone AS (
    DELETE FROM {context} WHERE conversation_id = %(conversation_id)s AND message_id = %(message_id)s
    RETURNING version, CASE WHEN role = 'system' THEN 0 ELSE tokens END AS tokens, (role <> 'system')::integer AS messages
)
UPDATE {context} AS c
SET tokens_before = c.tokens_before - gone.tokens, messages_before = c.messages_before - gone.messages
FROM gone WHERE c.conversation_id = %(conversation_id)s AND c.version > gone.version

-- name: delete_conversation_messages
-- Delete the messages of a deleted conversation.
DELETE FROM {history} WHERE conversation_id = %(conversation_id)s

-- name: delete_conversation_turns
-- Delete the turns of a deleted conversation.
DELETE FROM {turns} WHERE conversation_id = %(conversation_id)s

-- name: delete_conversation_context
-- Delete the context of a deleted conversation.
DELETE FROM {context} WHERE conversation_id = %(conversation_id)s
