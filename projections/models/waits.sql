-- name: create_waits
-- One row per turn that waits for tool results until a deadline. Key: the turn. Fed by the suspension, resumption and end of
-- turns.
CREATE TABLE {waits} (
    turn_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    due_at timestamptz NOT NULL
)

-- name: index_waits_key
-- The key.
ALTER TABLE {waits} ADD PRIMARY KEY (turn_id)

-- name: index_waits_due
-- Every process looks for waits that end.
CREATE INDEX ON {waits} (due_at)

-- name: delete_waits
-- Delete the waits of turns.
DELETE FROM {waits} AS w
USING json_to_recordset(%(rows)s::json) AS d(turn_id uuid)
WHERE w.turn_id = d.turn_id

-- name: insert_waits
-- Add waits.
INSERT INTO {waits} (turn_id, conversation_id, due_at)
SELECT w.turn_id, w.conversation_id, w.due_at
FROM json_to_recordset(%(rows)s::json) AS w(turn_id uuid, conversation_id uuid, due_at timestamptz)

-- name: read_due
-- The waits that end by a time, the earliest first.
SELECT turn_id, conversation_id, due_at FROM {waits}
WHERE due_at <= %(until)s
ORDER BY due_at LIMIT %(limit)s
