-- name: read_bytes_per_message
-- The bytes of the log, of all tables, and of the messages' text, each divided by the number of messages.
SELECT (pg_total_relation_size('events') / messages.number)::float8, (tables.bytes / messages.number)::float8,
    (messages.bytes / messages.number)::float8
FROM (
    SELECT count(DISTINCT e.position)::numeric AS number, sum(octet_length(block ->> 'text')) AS bytes
    FROM events AS e, jsonb_array_elements(e.data -> 'content') AS block
    WHERE e.type = 'MessageAdded'
) AS messages, (
    SELECT sum(pg_total_relation_size(oid)) AS bytes
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
) AS tables
