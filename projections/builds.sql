-- name: read_builds
-- Every build of every version of every projection, how far it has come, and what stopped it.
SELECT name, version, build, state, position, error, error_position, updated_at, tables
FROM projections ORDER BY name, version, build

-- name: find_live
-- The build of a version that is read, and how far it has come.
SELECT build, position FROM projections WHERE name = %s AND version = %s AND state = 'live'

-- name: lock_live
-- What is read of a projection, in any version; it moves no further until the transaction ends.
SELECT name, version, build, state, position, error, error_position, updated_at, tables
FROM projections WHERE name = %s AND state = 'live' ORDER BY version, build FOR UPDATE

-- name: limit_lock_wait
-- Nobody who reads is to wait for long because this transaction waits for a lock.
SET LOCAL lock_timeout = '200ms'

-- name: register
-- A new build, at the beginning of the log.
INSERT INTO projections (name, version, build, state, position, updated_at, tables) VALUES (%s, %s, %s, %s, 0, %s, %s)

-- name: set_state
-- What a build is from now on.
UPDATE projections SET state = %s, error = NULL, error_position = NULL, updated_at = %s WHERE name = %s AND version = %s AND build = %s

-- name: unregister
-- A build whose tables are gone.
DELETE FROM projections WHERE name = %s AND version = %s AND build = %s

-- name: plan
-- A build is to be loaded with the log up to a target, in so many parts.
INSERT INTO rebuilds (name, version, build, phase, target, parts, resumed_at, resumed_parts)
VALUES (%s, %s, %s, 'loading', %s, %s, %s, %s)

-- name: plan_parts
-- The parts of a build that are to be loaded.
INSERT INTO rebuild_parts (name, version, build, first_id, last_id)
SELECT %s, %s, %s, t.first_id, t.last_id FROM unnest(%b::uuid[], %b::uuid[]) AS t(first_id, last_id)

-- name: read_plan
-- In which phase a build is, up to where it is to be loaded, and in how many parts.
SELECT phase, target, parts FROM rebuilds WHERE name = %s AND version = %s AND build = %s

-- name: read_parts
-- The parts that a build still needs.
SELECT first_id, last_id FROM rebuild_parts WHERE name = %s AND version = %s AND build = %s ORDER BY first_id

-- name: resume
-- Loading goes on from here; rates count from now.
UPDATE rebuilds SET resumed_at = %s, resumed_parts = %s WHERE name = %s AND version = %s AND build = %s

-- name: set_indexing
-- A build has all its rows.
UPDATE rebuilds SET phase = 'indexing' WHERE name = %s AND version = %s AND build = %s AND phase = 'loading'

-- name: forget_plan
-- A build is no longer under way.
DELETE FROM rebuilds WHERE name = %s AND version = %s AND build = %s

-- name: forget_parts
-- Nothing of a build is to be loaded any more.
DELETE FROM rebuild_parts WHERE name = %s AND version = %s AND build = %s

-- name: sample_ids
-- The conversations of events at some positions, in order, each once.
SELECT DISTINCT conversation_id FROM events WHERE position = ANY(%s) ORDER BY conversation_id

-- name: move_positions
-- Builds that read the same batch move together, each from where it was and while it is what it is believed to be.
UPDATE projections AS p
SET position = %s, error = NULL, error_position = NULL, updated_at = %s
FROM json_to_recordset(%s::json) AS m(name text, version integer, build integer)
WHERE p.name = m.name AND p.version = m.version AND p.build = m.build AND p.position = %s AND p.state = %s
RETURNING 1

-- name: all_moved
-- Fails by a division by zero, and undoes everything with it, unless so many builds moved.
SELECT 1 / (count(*) = %s)::integer FROM moved

-- name: record_error
-- A build stopped at an event.
UPDATE projections SET error = %s, error_position = %s, updated_at = %s WHERE name = %s AND version = %s AND build = %s

-- name: try_lock
-- Whether this connection holds a lock from now on, until it closes.
SELECT pg_try_advisory_lock(hashtextextended(%s, 0))

-- name: is_locked
-- Whether any connection holds a lock; unlike an attempt to take it, this is never in the way of another that does.
SELECT EXISTS (
    SELECT 1 FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%s, 0)
)

-- name: unlock
-- This connection gives up all locks that it holds until it closes.
SELECT pg_advisory_unlock_all()

-- name: read_head
-- The position of the log's last event.
SELECT position FROM head WHERE only_row

-- name: view_exists
-- Whether a table or view of this name is there.
SELECT to_regclass(%s) IS NOT NULL

-- name: read_columns
-- The columns of a table or view and their types, in order.
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum

-- name: read_key
-- The columns of a table's primary key, in order.
SELECT a.attname FROM pg_index AS i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%s) AND i.indisprimary ORDER BY k.n

-- name: compare_count
-- How many rows there should be.
SELECT count(*) FROM {truth}

-- name: compare_differing
-- The first keys of rows that the build that is read lacks, has too many or has otherwise than the true one; and how many.
SELECT count(*) OVER (), to_jsonb(k), CASE WHEN l IS NULL THEN 'missing' WHEN t IS NULL THEN 'unexpected' ELSE 'different' END
FROM {live} AS l FULL JOIN {truth} AS t USING ({key})
CROSS JOIN LATERAL (SELECT {key}) AS k
WHERE l IS DISTINCT FROM t
ORDER BY k LIMIT 20
