-- name: create_listing
-- One row per conversation, deleted ones as tombstones. Key: conversation id. Fed by all events but deltas.
CREATE TABLE {listing} (
    conversation_id uuid NOT NULL,
    owner_id text NOT NULL,
    agent_id text,
    title text,
    metadata jsonb NOT NULL,
    message_count integer NOT NULL,
    active_turn_id uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_message_at timestamptz,
    active_at timestamptz NOT NULL,
    version integer NOT NULL,
    deleted boolean NOT NULL,
    waiting boolean NOT NULL,
    queued uuid[] NOT NULL
)

-- name: index_listing_key
-- The key.
ALTER TABLE {listing} ADD PRIMARY KEY (conversation_id)

-- name: index_listing_recent
-- An owner's conversations, most recently active first.
CREATE INDEX ON {listing} (owner_id, active_at DESC, conversation_id DESC) WHERE NOT deleted

-- name: insert_started
-- Add conversations that start.
INSERT INTO {listing} (conversation_id, owner_id, agent_id, title, metadata, message_count, active_turn_id,
    created_at, updated_at, last_message_at, active_at, version, deleted, waiting, queued)
SELECT s.conversation_id, s.owner_id, s.agent_id, s.title, s.metadata, 0, NULL, s.at, s.at, NULL, s.at, 1, false,
    false, ARRAY[]::uuid[]
FROM json_to_recordset(%(rows)s::json)
    AS s(conversation_id uuid, owner_id text, agent_id text, title text, metadata jsonb, at timestamptz)

-- name: update_changed
-- Update conversations with their events of a batch, one row each.
UPDATE {listing} AS l SET
    version = c.version,
    updated_at = c.updated_at,
    message_count = l.message_count + c.added,
    last_message_at = coalesce(c.last_message_at, l.last_message_at),
    active_at = coalesce(c.last_message_at, l.active_at),
    title = CASE WHEN c.described THEN c.title ELSE l.title END,
    metadata = CASE WHEN c.described THEN c.metadata ELSE l.metadata END,
    deleted = c.deleted
FROM json_to_recordset(%(rows)s::json)
    AS c(conversation_id uuid, version integer, updated_at timestamptz, added integer, last_message_at timestamptz,
        described boolean, title text, metadata jsonb, deleted boolean)
WHERE l.conversation_id = c.conversation_id

-- name: update_turns
-- Update the active turn and the queue of conversations with their events of a batch, one row each.
UPDATE {listing} AS l SET
    active_turn_id = CASE
        WHEN c.started THEN c.active_turn_id
        WHEN l.active_turn_id <> ALL(c.ended) THEN l.active_turn_id
    END,
    waiting = CASE
        WHEN c.started THEN c.waiting
        WHEN l.active_turn_id <> ALL(c.ended) THEN coalesce(c.waiting, l.waiting)
        ELSE false
    END,
    queued = ARRAY(
        SELECT q.turn_id FROM unnest(c.ahead || l.queued || c.queued) WITH ORDINALITY AS q(turn_id, n)
        WHERE q.turn_id <> ALL(c.over) ORDER BY q.n
    )
FROM json_to_recordset(%(rows)s::json)
    AS c(conversation_id uuid, started boolean, active_turn_id uuid, waiting boolean, ahead uuid[], queued uuid[],
        over uuid[], ended uuid[])
WHERE l.conversation_id = c.conversation_id

-- name: read_conversation
-- One conversation, deleted or not.
SELECT conversation_id, owner_id, agent_id, title, metadata::text, message_count, active_turn_id, created_at,
    updated_at, last_message_at, active_at, version, deleted, waiting, queued
FROM {listing} WHERE conversation_id = %(conversation_id)s

-- name: read_page
-- A filtered page of an owner's conversations, most recently active first.
SELECT conversation_id, owner_id, agent_id, title, metadata::text, message_count, active_turn_id, created_at,
    updated_at, last_message_at, active_at, version, deleted, waiting, queued
FROM {listing}
WHERE owner_id = %(owner_id)s AND NOT deleted
    AND (active_at, conversation_id) < (%(active_at)s, %(conversation_id)s)
    AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
    AND (%(title)s::text IS NULL OR title ILIKE %(title)s)
    AND (SELECT coalesce(bool_and(coalesce(metadata ->> m.key = m.value, false)), true)
         FROM unnest(%(keys)s::text[], %(values)s::text[]) AS m(key, value))
ORDER BY active_at DESC, conversation_id DESC
LIMIT %(limit)s

-- name: read_owned
-- The ids of an owner's conversations, of one agent or (with NULL) of all agents.
SELECT conversation_id FROM {listing}
WHERE owner_id = %(owner_id)s AND NOT deleted AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)

-- name: read_page_of_all
-- A filtered page of the conversations of all owners, most recently active first.
SELECT conversation_id, owner_id, agent_id, title, metadata::text, message_count, active_turn_id, created_at,
    updated_at, last_message_at, active_at, version, deleted, waiting, queued
FROM {listing}
WHERE NOT deleted
    AND (active_at, conversation_id) < (%(active_at)s, %(conversation_id)s)
    AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
    AND (%(title)s::text IS NULL OR title ILIKE %(title)s)
    AND (SELECT coalesce(bool_and(coalesce(metadata ->> m.key = m.value, false)), true)
         FROM unnest(%(keys)s::text[], %(values)s::text[]) AS m(key, value))
ORDER BY active_at DESC, conversation_id DESC
LIMIT %(limit)s
