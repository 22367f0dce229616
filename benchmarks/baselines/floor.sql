-- name: create_schema
-- Schema of the tables without a domain, beside the log.
CREATE SCHEMA floor

-- name: create_batched
-- One row per message, with the columns, constraints and indexes of the log's events. The batched writer feeds it.
CREATE TABLE floor.batched (LIKE turnlog.events INCLUDING ALL)

-- name: create_bare
-- One row per message, with the same columns. One INSERT per message feeds it.
CREATE TABLE floor.bare (LIKE turnlog.events INCLUDING ALL)

-- name: create_head
-- One row: the position of the last row of `batched`.
CREATE TABLE floor.head (LIKE turnlog.head INCLUDING ALL)

-- name: first_head
-- Position 0: the table is empty.
INSERT INTO floor.head (only_row, position) VALUES (true, 0)

-- name: insert_batch
-- Number n rows and insert them in one step.
WITH next AS (
    UPDATE floor.head SET position = position + %s WHERE only_row RETURNING position - %s AS base
)
INSERT INTO floor.batched (position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at,
    digest, salt)
SELECT next.base + r.n, r.aggregate::turnlog.aggregate_kind, r.aggregate_id, r.version, r.type, r.data::jsonb, r.actor, r.request_id,
    r.recorded_at, r.digest, r.salt
FROM next, unnest(%b::text[], %b::uuid[], %b::integer[], %b::text[], %b::text[], %b::text[], %b::text[],
        %b::timestamptz[], %b::bytea[], %b::bytea[])
    WITH ORDINALITY AS r(aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, digest, salt, n)

-- name: insert_one
-- Insert one row at a given position.
INSERT INTO floor.bare (position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, digest,
    salt)
VALUES (%b, %b::text::turnlog.aggregate_kind, %b, %b, %b, %b::text::jsonb, %b, %b, %b, %b, %b)
