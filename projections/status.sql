-- name: read_recorded_at
-- When the event at a position was recorded.
SELECT recorded_at FROM events WHERE position = %(position)s

-- name: read_rebuild
-- The newest unfinished build of a version, how many of its parts are left, and whether a process works on it.
SELECT r.build, r.phase, p.position, r.target,
    (SELECT count(*) FROM rebuild_parts AS t
     WHERE (t.name, t.version, t.build) = (r.name, r.version, r.build))::integer,
    r.parts, r.resumed_at, r.resumed_parts,
    EXISTS (
        SELECT 1 FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%(lock)s, 0)
    )
FROM rebuilds AS r JOIN projections AS p ON (p.name, p.version, p.build) = (r.name, r.version, r.build)
WHERE r.name = %(name)s AND r.version = %(version)s AND p.state = 'building'
ORDER BY r.build DESC LIMIT 1
