-- name: sample_ids
-- The distinct aggregate ids of events at some positions, in order.
SELECT DISTINCT aggregate_id FROM events WHERE position = ANY(%(positions)s) ORDER BY aggregate_id

-- name: write_plan
-- Plan to load a build with the log up to a target, in a number of parts.
INSERT INTO rebuilds (name, version, build, phase, target, parts, resumed_at, resumed_parts)
VALUES (%(name)s, %(version)s, %(build)s, 'loading', %(target)s, %(parts)s, %(resumed_at)s, %(parts)s)

-- name: write_parts
-- Add the parts of a build that are to be loaded.
INSERT INTO rebuild_parts (name, version, build, first_id, last_id)
SELECT %(name)s, %(version)s, %(build)s, t.first_id, t.last_id
FROM unnest(%(first_ids)b::uuid[], %(last_ids)b::uuid[]) AS t(first_id, last_id)

-- name: read_plan
-- The phase of a build, its target, and its number of parts.
SELECT phase, target, parts FROM rebuilds WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: read_parts
-- The parts of a build that are not loaded yet.
SELECT first_id, last_id FROM rebuild_parts
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s ORDER BY first_id

-- name: resume
-- Note when loading was resumed and how many parts were left. The rate counts from here.
UPDATE rebuilds SET resumed_at = %(resumed_at)s, resumed_parts = %(parts)s
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: set_indexing
-- Note that a build has all its rows.
UPDATE rebuilds SET phase = 'indexing'
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s AND phase = 'loading'
