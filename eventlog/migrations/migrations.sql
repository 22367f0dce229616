-- name: create_migrations
-- The migrations that were applied. One row per file. Key: its number.
CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL)

-- name: lock
-- Wait for the lock of a schema's migrations and hold it until the connection closes.
SELECT pg_advisory_lock(hashtextextended(%(lock)s, 0))

-- name: find_schema
-- One row if the schema exists.
SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s

-- name: add_migration
-- Note that a migration was applied.
INSERT INTO migrations (number, name) VALUES (%(number)s, %(name)s)
