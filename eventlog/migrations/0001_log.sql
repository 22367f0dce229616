-- name: create_head
-- One row for the whole log: the position of its last event. The lock on this row makes commit order equal position order.
CREATE TABLE head (
    only_row boolean PRIMARY KEY CHECK (only_row),
    position bigint NOT NULL CHECK (position >= 0)
);

-- name: first_head
-- The log starts empty. Its first event takes position 1.
INSERT INTO head (only_row, position) VALUES (true, 0);

-- name: create_aggregate_kind
-- The kinds of aggregates. An enumeration takes 4 bytes a row, where text would take 13.
CREATE TYPE aggregate_kind AS ENUM ('conversation', 'agent', 'audit');

-- name: create_events
-- One row per event, keyed by its version in its aggregate. Rows are never changed and never deleted. The columns of fixed
-- width come first, so that no row needs padding.
CREATE TABLE events (
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    aggregate_id uuid NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    aggregate aggregate_kind NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    actor text NOT NULL,
    request_id text,
    digest bytea NOT NULL,
    salt bytea,
    content_hash bytea,
    idempotency_owner text,
    idempotency_key text,
    fingerprint bytea,
    CONSTRAINT events_pkey PRIMARY KEY (aggregate_id, version)
);

-- name: comment_events
-- The grain of the table, shown by psql.
COMMENT ON TABLE events IS 'One row per event of an aggregate (a conversation, an agent, or the audit of a process), in log order by position (1, 2, 3 … without a gap). digest is SHA-256 over the event as event_digest() reads it. An erased event has content_hash instead of salt and data.';

-- name: create_events_position
-- The order of the log, which projections and feeds follow.
CREATE UNIQUE INDEX events_position ON events (position);

