-- name: relation_exists
-- Whether there is a table or view of this name.
SELECT to_regclass(%(name)s) IS NOT NULL

-- name: read_columns
-- The columns of a table or view and their types, in order.
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
