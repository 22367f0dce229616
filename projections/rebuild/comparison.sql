-- name: read_key
-- The columns of a table's primary key, in order.
SELECT a.attname FROM pg_index AS i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%(table)s) AND i.indisprimary ORDER BY k.n

-- name: count
-- Return the number of rows of the table that was built from the log.
SELECT count(*) FROM {built}

-- name: differing
-- The first keys of rows that are missing, unexpected or different in the live table, and the number of all of them.
SELECT count(*) OVER (), to_jsonb(k), CASE WHEN l IS NULL THEN 'missing' WHEN b IS NULL THEN 'unexpected' ELSE 'different' END
FROM {live} AS l FULL JOIN {built} AS b USING ({key})
CROSS JOIN LATERAL (SELECT {key}) AS k
WHERE l IS DISTINCT FROM b
ORDER BY k LIMIT 20
