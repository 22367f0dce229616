-- name: acquire
-- A process is about to run a turn, perhaps one that another process ran until it waited for tool results.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at)
VALUES (%(turn_id)s, %(conversation_id)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at

-- name: take_over
-- A process takes over a turn whose process is gone. Of several that try, one succeeds, even if its statement runs twice.
UPDATE leases SET holder = %(holder)s, expires_at = now() + make_interval(secs => %(seconds)s)
WHERE turn_id = %(turn_id)s AND (expires_at < now() OR holder = %(holder)s)
RETURNING conversation_id

-- name: claim
-- Take a lease over if `find_expired` would still find it. Of several processes that try, one gets a row.
UPDATE leases SET holder = %(holder)s, expires_at = now() + make_interval(secs => %(seconds)s)
WHERE turn_id = %(turn_id)s AND (expires_at < now() OR expires_at > now() + make_interval(secs => %(latest_s)s))
RETURNING turn_id

-- name: release
-- A process leaves a turn to other processes, which need not wait for the lease to expire.
UPDATE leases SET expires_at = '-infinity' WHERE turn_id = %(turn_id)s AND holder = %(holder)s

-- name: extend_for_client
-- The client that runs the model of this turn has sent something, so no process has to end the turn yet.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at)
VALUES (%(turn_id)s, %(conversation_id)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET expires_at = EXCLUDED.expires_at

-- name: delete
-- A process has ended these turns, or they never began.
DELETE FROM leases WHERE holder = %(holder)s AND turn_id = ANY(%(turn_ids)s)

-- name: renew
-- A process still runs these turns.
UPDATE leases SET expires_at = now() + make_interval(secs => %(seconds)s)
WHERE holder = %(holder)s AND turn_id = ANY(%(turn_ids)s)
RETURNING turn_id

-- name: find_expired
-- The expired leases except those of some turns: turn, conversation, when the lease expired (NULL for a released one),
-- and whether it expires later than any lease may. The UPDATE fails in a read-only database, where no lease can be
-- renewed and an expired one means nothing.
UPDATE leases SET holder = holder
WHERE (expires_at < now() OR expires_at > now() + make_interval(secs => %(latest_s)s))
    AND turn_id <> ALL(%(except_turn_ids)s::uuid[])
RETURNING turn_id, conversation_id, nullif(expires_at, '-infinity'), expires_at > now()
