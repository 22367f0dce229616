-- name: append
-- Assign positions to the events of the JSON array `rows` and insert them, unless an event of `predecessors` is missing.
-- Return the position before the first, the number of inserted rows, and whether a predecessor was missing. The digest is
-- event_digest(), written out, as PostgreSQL does not inline the function (3 of 27 µs a row).
WITH missing AS MATERIALIZED (
    SELECT EXISTS (
        SELECT 1 FROM jsonb_to_recordset(%(predecessors)s::jsonb) AS p(aggregate_id uuid, version integer)
        WHERE NOT EXISTS (
            SELECT 1 FROM events AS e WHERE e.aggregate_id = p.aggregate_id AND e.version = p.version
        )
    ) AS lost
), next AS (
    UPDATE head SET position = position + jsonb_array_length(%(rows)s::jsonb)
    WHERE only_row AND NOT (SELECT lost FROM missing)
    RETURNING position - jsonb_array_length(%(rows)s::jsonb) AS base
), inserted AS (
    INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, digest,
        salt, idempotency_owner, idempotency_key, fingerprint)
    SELECT next.base + e.n, e.aggregate, e.aggregate_id, e.version, e.type, e.data, e.actor, e.request_id, e.recorded_at,
        sha256(
            int8send(next.base + e.n) || uuid_send(e.aggregate_id) || int4send(e.version) ||
            timestamptz_send(e.recorded_at) || sha256(e.salt || convert_to(e.data::text, 'UTF8')) ||
            int4send(octet_length(e.aggregate::text)) || int4send(octet_length(e.type)) ||
            int4send(octet_length(e.actor)) || int4send(coalesce(octet_length(e.request_id), -1)) ||
            convert_to(e.aggregate::text || e.type || e.actor || coalesce(e.request_id, ''), 'UTF8')),
        e.salt, e.idempotency_owner, e.idempotency_key, e.fingerprint
    FROM next, ROWS FROM (
        jsonb_to_recordset(%(rows)s::jsonb) AS (aggregate aggregate_kind, aggregate_id uuid, version integer, type text,
            data jsonb, actor text, request_id text, recorded_at timestamptz, salt bytea, idempotency_owner text,
            idempotency_key text, fingerprint bytea)
    ) WITH ORDINALITY AS e(aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, salt,
        idempotency_owner, idempotency_key, fingerprint, n)
    RETURNING 1
)
SELECT (SELECT base FROM next), (SELECT count(*) FROM inserted), (SELECT lost FROM missing)

-- name: read_head
-- The position of the last event, 0 for an empty log.
SELECT position FROM head WHERE only_row

-- name: read_end
-- The position of the last event, and the time: the clock's, or that of the last event if it is later.
SELECT h.position, greatest(clock_timestamp(), (SELECT e.recorded_at FROM events AS e WHERE e.position = h.position))
FROM head AS h WHERE h.only_row

-- name: find_position_near
-- The position of an event that was recorded at or before a time, near the last such event; 0 if bisection finds none.
WITH RECURSIVE bisection(low, high) AS (
    SELECT 0::bigint, position FROM head WHERE only_row
    UNION ALL
    SELECT CASE WHEN e.early THEN m.middle ELSE s.low END, CASE WHEN e.early THEN s.high ELSE m.middle - 1 END
    FROM bisection AS s
    CROSS JOIN LATERAL (SELECT (s.low + s.high + 1) / 2 AS middle) AS m
    CROSS JOIN LATERAL (SELECT recorded_at <= %(time)s AS early FROM events WHERE position = m.middle LIMIT 1) AS e
    WHERE s.low < s.high
)
SELECT coalesce(max(low), 0) FROM bisection WHERE low = high

-- name: find_first_position
-- The position of the first event in log order that was recorded after a time, or the one after the end. It is looked for up
-- to the position of an event that was recorded at or before the time.
SELECT coalesce(min(position + 0), %(near)s::bigint + 1) FROM events
WHERE position + 0 <= %(near)s::bigint AND recorded_at > %(time)s

-- name: find_last_position
-- The position of the last event in log order that was recorded at or before a time. It is looked for from the position of
-- one such event on, or with 0 from the beginning.
SELECT coalesce(max(position + 0), %(near)s::bigint) FROM events
WHERE position + 0 > %(near)s::bigint AND recorded_at <= %(time)s

-- name: read_newest
-- The last event up to a position of each of some aggregates.
SELECT e.* FROM unnest(%(aggregate_ids)s::uuid[]) AS a(id)
CROSS JOIN LATERAL (
    SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
    FROM events WHERE aggregate_id = a.id AND position <= %(upto)s ORDER BY version DESC LIMIT 1
) AS e

