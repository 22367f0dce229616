-- name: create_head
-- One row for the whole log: the position of its last event. The lock on this row makes commit order equal position order.
CREATE TABLE head (
    only_row boolean PRIMARY KEY CHECK (only_row),
    position bigint NOT NULL CHECK (position >= 0)
);

-- name: first_head
-- The log starts empty. Its first event takes position 1.
INSERT INTO head (only_row, position) VALUES (true, 0);

-- name: create_events
-- One row per event, keyed by its version in its conversation. Rows are never changed and never deleted.
CREATE TABLE events (
    position bigint NOT NULL,
    conversation_id uuid NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    type text NOT NULL,
    data jsonb NOT NULL,
    actor text NOT NULL,
    request_id text,
    recorded_at timestamptz NOT NULL,
    digest bytea NOT NULL,
    idempotency_owner text,
    idempotency_key text,
    fingerprint bytea,
    CONSTRAINT events_pkey PRIMARY KEY (conversation_id, version)
);

-- name: comment_events
-- The grain of the table, shown by psql.
COMMENT ON TABLE events IS 'One row per event of a conversation, in log order by position (1, 2, 3 … without a gap). digest is SHA-256 over the event as event_digest() reads it.';

-- name: create_events_position
-- The order of the log, which projections and feeds follow.
CREATE UNIQUE INDEX events_position ON events (position);

-- name: create_events_idempotency
-- An owner can use a key only once. Only the first event of a command has it.
CREATE UNIQUE INDEX events_idempotency ON events (idempotency_owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- name: create_events_message
-- The events that add or delete a message, so that commands find a message without reading the conversation.
CREATE INDEX events_message ON events (conversation_id, (data ->> 'message_id'))
    WHERE type IN ('MessageAdded', 'MessageDeleted');

-- name: create_event_digest
-- SHA-256 of an event: id, version and time in PostgreSQL's binary form, then each other field on its own line.
CREATE FUNCTION event_digest(
    conversation_id uuid, version integer, type text, data jsonb, actor text, request_id text, recorded_at timestamptz
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(uuid_send(conversation_id) || int4send(version) || timestamptz_send(recorded_at) || convert_to(
        type || E'\n' || actor || E'\n' || coalesce(request_id, '') || E'\n' || data::text, 'UTF8'))
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

-- name: create_snapshots
-- One row per snapshot of a conversation's state. It is derived from the log and can be emptied.
CREATE TABLE snapshots (
    conversation_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (conversation_id, version)
);

-- name: create_projections
-- One row per version of a projection: the position up to which it has read, and the error that stopped it.
CREATE TABLE projections (
    name text NOT NULL,
    version integer NOT NULL,
    position bigint NOT NULL,
    error text,
    error_position bigint,
    updated_at timestamptz NOT NULL,
    CONSTRAINT projections_pkey PRIMARY KEY (name, version)
);
