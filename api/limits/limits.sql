-- name: take_requests
-- Requests that a process may let pass: the owner's minute, how many, and the seconds until the minute is over.
SELECT minute, taken, left_s
FROM take_requests(%(owner_id)s, %(holder)s, %(minute)s, %(used)s::integer, %(at_most)s::integer)

-- name: give_back
-- A process has not used all that it took. Each row is set to what was used, so a second run changes nothing.
UPDATE request_allowances SET granted = given.used
FROM unnest(%(owner_ids)s::text[], %(minutes)s::timestamptz[], %(used)s::integer[]) AS given (owner_id, minute, used)
WHERE holder = %(holder)s AND request_allowances.owner_id = given.owner_id AND begins_at = given.minute

-- name: delete_old_allowances
-- Minutes that are long over, of owners who are away or processes that have ended.
DELETE FROM request_allowances WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM request_allowances
    WHERE begins_at NOT BETWEEN now() - interval '10 minutes' AND now() + interval '10 minutes'
    FOR UPDATE SKIP LOCKED
))

-- name: open_stream
-- Whether an owner may have one more stream, which is recorded then.
SELECT open_stream(%(stream_id)s, %(owner_id)s, %(holder)s, %(seconds)s::double precision, %(at_most)s::integer)

-- name: renew_streams
-- A process still sends these streams. A row that is missing is restored, as after a crash of PostgreSQL.
INSERT INTO open_streams (stream_id, owner_id, holder, expires_at)
SELECT stream_id, owner_id, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s)
FROM unnest(%(stream_ids)s::uuid[], %(owner_ids)s::text[]) AS held (stream_id, owner_id)
ON CONFLICT (stream_id) DO UPDATE SET expires_at = EXCLUDED.expires_at

-- name: close_all_streams
-- A process stops, after its last stream has ended.
DELETE FROM open_streams WHERE holder = %(holder)s

-- name: close_stream
-- A stream has ended.
DELETE FROM open_streams WHERE stream_id = %(stream_id)s
