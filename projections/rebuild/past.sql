-- name: read_position_at
-- The position before the first event that was recorded after a time, the head where there is none; and whether the
-- time is later than the database's clock and the last event.
SELECT coalesce(min(position) - 1, %(head)s), %(time)s > now() AND count(*) = 0 FROM events WHERE recorded_at > %(time)s

-- name: schema_exists
-- A row if there is a schema of this name.
SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s

-- name: read_comment
-- The comment of a schema, NULL if it has none; no row if there is no such schema.
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %(schema)s

-- name: set_search_path
-- Make this schema the only one in the search path.
SELECT set_config('search_path', quote_ident(%(schema)s), false)
