-- name: move_positions
-- Move builds that read the same batch, each only from the expected position and state.
UPDATE projections AS p
SET position = %(position)s, error = NULL, error_position = NULL, updated_at = %(updated_at)s
FROM json_to_recordset(%(builds)s::json) AS m(name text, version integer, build integer)
WHERE p.name = m.name AND p.version = m.version AND p.build = m.build
    AND p.position = %(before)s AND p.state = %(state)s
RETURNING 1

-- name: require_moved
-- Fail with a division by zero unless the expected number of builds moved. The failure undoes the whole statement.
SELECT 1 / (count(*) = %(expected)s)::integer FROM moved

-- name: force_index_plans
-- Turn off the plans that read whole tables, for the rest of the session.
SELECT set_config(name, 'off', false) FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin']) AS name
