-- name: read_position_at
-- The position before the first event that was recorded after a time, the head where there is none; and whether the
-- time is later than the database's clock and the last event.
SELECT coalesce(min(position) - 1, %(head)s), %(time)s > now() AND count(*) = 0 FROM events WHERE recorded_at > %(time)s

-- name: schema_exists
-- Whether there is a schema of this name.
SELECT 1 FROM pg_namespace WHERE nspname = %s

-- name: read_comment
-- What somebody has said of a schema; no row where there is none.
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s

-- name: write_to
-- New tables and views go to this schema, and statements see no other.
SELECT set_config('search_path', quote_ident(%s), false)
