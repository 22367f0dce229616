-- name: read_server
-- What decides whether a database can hold a log. A standby is read-only, and so is one whose operator says so.
SELECT current_database(), current_setting('server_version_num')::integer, current_setting('server_encoding'),
    current_setting('transaction_read_only')::boolean

-- name: has_table
-- Whether a schema has a table; pg_catalog says so also to a role without rights on the schema.
SELECT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s AND relname = %s
)
