-- name: read_head
-- The position of the last event.
SELECT position FROM head WHERE only_row

-- name: read_chunks
-- Events with chunks after a position, up to another.
SELECT position, data::text FROM events WHERE position > %s AND position <= %s AND type = 'StreamDelta'

-- name: count_commits
-- How many transactions recorded the events after a position, up to another.
SELECT count(DISTINCT xmin::text) FROM events WHERE position > %s AND position <= %s
