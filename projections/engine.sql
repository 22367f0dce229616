-- name: find_version
-- How far a version of a projection has come, and what stopped it.
SELECT position, error, error_position FROM projections WHERE name = %s AND version = %s

-- name: register_version
-- A new version of a projection starts at the beginning of the log.
INSERT INTO projections (name, version, position, updated_at) VALUES (%s, %s, 0, %s)

-- name: read_positions
-- Every version of every projection, how far it has come, and what stopped it.
SELECT name, version, position, error, error_position, updated_at FROM projections ORDER BY name, version

-- name: move_positions
-- Projections that read the same batch move together, each from where it was.
UPDATE projections AS p
SET position = %s, error = NULL, error_position = NULL, updated_at = %s
FROM unnest(%b::text[], %b::integer[]) AS m(name, version)
WHERE p.name = m.name AND p.version = m.version AND p.position = %s
RETURNING 1

-- name: all_moved
-- Fails by a division by zero, and undoes everything with it, unless so many projections moved.
SELECT 1 / (count(*) = %s)::integer FROM moved

-- name: record_error
-- A projection stopped at an event.
UPDATE projections SET error = %s, error_position = %s, updated_at = %s WHERE name = %s AND version = %s

-- name: try_lead
-- Whether this connection leads a projection from now on, until it closes.
SELECT pg_try_advisory_lock(hashtextextended(%s, 0))
