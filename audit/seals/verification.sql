-- name: read_bounds
-- The position of the head, and the first positions before and after the log (NULL if there are none).
SELECT h.position, (SELECT min(e.position) FROM events AS e WHERE e.position < 1),
    (SELECT min(e.position) FROM events AS e WHERE e.position > h.position)
FROM head AS h WHERE h.only_row

-- name: check_section
-- Of the events after one position and up to another: their number, the number of their positions, their digests in order
-- as one value, the first position whose digest does not match, and the number of erased events. The digest is
-- event_digest(), written out, as that function is part of what is checked. Functions get exactly the types that they are
-- declared with, or are named with their schema. So PostgreSQL takes its own, and none that were added to the log's schema.
SELECT count(*), pg_catalog.count(DISTINCT position),
    coalesce(string_agg(digest, ''::bytea ORDER BY position), ''::bytea), min(position) FILTER (
        WHERE digest IS DISTINCT FROM sha256(
            int8send(position) || uuid_send(aggregate_id) || int4send(version) || timestamptz_send(recorded_at) || CASE
                WHEN content_hash IS NULL THEN sha256(salt || convert_to(data::text, 'UTF8'::name))
                WHEN salt IS NULL AND data = '{}' THEN content_hash
            END || int4send(octet_length(aggregate::text)) || int4send(octet_length(type)) ||
            int4send(octet_length(actor)) || int4send(coalesce(octet_length(request_id), -1)) ||
            convert_to(aggregate::text || type || actor || coalesce(request_id, ''), 'UTF8'::name))
    ), count(*) FILTER (WHERE content_hash IS NOT NULL)
FROM events WHERE position > %(after)s AND position <= %(upto)s

-- name: find_misnumbered
-- The first position of a section that not exactly one event has, and how many have it.
SELECT p.position, pg_catalog.count(e.position) FROM generate_series(%(after)s::bigint + 1, %(upto)s::bigint) AS p(position)
LEFT JOIN events AS e ON e.position = p.position
GROUP BY p.position HAVING pg_catalog.count(e.position) <> 1 ORDER BY p.position LIMIT 1