-- name: read_agents
-- The last event of each of some agents up to a position, and when the agent was defined first since it was deleted before.
-- The versions of an aggregate have no gaps, so that definition follows the deletion.
SELECT e.*, (
    SELECT f.recorded_at FROM events AS f
    WHERE f.aggregate_id = e.aggregate_id AND f.version = 1 + coalesce((
        SELECT max(d.version) FROM events AS d
        WHERE d.aggregate_id = e.aggregate_id AND d.version < e.version AND d.type = 'AgentDeleted'
    ), 0)
)
FROM unnest(%(agent_ids)s::uuid[]) AS a(id)
CROSS JOIN LATERAL (
    SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
    FROM events
    WHERE aggregate_id = a.id AND position <= %(upto)s
    ORDER BY version DESC LIMIT 1
) AS e

-- name: read_agent_number
-- The number of an owner's last start with an agent that limits them, NULL without one.
SELECT max((data ->> 'agent_number')::integer) FROM events
WHERE type = 'ConversationStarted' AND data ->> 'agent_number' IS NOT NULL
    AND data ->> 'owner_id' = %(owner_id)s AND data ->> 'agent_id' = %(agent_id)s

-- name: read_conversation
-- Events of one aggregate from one version to another, in order.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND version >= %(first)s AND version <= %(last)s
ORDER BY version
LIMIT %(limit)s

-- name: read_conversation_backwards
-- Events of one aggregate from one version to another, newest first.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND version >= %(first)s AND version <= %(last)s
ORDER BY version DESC
LIMIT %(limit)s

-- name: read_versions
-- Some events of one aggregate by their versions, in order.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND version = ANY(%(versions)s)
ORDER BY version

-- name: read_state_events
-- The events that change a conversation's state after a version: all but the deltas, which only change its version. Other
-- aggregates have none.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND aggregate = 'conversation' AND version > %(after)s
    AND type <> 'StreamDelta'
ORDER BY version

-- name: read_last_version
-- The version of the newest event of an aggregate, NULL if it has none.
SELECT max(version) FROM events WHERE aggregate_id = %(aggregate_id)s

-- name: find_owned
-- A row if a conversation is an owner's, or (with false) if its first event has an older shape. The index alone tells that
-- it is another owner's, so none of its events is read, which would take longer than a missing conversation.
SELECT true FROM events
WHERE data ->> 'owner_id' = %(owner_id)s AND aggregate_id = %(conversation_id)s AND type = 'ConversationStarted'
UNION ALL
SELECT false FROM events
WHERE data ->> 'owner_id' IS NULL AND aggregate_id = %(conversation_id)s AND type = 'ConversationStarted'

-- name: find_snapshots
-- Those of some conversations that have a snapshot.
SELECT DISTINCT aggregate_id FROM snapshots WHERE aggregate_id = ANY(%(conversation_ids)s)

-- name: read_last_versions
-- The version of the newest event of each of some conversations.
SELECT aggregate_id, max(version) FROM events WHERE aggregate_id = ANY(%(conversation_ids)s) AND aggregate = 'conversation'
GROUP BY aggregate_id

-- name: read_events_of_states
-- The events that change the states of some conversations, in the order of each conversation.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = ANY(%(conversation_ids)s) AND aggregate = 'conversation' AND type <> 'StreamDelta'
ORDER BY aggregate_id, version

-- name: read_turn_end
-- The position of the event that ended a turn, at or after a version.
SELECT position FROM events
WHERE aggregate_id = %(conversation_id)s AND version >= %(first)s AND data ->> 'turn_id' = %(turn_id)s
    AND type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled')
ORDER BY version LIMIT 1

-- name: read_after
-- The next events of the log after a position, in order: at least one, and at most so many bytes.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM (
    SELECT *, sum(pg_column_size(data)) OVER (ORDER BY position) AS size
    FROM events
    WHERE position > %(after)s AND position <= %(upto)s
) AS sized
WHERE size <= %(bytes)s OR position = %(next)s
ORDER BY position

-- name: read_notifications
-- Events from one position to another, of some types or (with an empty list) of all, for the eventsourcing library.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE position >= %(first)s AND position <= %(last)s AND (%(types)s::text[] = '{}' OR type = ANY(%(types)s))
ORDER BY position
LIMIT %(limit)s

-- name: read_section
-- Stored events of conversations in a section of the log, in order, with owner and agent of their conversations: at least
-- one, at most so many bytes, and whether events were left out. With the LIMIT PostgreSQL looks up the start of each
-- conversation by its key and never reads all starts.
SELECT e.position, e.aggregate::text, e.aggregate_id, e.version, e.type, e.data::text, e.actor, e.request_id, e.recorded_at,
    e.digest, s.owner_id, s.agent_id, e.size < e.whole
FROM (
    SELECT *, sum(pg_column_size(data)) OVER (ORDER BY position) AS size, sum(pg_column_size(data)) OVER () AS whole,
        row_number() OVER (ORDER BY position) AS n
    FROM events
    WHERE position > %(after)s AND position <= %(upto)s AND aggregate = 'conversation'
) AS e
CROSS JOIN LATERAL (
    SELECT data ->> 'owner_id' AS owner_id, data ->> 'agent_id' AS agent_id FROM events
    WHERE aggregate_id = e.aggregate_id AND version = 1 LIMIT 1
) AS s
WHERE e.size <= %(bytes)s OR e.n = 1
ORDER BY e.position

