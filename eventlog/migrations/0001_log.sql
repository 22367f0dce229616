-- name: create_head
-- One row for the whole log: the position of its last event. Its row lock makes commit order equal position order.
CREATE TABLE head (
    only_row boolean PRIMARY KEY CHECK (only_row),
    position bigint NOT NULL CHECK (position >= 0)
);

-- name: first_head
-- The log starts empty; its first event takes position 1.
INSERT INTO head (only_row, position) VALUES (true, 0);

-- name: create_events
-- One row per event, keyed by its place in its conversation; never changed, never removed.
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
    idempotency_key text,
    fingerprint bytea,
    CONSTRAINT events_pkey PRIMARY KEY (conversation_id, version)
);

-- name: comment_events
-- The grain of the table, for whoever opens it in psql.
COMMENT ON TABLE events IS 'One row per event of a conversation, in log order by position (1, 2, 3 … without a gap). digest is SHA-256 over the event as event_digest() reads it.';

-- name: create_events_position
-- The log order: what projections and feeds follow.
CREATE UNIQUE INDEX events_position ON events (position);

-- name: create_events_idempotency
-- One owner uses a key once, for ever; only the first event of a command carries it.
CREATE UNIQUE INDEX events_idempotency ON events (actor, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- name: create_events_message
-- Where a message was added or deleted: commands that name a message find it without reading the conversation.
CREATE INDEX events_message ON events (conversation_id, (data ->> 'message_id'))
    WHERE type IN ('MessageAdded', 'MessageDeleted');

-- name: create_event_digest
-- SHA-256 over an event: id, version and moment in PostgreSQL's binary form, then each other field on its own line.
CREATE FUNCTION event_digest(
    conversation_id uuid, version integer, type text, data jsonb, actor text, request_id text, recorded_at timestamptz
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(uuid_send(conversation_id) || int4send(version) || timestamptz_send(recorded_at) || convert_to(
        type || E'\n' || actor || E'\n' || coalesce(request_id, '') || E'\n' || data::text, 'UTF8'))
$$;

-- name: create_refuse_change
-- What the log answers to UPDATE, DELETE and TRUNCATE.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- name: create_events_append_only
-- The database itself holds the promise.
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- name: create_snapshots
-- One row per snapshot of a conversation's state; derived from the log, and safe to empty.
CREATE TABLE snapshots (
    conversation_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (conversation_id, version)
);

-- name: create_projections
-- One row per version of a projection: how far it has read, and what stopped it, if anything did.
CREATE TABLE projections (
    name text NOT NULL,
    version integer NOT NULL,
    position bigint NOT NULL,
    error text,
    error_position bigint,
    updated_at timestamptz NOT NULL,
    CONSTRAINT projections_pkey PRIMARY KEY (name, version)
);
