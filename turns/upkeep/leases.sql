-- name: acquire
-- Insert the lease, or take it over from its holder.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at, owner_id)
VALUES (%(turn_id)s, %(conversation_id)s, %(holder)s, now() + make_interval(secs => %(seconds)s), %(owner_id)s)
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE
SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at, owner_id = EXCLUDED.owner_id

-- name: acquire_running
-- The same within the owner's limit of running turns. False: the limit is reached.
SELECT acquire_running(
    %(turn_id)s, %(conversation_id)s, %(holder)s, %(seconds)s::double precision,
    %(owner_id)s, %(at_most)s::integer, %(gone)s::uuid[]
)

-- name: delete_ended
-- Delete the leases of an owner whose turn has just ended in the log. The process that holds one may not know it yet, and
-- no process holds that of a turn whose client ran the model.
DELETE FROM leases WHERE owner_id = %(owner_id)s AND EXISTS (
    SELECT 1 FROM (
        SELECT type, data FROM events WHERE events.aggregate_id = leases.conversation_id
        ORDER BY version DESC LIMIT 100
    ) AS newest
    WHERE type = 'ConversationDeleted' OR (
        type IN ('TurnCompleted', 'TurnFailed', 'TurnCancelled') AND data ->> 'turn_id' = leases.turn_id::text
    )
)

-- name: take_over
-- Take an expired lease over, and return its conversation. Of several processes that try, one succeeds, even if its
-- statement runs twice.
UPDATE leases SET holder = %(holder)s, expires_at = now() + make_interval(secs => %(seconds)s)
WHERE turn_id = %(turn_id)s AND (expires_at < now() OR holder = %(holder)s)
RETURNING conversation_id

-- name: claim
-- Take a lease over if `find_expired` would still find it. Of several processes that try, one gets a row.
UPDATE leases SET holder = %(holder)s, expires_at = now() + make_interval(secs => %(seconds)s)
WHERE turn_id = %(turn_id)s AND (expires_at < now() OR expires_at > now() + make_interval(secs => %(latest_s)s))
RETURNING turn_id

-- name: release
-- Let the holder's lease expire at once.
UPDATE leases SET expires_at = '-infinity' WHERE turn_id = %(turn_id)s AND holder = %(holder)s

-- name: extend_for_client
-- Insert the lease, or move its expiry. Its holder stays.
INSERT INTO leases (turn_id, conversation_id, holder, expires_at)
VALUES (%(turn_id)s, %(conversation_id)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET expires_at = EXCLUDED.expires_at

-- name: delete
-- Delete the holder's leases of these turns.
DELETE FROM leases WHERE holder = %(holder)s AND turn_id = ANY(%(turn_ids)s)

-- name: renew
-- Move the expiry of the holder's leases of these turns. Return the turns that still have one.
UPDATE leases SET expires_at = now() + make_interval(secs => %(seconds)s)
WHERE holder = %(holder)s AND turn_id = ANY(%(turn_ids)s)
RETURNING turn_id

-- name: find_expired
-- Return the expired leases except those of some turns: turn, conversation, when the lease expired (NULL for a released
-- one), and whether it expires later than any lease may. The UPDATE fails in a read-only database, where no lease can
-- be renewed and an expired one means nothing.
UPDATE leases SET holder = holder
WHERE (expires_at < now() OR expires_at > now() + make_interval(secs => %(latest_s)s))
    AND turn_id <> ALL(%(except_turn_ids)s::uuid[])
RETURNING turn_id, conversation_id, nullif(expires_at, '-infinity'), expires_at > now()