-- name: read_feed
-- Stored events in a section of the log of one owner's conversations, of one conversation, agent or type, or (with NULL)
-- of all: at least one, at most so many bytes, and whether events were left out.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at, digest, size < whole
FROM (
    SELECT e.*, sum(pg_column_size(e.data)) OVER (ORDER BY e.position) AS size,
        sum(pg_column_size(e.data)) OVER () AS whole, row_number() OVER (ORDER BY e.position) AS n
    FROM events AS e
    WHERE e.position > %(after)s AND e.position <= %(upto)s AND e.aggregate = 'conversation'
        AND (%(conversation_id)s::uuid IS NULL OR e.aggregate_id = %(conversation_id)s)
        AND (%(type)s::text IS NULL OR e.type = %(type)s)
        AND EXISTS (
            SELECT 1 FROM events AS s
            WHERE s.aggregate_id = e.aggregate_id AND s.version = 1
                AND (%(owner_id)s::text IS NULL OR s.data ->> 'owner_id' = %(owner_id)s)
                AND (%(agent_id)s::text IS NULL OR s.data ->> 'agent_id' = %(agent_id)s)
        )
) AS sized
WHERE size <= %(bytes)s OR n = 1
ORDER BY position

-- name: read_conversation_feed
-- Stored events of one conversation after a version and a position, in order: at least one, at most so many events and so
-- many bytes.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at, digest
FROM (
    SELECT *, sum(pg_column_size(data)) OVER (ORDER BY version) AS size, row_number() OVER (ORDER BY version) AS n
    FROM (
        SELECT * FROM events
        WHERE aggregate_id = %(conversation_id)s AND version > %(after_version)s AND position > %(after)s
        ORDER BY version
        LIMIT %(limit)s
    ) AS next
) AS sized
WHERE size <= %(bytes)s OR n = 1
ORDER BY version

-- name: find_message
-- The version that added a message, unless it was deleted later, and whether it was superseded later.
SELECT m.version, EXISTS (
    SELECT 1 FROM events AS s
    WHERE s.aggregate_id = m.aggregate_id AND s.type = 'MessagesSuperseded' AND s.version > m.version
        AND (s.data ->> 'from_version')::integer <= m.version
)
FROM events AS m
WHERE m.aggregate_id = %(conversation_id)s AND m.data ->> 'message_id' = %(message_id)s AND m.type = 'MessageAdded'
    AND NOT EXISTS (
        SELECT 1 FROM events AS d
        WHERE d.aggregate_id = m.aggregate_id AND d.data ->> 'message_id' = m.data ->> 'message_id'
            AND d.type = 'MessageDeleted'
    )

-- name: find_start
-- The start of the last turn between two versions that answered a message.
SELECT position, aggregate::text, aggregate_id, version, type, data::text, actor, request_id, recorded_at
FROM events
WHERE aggregate_id = %(conversation_id)s AND version > %(after)s AND version < %(before)s AND type = 'TurnStarted'
    AND data ->> 'user_message_id' = %(user_message_id)s
ORDER BY version DESC LIMIT 1

-- name: count_messages
-- The number of messages from a version on, without those deleted or superseded later.
SELECT count(*) FROM (
    SELECT aggregate_id, version, type, data ->> 'message_id' AS message_id,
        min((data ->> 'from_version')::integer) FILTER (WHERE type = 'MessagesSuperseded')
            OVER (ORDER BY version DESC) AS superseded_from
    FROM events
    WHERE aggregate_id = %(conversation_id)s AND version >= %(first)s
        AND type IN ('MessageAdded', 'MessagesSuperseded')
) AS m
WHERE m.type = 'MessageAdded' AND coalesce(m.superseded_from > m.version, true)
    AND NOT EXISTS (
        SELECT 1 FROM events AS d
        WHERE d.aggregate_id = m.aggregate_id AND d.data ->> 'message_id' = m.message_id
            AND d.type = 'MessageDeleted'
    )

-- name: find_idempotent
-- The first event of the command that used an owner's idempotency key.
SELECT aggregate_id, version, position, fingerprint FROM events
WHERE idempotency_owner = %(owner_id)s AND idempotency_key = %(key)s

-- name: read_snapshots
-- Snapshots of one aggregate between two versions, newest first.
SELECT aggregate::text, aggregate_id, version, type, data::text FROM snapshots
WHERE aggregate_id = %(conversation_id)s AND version > %(after)s AND version <= %(last)s
ORDER BY version DESC
LIMIT %(limit)s

-- name: write_snapshot
-- Store a snapshot, unless it is stored already.
INSERT INTO snapshots (aggregate, aggregate_id, version, type, data)
VALUES (%(aggregate)s::text::aggregate_kind, %(conversation_id)s, %(version)s, %(type)s, %(data)s::jsonb)
ON CONFLICT ON CONSTRAINT snapshots_pkey DO NOTHING

-- name: notify
-- Send a notification on each channel of a JSON object, with the channel's payload.
SELECT pg_notify(n.channel, n.payload) FROM json_each_text(%(payloads)s::json) AS n(channel, payload)
