-- name: jsonl
-- The lines of events. `data` is the last key, so that its exact text can be cut out. A line has no control character.
COPY (SELECT concat(
    '{"position":', e.position, ',"recorded_at":', to_json(e.recorded_at), ',"aggregate":"', e.aggregate,
    '","aggregate_id":"', e.aggregate_id, '","version":', e.version, ',"type":', to_json(e.type),
    ',"actor":', to_json(e.actor), ',"request_id":', coalesce(to_json(e.request_id)::text, 'null'),
    ',"salt":"' || encode(e.salt, 'hex') || '"', ',"content_hash":"' || encode(e.content_hash, 'hex') || '"',
    ',"digest":"', encode(e.digest, 'hex'), '"',
    ',"idempotency_owner":' || to_json(e.idempotency_owner)::text,
    ',"idempotency_key":' || to_json(e.idempotency_key)::text,
    ',"fingerprint":"' || encode(e.fingerprint, 'hex') || '"',
    ',"data":', e.data, '}')
FROM events AS e

-- name: parquet
-- The columns of events, in the order of the columns of a Parquet file. The time is in microseconds since 1970.
COPY (SELECT e.position, (extract(epoch FROM e.recorded_at) * 1000000)::bigint, e.aggregate, e.aggregate_id, e.version,
    e.type, e.actor, e.request_id, e.data, encode(e.salt, 'hex'), encode(e.content_hash, 'hex'),
    encode(e.digest, 'hex'), e.idempotency_owner, e.idempotency_key, encode(e.fingerprint, 'hex')
FROM events AS e

-- name: images
-- The images that events refer to.
SELECT DISTINCT decode(r.sha256 #>> '{}', 'hex')
FROM events AS e CROSS JOIN LATERAL jsonb_path_query(
    e.data, '$.content[*] ? (@.type == "image").sha256 ? (@ like_regex "^[0-9a-f]{64}$")') AS r(sha256)

-- name: wanted
-- Those of a section of the log that a filter selects. NULL selects all. The first event of an aggregate names its owner.
WHERE e.position > %(after)s AND e.position <= %(upto)s
    AND (%(conversation_id)s::uuid IS NULL OR e.aggregate_id = %(conversation_id)s)
    AND (%(type)s::text IS NULL OR e.type = %(type)s)
    AND (%(owner_id)s::text IS NULL OR e.aggregate IN ('conversation', 'agent') AND (
        SELECT s.data ->> 'owner_id' FROM events AS s WHERE s.aggregate_id = e.aggregate_id AND s.version = 1
    ) = %(owner_id)s)

-- name: copied
-- In order of position, as CSV. JSON holds neither the delimiter nor the quote, so PostgreSQL escapes nothing.
ORDER BY e.position) TO STDOUT (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')
