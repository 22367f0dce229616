-- name: read_builds
-- The builds of one projection or (with NULL) of all projections, in all versions, oldest first.
SELECT name, version, build, state, position, error, error_position, updated_at, tables
FROM projections WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name, version, build

-- name: find_live
-- The live build of a version, and its position.
SELECT build, position FROM projections WHERE name = %(name)s AND version = %(version)s AND state = 'live'

-- name: register
-- Add a new build at the beginning of the log.
INSERT INTO projections (name, version, build, state, position, updated_at, tables)
VALUES (%(name)s, %(version)s, %(build)s, %(state)s, 0, %(updated_at)s, %(tables)s)

-- name: set_state
-- Change the state of a build, and forget its error.
UPDATE projections SET state = %(state)s, error = NULL, error_position = NULL, updated_at = %(updated_at)s
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: record_error
-- Note the error at which a build stopped.
UPDATE projections SET error = %(error)s, error_position = %(position)s, updated_at = %(updated_at)s
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: unregister
-- Remove a build whose tables were dropped.
DELETE FROM projections WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: forget_plan
-- Remove the loading plan of a build that is live or gone.
DELETE FROM rebuilds WHERE name = %(name)s AND version = %(version)s AND build = %(build)s

-- name: forget_parts
-- Remove the parts of a build that were not loaded.
DELETE FROM rebuild_parts WHERE name = %(name)s AND version = %(version)s AND build = %(build)s
