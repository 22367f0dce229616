-- name: create_listing
-- One row per conversation, deleted ones as tombstones. Key: conversation id. Fed by all events but deltas.
-- `active_at` is the time of the last message, and never before `created_at`. `title_key` orders by title.
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
    queued uuid[] NOT NULL,
    title_key text COLLATE "C" NOT NULL,
    status text NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN waiting THEN 'requires_action'
            WHEN active_turn_id IS NOT NULL OR cardinality(queued) > 0 THEN 'running'
            ELSE 'idle'
        END
    ) STORED
)

-- name: index_listing_key
-- The key.
ALTER TABLE {listing} ADD PRIMARY KEY (conversation_id)

-- name: index_listing_recent
-- An owner's conversations, most recently active first.
CREATE INDEX ON {listing} (owner_id, active_at DESC, conversation_id DESC) WHERE NOT deleted

-- name: index_listing_status
-- An owner's conversations of one status. In this index and those below, the columns after the id let a filter skip
-- rows without reading them.
CREATE INDEX ON {listing} (owner_id, status, active_at DESC, conversation_id DESC, agent_id) WHERE NOT deleted

-- name: index_listing_agent
-- An owner's conversations with one agent.
CREATE INDEX ON {listing} (owner_id, agent_id, active_at DESC, conversation_id DESC, status) WHERE NOT deleted

-- name: index_listing_created
-- An owner's conversations, newest first.
CREATE INDEX ON {listing} (owner_id, created_at DESC, conversation_id DESC, status, agent_id, active_at)
WHERE NOT deleted

-- name: index_listing_title
-- An owner's conversations by title.
CREATE INDEX ON {listing} (owner_id, title_key, conversation_id, status, agent_id, active_at) WHERE NOT deleted

-- name: index_listing_everyone
-- The conversations of all owners, most recently active first.
CREATE INDEX ON {listing} (active_at DESC, conversation_id DESC) WHERE NOT deleted

-- name: insert_started
-- Add conversations that start.
INSERT INTO {listing} (conversation_id, owner_id, agent_id, title, metadata, message_count, active_turn_id,
    created_at, updated_at, last_message_at, active_at, version, deleted, waiting, queued, title_key)
SELECT s.conversation_id, s.owner_id, s.agent_id, s.title, s.metadata, 0, NULL, s.at, s.at, NULL, s.at, 1, false,
    false, ARRAY[]::uuid[], s.title_key
FROM json_to_recordset(%(rows)s::json)
    AS s(conversation_id uuid, owner_id text, agent_id text, title text, metadata jsonb, at timestamptz,
        title_key text)

-- name: update_changed
-- Update conversations with their events of a batch, one row each.
UPDATE {listing} AS l SET
    version = c.version,
    updated_at = c.updated_at,
    message_count = l.message_count + c.added,
    last_message_at = coalesce(c.last_message_at, l.last_message_at),
    active_at = greatest(coalesce(c.last_message_at, l.active_at), l.created_at),
    title = CASE WHEN c.described THEN c.title ELSE l.title END,
    title_key = CASE WHEN c.described THEN c.title_key ELSE l.title_key END,
    metadata = CASE WHEN c.described THEN c.metadata ELSE l.metadata END,
    deleted = c.deleted
FROM json_to_recordset(%(rows)s::json)
    AS c(conversation_id uuid, version integer, updated_at timestamptz, added integer, last_message_at timestamptz,
        described boolean, title text, title_key text, metadata jsonb, deleted boolean)
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

-- name: read
-- The columns of a conversation. A statement continues with one of the conditions below.
SELECT conversation_id, owner_id, agent_id, title, metadata::text, message_count, active_turn_id, created_at,
    updated_at, last_message_at, active_at, version, deleted, waiting, queued, title_key
FROM {listing}

-- name: with_rows
-- Let the statement that continues read given rows in the place of the view. Such rows have all of its columns.
WITH {listing} AS (
    SELECT * FROM json_to_recordset(%(rows)s::json)
        AS r(conversation_id uuid, owner_id text, agent_id text, title text, metadata jsonb, message_count integer,
            active_turn_id uuid, created_at timestamptz, updated_at timestamptz, last_message_at timestamptz,
            active_at timestamptz, version integer, deleted boolean, waiting boolean, queued uuid[],
            title_key text COLLATE "C", status text)
)

-- name: where_id
-- One conversation, deleted or not, of one owner or (with NULL) of any.
WHERE conversation_id = %(conversation_id)s AND (%(owner_id)s::text IS NULL OR owner_id = %(owner_id)s)

-- name: where_listed
-- All conversations that are not deleted.
WHERE NOT deleted

-- name: and_owner_id
-- Those of one owner.
AND owner_id = %(owner_id)s

-- name: and_agent_id
-- Those with one agent.
AND agent_id = %(agent_id)s

-- name: and_status
-- Those of one status.
AND status = %(status)s

-- name: and_active_after
-- Those that were active after a time.
AND active_at > %(active_after)s

-- name: and_active_before
-- Those that were last active before a time.
AND active_at < %(active_before)s

-- name: and_created_before
-- Those that were created before that time, which these were. The order by creation then begins there.
AND created_at < %(active_before)s

-- name: and_title
-- Those whose title is like a pattern, ignoring case.
AND title ILIKE %(title)s

-- name: and_metadata
-- Those whose metadata has all of some values, compared as text.
AND (SELECT bool_and(coalesce(metadata ->> m.key = m.value, false))
     FROM unnest(%(keys)s::text[], %(values)s::text[]) AS m(key, value))

-- name: beyond_active
-- The rows after a place of the order by activity.
AND (active_at, conversation_id) < (%(place)s::timestamptz, %(place_id)s)

-- name: beyond_created
-- The rows after a place of the order by creation.
AND (created_at, conversation_id) < (%(place)s::timestamptz, %(place_id)s)

-- name: beyond_title
-- The rows after a place of the order by title.
AND (title_key, conversation_id) > (%(place)s::text, %(place_id)s)

-- name: first_active
-- The first rows, most recently active first.
ORDER BY active_at DESC, conversation_id DESC LIMIT %(limit)s

-- name: first_created
-- The first rows, newest first.
ORDER BY created_at DESC, conversation_id DESC LIMIT %(limit)s

-- name: first_title
-- The first rows, by title.
ORDER BY title_key, conversation_id LIMIT %(limit)s

-- name: read_created
-- The ids and times of creation of conversations. The statement continues with conditions.
SELECT created_at, conversation_id FROM {listing}

-- name: count_live
-- The number of an owner's conversations with one agent, without deleted ones, counted up to a number.
SELECT count(*) FROM (
    SELECT 1 FROM {listing} WHERE owner_id = %(owner_id)s AND agent_id = %(agent_id)s AND NOT deleted LIMIT %(at_most)s
) AS live
