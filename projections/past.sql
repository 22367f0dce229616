-- name: read_position_at
-- The position before the first event that was recorded after a time; the head, given first, where there is none.
SELECT coalesce(min(position) - 1, %s) FROM events WHERE recorded_at > %s

-- name: schema_exists
-- Whether there is a schema of this name.
SELECT 1 FROM pg_namespace WHERE nspname = %s

-- name: read_comment
-- What somebody has said of a schema; no row where there is none.
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s

-- name: write_to
-- New tables and views go to this schema, and statements see no other.
SELECT set_config('search_path', quote_ident(%s), false)
