-- name: columns
-- Tables and views of a schema, with their columns.
SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default
FROM information_schema.columns c WHERE c.table_schema = %s ORDER BY c.table_name, c.ordinal_position

-- name: indexes
-- Indexes of a schema.
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY indexname

-- name: constraints
-- Constraints of a schema.
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = %s::regnamespace ORDER BY conrelid::regclass::text, conname

-- name: triggers
-- Triggers of a schema.
SELECT t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal ORDER BY t.tgname

-- name: functions
-- Functions of a schema.
SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY proname

-- name: outside
-- Relations, functions, types, schemas and extensions outside some schemas, without those of PostgreSQL.
SELECT o.kind, o.name FROM (
    SELECT 'relation' AS kind, relname::text AS name, relnamespace AS space FROM pg_class
    UNION ALL SELECT 'function', proname, pronamespace FROM pg_proc
    UNION ALL SELECT 'type', typname, typnamespace FROM pg_type
    UNION ALL SELECT 'schema', nspname, oid FROM pg_namespace
    UNION ALL SELECT 'extension', extname, extnamespace FROM pg_extension
) AS o JOIN pg_namespace n ON n.oid = o.space
WHERE n.nspname <> ALL(%s) AND n.nspname NOT LIKE 'pg\_%%' AND n.nspname <> 'information_schema'
ORDER BY o.kind, o.name
