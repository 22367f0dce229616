-- name: try_lock
-- Take a lock until the connection closes; false if another connection holds it.
SELECT pg_try_advisory_lock(hashtextextended(%(lock)s, 0))

-- name: wait_for_lock
-- Wait for a lock and hold it until the connection closes.
SELECT pg_advisory_lock(hashtextextended(%(lock)s, 0))

-- name: is_locked
-- Whether any connection holds a lock. Unlike an attempt to take it, this never blocks another attempt.
SELECT EXISTS (
    SELECT 1 FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%(lock)s, 0)
)

-- name: unlock_all
-- Release all advisory locks of this connection.
SELECT pg_advisory_unlock_all()
