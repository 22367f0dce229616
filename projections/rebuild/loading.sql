-- name: take_part
-- Remove a part from those that a build still lacks.
DELETE FROM rebuild_parts
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s AND first_id = %(first_id)s

-- name: set_following
-- Note that a build has its rows and indexes, unless that was noted before.
UPDATE rebuilds SET phase = 'following'
WHERE name = %(name)s AND version = %(version)s AND build = %(build)s AND phase <> 'following'

-- name: set_position
-- Set the position of a build that was loaded.
UPDATE projections SET position = %(target)s WHERE name = %(name)s AND version = %(version)s AND build = %(build)s
