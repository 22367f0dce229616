-- name: schema_exists
-- A row if there is a schema of this name.
SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s

-- name: read_comment
-- The comment of a schema, NULL if it has none; no row if there is no such schema.
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %(schema)s

-- name: set_search_path
-- Make this schema the only one in the search path.
SELECT set_config('search_path', quote_ident(%(schema)s), false)