-- name: create_events_idempotency
-- An owner can use a key only once. Only the first event of a command has it.
CREATE UNIQUE INDEX events_idempotency ON events (idempotency_owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- name: create_events_message
-- The events that add or delete a message, so that commands find a message without reading the conversation.
CREATE INDEX events_message ON events (aggregate_id, (data ->> 'message_id'))
    WHERE type IN ('MessageAdded', 'MessageDeleted');

-- name: create_events_superseded
-- The events that supersede messages, which are few among many.
CREATE INDEX events_superseded ON events (aggregate_id, version) WHERE type = 'MessagesSuperseded';

-- name: create_events_owner
-- The starts of an owner's conversations. A command looks its conversation up here, which reads no other owner's event.
-- Reads of the past find all conversations of an owner here.
CREATE INDEX events_owner ON events ((data ->> 'owner_id'), aggregate_id) WHERE type = 'ConversationStarted';

-- name: create_events_outline
-- All events but messages and deltas. They are few among many: reads of the past find titles, turns and deletions without
-- reading what was said.
CREATE INDEX events_outline ON events (aggregate_id, version) WHERE type NOT IN ('StreamDelta', 'MessageAdded');

-- name: create_events_agents
-- The definitions of agents by owner, in log order. Those of shared agents are under NULL.
CREATE INDEX events_agents ON events ((data ->> 'owner_id'), position) WHERE type = 'AgentDefined';

-- name: create_events_time
-- The times of each section of the log, for the search of a time. An entry per megabyte costs an append next to nothing. The
-- expression stands for the position, which events_position has for all other searches.
CREATE INDEX events_time ON events USING brin ((position + 0), recorded_at) WITH (autosummarize = on);

-- name: create_events_rare
-- The events of rare types, which readers of the log look for among many others. The frequent types are left out, so that
-- most appends write no entry.
CREATE INDEX events_rare ON events (type, position)
    WHERE type NOT IN ('StreamDelta', 'MessageAdded', 'TurnStarted', 'TurnCompleted', 'ConversationStarted');

-- name: create_events_agent_number
-- The starts of conversations with agents that limit them. Two that were decided on the same number of starts have the
-- same number, and only one of them is recorded.
CREATE UNIQUE INDEX events_agent_number
    ON events ((data ->> 'owner_id'), (data ->> 'agent_id'), ((data ->> 'agent_number')::integer))
    WHERE type = 'ConversationStarted' AND data ->> 'agent_number' IS NOT NULL;

-- name: create_event_digest
-- SHA-256 of an event: position, id, version and time in PostgreSQL's binary form, the hash of its content, the lengths
-- of the four texts of its envelope (-1 for NULL), and these texts. The hash of the content is SHA-256 of the salt and of
-- data as text. An erased event keeps that hash. One that has both hash and content has no digest, and so is never valid.
CREATE FUNCTION event_digest(
    "position" bigint, aggregate aggregate_kind, aggregate_id uuid, version integer, type text, data jsonb, actor text,
    request_id text, recorded_at timestamptz, salt bytea, content_hash bytea
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(
        int8send("position") || uuid_send(aggregate_id) || int4send(version) || timestamptz_send(recorded_at) || CASE
            WHEN content_hash IS NULL THEN sha256(salt || convert_to(data::text, 'UTF8'))
            WHEN salt IS NULL AND data = '{}' THEN content_hash
        END || int4send(octet_length(aggregate::text)) || int4send(octet_length(type)) || int4send(octet_length(actor)) ||
        int4send(coalesce(octet_length(request_id), -1)) ||
        convert_to(aggregate::text || type || actor || coalesce(request_id, ''), 'UTF8'))
$$;

-- name: create_refuse_change
-- Refuses UPDATE, DELETE and TRUNCATE.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- name: create_events_append_only
-- The database itself keeps the table append-only.
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- name: create_sealed_tree
-- One row: the Merkle tree over the digests of the first `size` events, as the roots of its perfect subtrees. `log_id`
-- names this log in checkpoints. The tree is derived from the log.
CREATE TABLE sealed_tree (
    only_row boolean PRIMARY KEY CHECK (only_row),
    log_id uuid NOT NULL,
    size bigint NOT NULL CHECK (size >= 0),
    subtrees bytea NOT NULL
);

-- name: first_sealed_tree
-- The tree starts empty.
INSERT INTO sealed_tree (only_row, log_id, size, subtrees) VALUES (true, gen_random_uuid(), 0, '');

-- name: create_tree_heads
-- One row per sealed tree head, keyed by the number of events that its tree covers.
CREATE TABLE tree_heads (
    size bigint PRIMARY KEY CHECK (size > 0),
    root bytea NOT NULL
);

-- name: comment_tree_heads
-- The grain of the table, shown by psql.
COMMENT ON TABLE tree_heads IS 'One row per sealed head of the Merkle tree (RFC 9162) whose leaves are the digests of events in order of position. Rows are never changed and never deleted.';

-- name: create_tree_heads_append_only
-- The database itself keeps the table append-only.
CREATE TRIGGER tree_heads_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tree_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- name: create_snapshots
-- One row per snapshot of an aggregate's state. It is derived from the log and can be emptied.
CREATE TABLE snapshots (
    aggregate_id uuid NOT NULL,
    version integer NOT NULL,
    aggregate aggregate_kind NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (aggregate_id, version)
);

-- name: create_images
-- One row per image, keyed by the SHA-256 of its bytes. Events of many messages may refer to one row.
CREATE TABLE images (
    sha256 bytea PRIMARY KEY,
    media_type text NOT NULL,
    data bytea STORAGE EXTERNAL NOT NULL,
    kept_at timestamptz NOT NULL
);

-- name: comment_images
-- The grain of the table, shown by psql.
COMMENT ON TABLE images IS 'One row per image, kept once however often it was sent: content blocks of events name it by the hex digits of sha256. kept_at is when it was sent first. data is not compressed, as images are already.';

-- name: create_leases
-- One row per turn that a process runs, keyed by the turn. An expired row means that the process has died.
CREATE TABLE leases (
    turn_id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

-- name: create_leases_expiry
-- Every process looks for expired leases every few seconds.
CREATE INDEX leases_expiry ON leases (expires_at);

-- name: create_projections
-- One row per build of a version of a projection: the position up to which it has read, the error that stopped it, and the
-- names of its tables without version and build. building: not readable yet. live: read by clients. kept: read before, for
-- a rollback. scratch: built for a comparison.
CREATE TABLE projections (
    name text NOT NULL,
    version integer NOT NULL,
    build integer NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'live' CHECK (state IN ('building', 'live', 'kept', 'scratch')),
    tables text[] NOT NULL DEFAULT '{}',
    position bigint NOT NULL,
    error text,
    error_position bigint,
    updated_at timestamptz NOT NULL,
    CONSTRAINT projections_pkey PRIMARY KEY (name, version, build)
);

-- name: create_projections_live
-- At most one build of a version is live.
CREATE UNIQUE INDEX projections_live ON projections (name, version) WHERE state = 'live';

-- name: create_rebuilds
-- One row per running build: its phase, the `target` position, the number of parts, and the parts left when it resumed.
CREATE TABLE rebuilds (
    name text NOT NULL,
    version integer NOT NULL,
    build integer NOT NULL,
    phase text NOT NULL CHECK (phase IN ('loading', 'indexing', 'following')),
    target bigint NOT NULL,
    parts integer NOT NULL,
    resumed_at timestamptz NOT NULL,
    resumed_parts integer NOT NULL,
    PRIMARY KEY (name, version, build)
);

-- name: create_rebuild_parts
-- One row per part of a build that is not loaded yet: the aggregates from `first_id` to `last_id`, both included.
CREATE TABLE rebuild_parts (
    name text NOT NULL,
    version integer NOT NULL,
    build integer NOT NULL,
    first_id uuid NOT NULL,
    last_id uuid NOT NULL,
    PRIMARY KEY (name, version, build, first_id)
);
