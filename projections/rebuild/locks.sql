-- name: limit_lock_wait
-- Give up a lock quickly, because readers queue behind a transaction that waits for one.
SET LOCAL lock_timeout = '200ms'

-- name: lock_live
-- Lock the live builds of a projection in all its versions. Their positions do not move until the transaction ends.
SELECT version, build FROM projections WHERE name = %(name)s AND state = 'live' ORDER BY version, build FOR UPDATE
