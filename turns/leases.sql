-- name: take
-- A process is about to run a turn, perhaps one that another ran until it waited for tool results.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at)
VALUES (%s, %s, %s, now() + make_interval(secs => %s))
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at

-- name: take_over
-- A process takes over a turn whose process is gone. Of several that try, one does, however often it asks.
UPDATE leases SET holder = %s, expires_at = now() + make_interval(secs => %s)
WHERE turn_id = %s AND (expires_at < now() OR holder = %s)
RETURNING conversation_id

-- name: release
-- A process leaves a turn to others, which need not wait.
UPDATE leases SET expires_at = '-infinity' WHERE turn_id = %s AND holder = %s

-- name: lend
-- Nobody has to run this turn as long as its client is heard of.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at)
VALUES (%s, %s, %s, now() + make_interval(secs => %s))
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET expires_at = EXCLUDED.expires_at

-- name: give_up
-- A process has ended these turns, or they never began.
DELETE FROM leases WHERE holder = %s AND turn_id = ANY(%s)

-- name: renew
-- A process is still at work on these turns.
UPDATE leases SET expires_at = now() + make_interval(secs => %s) WHERE holder = %s AND turn_id = ANY(%s)
RETURNING turn_id

-- name: find_expired
-- Turns whose process is gone, but for some: when their leases expired (NULL for one that was released), and whether the
-- lease lasts longer than any may. It writes, so that nobody takes a database for one in which leases can be renewed.
UPDATE leases SET holder = holder
WHERE (expires_at < now() OR expires_at > now() + interval '70 seconds') AND turn_id <> ALL(%s::uuid[])
RETURNING turn_id, conversation_id, nullif(expires_at, '-infinity'), expires_at > now()

-- name: is_expired
-- Whether a lease is still one of those.
SELECT 1 FROM leases WHERE turn_id = %s AND (expires_at < now() OR expires_at > now() + interval '70 seconds')

-- name: remove_expired
-- The turn of an expired lease has ended in the log.
DELETE FROM leases WHERE turn_id = %s AND (expires_at < now() OR expires_at > now() + interval '70 seconds')
