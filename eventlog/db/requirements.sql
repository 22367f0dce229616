-- name: read_server
-- The properties that decide whether a database can hold a log. A standby is read-only, and so is a database
-- whose operator chose that.
SELECT current_database(), current_setting('server_version_num')::integer, current_setting('server_encoding'),
    current_setting('transaction_read_only')::boolean

-- name: has_table
-- Whether a schema has a table. pg_catalog shows it also to a role without rights on the schema.
SELECT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = %(schema)s AND relname = %(table)s
)
