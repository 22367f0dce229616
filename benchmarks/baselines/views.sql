-- name: fingerprint
-- How many rows a table has, and a sum over the hashes of its rows.
SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} AS t
