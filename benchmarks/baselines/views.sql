-- name: fingerprint
-- A table's number of rows, and the sum of the hashes of its rows.
SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} AS t
