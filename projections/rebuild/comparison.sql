-- name: read_key
-- The columns of a table's primary key, in order.
SELECT a.attname FROM pg_index AS i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%(table)s) AND i.indisprimary ORDER BY k.n

-- name: count
-- The number of rows of the true table.
SELECT count(*) FROM {truth}

-- name: differing
-- The first keys of rows that are missing, unexpected or different in the live table, and the number of all of them.
SELECT count(*) OVER (), to_jsonb(k), CASE WHEN l IS NULL THEN 'missing' WHEN t IS NULL THEN 'unexpected' ELSE 'different' END
FROM {live} AS l FULL JOIN {truth} AS t USING ({key})
CROSS JOIN LATERAL (SELECT {key}) AS k
WHERE l IS DISTINCT FROM t
ORDER BY k LIMIT 20
